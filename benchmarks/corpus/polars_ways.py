"""polars.

reads: WORK/a.csv WORK/b.csv WORK/d/*/x.parquet WORK/g/*.csv WORK/n.ndjson WORK/i.arrow
writes: WORK/o.csv WORK/o.parquet WORK/lazy.parquet WORK/o.ndjson WORK/o.arrow
"""

import os
import pathlib


def make(name, text="a,b\n1,2\n3,4\n"):
    path = pathlib.Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


make("a.csv")
make("b.csv")
make("g/1.csv")
make("g/2.csv")
make("n.ndjson", '{"a": 1}\n')
import polars as pl

for k in range(2):
    os.makedirs(f"d/k={k}")
    pl.DataFrame({"a": [1]}).write_parquet(f"d/k={k}/x.parquet")
pl.DataFrame({"a": [1]}).write_ipc("i.arrow")
import mlflow
import io

with mlflow.start_run():
    f = pl.read_csv("a.csv")
    pl.read_csv(open("b.csv", "rb"))
    pl.scan_parquet("d", hive_partitioning=True).collect()
    pl.read_csv("g/*.csv")
    pl.scan_ndjson("n.ndjson").collect()
    pl.read_ipc("i.arrow")
    pl.read_csv(io.BytesIO(b"a\n1"))
    f.write_csv("o.csv")
    f.write_parquet("o.parquet")
    f.lazy().sink_parquet("lazy.parquet")
    f.write_ndjson("o.ndjson")
    f.write_ipc("o.arrow")
