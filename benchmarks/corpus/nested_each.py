"""Nested runs, each with its file.

reads: WORK/a.csv WORK/b0.csv WORK/b1.csv
writes: WORK/o0.csv WORK/o1.csv
reads of child0: WORK/a.csv WORK/b0.csv
reads of child1: WORK/a.csv WORK/b1.csv
reads of parent: WORK/a.csv WORK/b0.csv WORK/b1.csv
writes of child0: WORK/o0.csv
writes of child1: WORK/o1.csv
"""

import pathlib


def make(name, text="a,b\n1,2\n3,4\n"):
    path = pathlib.Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


make("a.csv")
make("b0.csv")
make("b1.csv")
import mlflow
import pandas as pd

with mlflow.start_run(run_name="parent"):
    pd.read_csv("a.csv")
    for i in range(2):
        with mlflow.start_run(run_name=f"child{i}", nested=True):
            pd.read_csv(f"b{i}.csv").to_csv(f"o{i}.csv")
