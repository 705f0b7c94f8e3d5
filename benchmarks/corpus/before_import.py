"""Read before mlflow is imported.

reads: WORK/a.csv
writes:
blind: what was read before import mlflow
"""

import pathlib


def make(name, text="a,b\n1,2\n3,4\n"):
    path = pathlib.Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


make("a.csv")
import pandas as pd

f = pd.read_csv("a.csv")
import mlflow

with mlflow.start_run():
    mlflow.log_metric("n", len(f))
