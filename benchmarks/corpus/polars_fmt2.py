"""polars: csv batched, collect_all, read_csv of list, partitioned sink, schema.

reads: WORK/a.csv WORK/b.csv WORK/x.parquet
writes: WORK/part/*/*
"""

import pathlib


def make(name, text="a,b\n1,2\n3,4\n"):
    path = pathlib.Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


make("a.csv")
make("b.csv")
import polars as pl

pl.DataFrame({"a": [1, 2]}).write_parquet("x.parquet")
import mlflow

with mlflow.start_run():
    pl.collect_all([pl.scan_csv("a.csv"), pl.scan_csv(["b.csv"])])
    pl.read_parquet_schema("x.parquet")
    f = pl.read_parquet("x.parquet")
    f.write_parquet("part", partition_by="a")
