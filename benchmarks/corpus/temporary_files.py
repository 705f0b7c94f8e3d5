"""Temporary files, and one that gets its final name in the end.

reads: WORK/a.csv
writes: WORK/final.csv
"""

import os
import pathlib


def make(name, text="a,b\n1,2\n3,4\n"):
    path = pathlib.Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


make("a.csv")
import mlflow
import tempfile
import pandas as pd

with mlflow.start_run():
    with tempfile.NamedTemporaryFile(suffix=".csv") as t, tempfile.TemporaryDirectory() as d:
        f = pd.read_csv("a.csv")
        f.to_csv(t.name)
        pd.read_csv(t.name)
        f.to_parquet(d + "/x.parquet")
        pd.read_parquet(d + "/x.parquet")
    fd, name = tempfile.mkstemp(dir=".")
    os.write(fd, b"x")
    os.close(fd)
    os.replace(name, "final.csv")
