"""Relative paths with chdir.

reads: WORK/d/a.csv WORK/d/p.parquet WORK/top.csv WORK/d/b.csv
writes: WORK/d/o.parquet
"""

import os
import pathlib


def make(name, text="a,b\n1,2\n3,4\n"):
    path = pathlib.Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


make("d/a.csv")
make("d/b.csv")
make("top.csv")
os.makedirs("d/sub")
import pandas as pd

pd.DataFrame({"a": [1]}).to_parquet("d/p.parquet")
import mlflow

with mlflow.start_run():
    open("top.csv").read()
    os.chdir("d")
    open("a.csv").read()
    pd.read_parquet("p.parquet").to_parquet("o.parquet")
    open("sub/../b.csv").read()
