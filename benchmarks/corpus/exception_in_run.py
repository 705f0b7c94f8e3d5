"""An exception in a run.

reads: WORK/a.csv
writes: WORK/half.csv
"""

import pathlib


def make(name, text="a,b\n1,2\n3,4\n"):
    path = pathlib.Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


make("a.csv")
import mlflow
import pandas as pd

try:
    with mlflow.start_run():
        pd.read_csv("a.csv").to_csv("half.csv")
        raise ValueError("x")
except ValueError:
    pass
