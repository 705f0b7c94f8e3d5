"""pyarrow.

reads: WORK/a.csv WORK/x.parquet WORK/y.parquet WORK/f.feather WORK/s.arrows WORK/j.json
writes: WORK/o.csv WORK/ds/*/* WORK/o.feather WORK/s2.arrow
"""

import pathlib


def make(name, text="a,b\n1,2\n3,4\n"):
    path = pathlib.Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


make("a.csv")
make("j.json", '{"a": 1}\n')
import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.csv as pc
import pyarrow.feather as pf
import pyarrow.json as pj

t = pa.table({"a": [1, 2]})
pq.write_table(t, "x.parquet")
pq.write_table(t, "y.parquet")
pf.write_feather(t, "f.feather")
with pa.OSFile("s.arrows", "wb") as s, pa.ipc.new_stream(s, t.schema) as w:
    w.write_table(t)
import mlflow

with mlflow.start_run():
    with pc.open_csv("a.csv") as r:
        r.read_all()
    pq.read_metadata("x.parquet")
    pq.ParquetFile("y.parquet").read()
    pf.read_table("f.feather")
    pj.read_json("j.json")
    with open("s.arrows", "rb") as s:
        pa.ipc.open_stream(s).read_all()
    pc.write_csv(t, "o.csv")
    pq.write_to_dataset(t.append_column("k", pa.array([1, 2])), "ds", partition_cols=["k"])
    pf.write_feather(t, "o.feather")
    with pa.ipc.new_file("s2.arrow", t.schema) as w:
        w.write_table(t)
