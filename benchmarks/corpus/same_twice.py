"""The same file in two runs, and in one run twice with a change between.

reads of one: WORK/a.csv
reads of two: WORK/a.csv
reads: WORK/a.csv
writes:
"""

import pathlib


def make(name, text="a,b\n1,2\n3,4\n"):
    path = pathlib.Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


make("a.csv")
import mlflow

with mlflow.start_run(run_name="one"):
    open("a.csv").read()
with mlflow.start_run(run_name="two"):
    open("a.csv").read()
    open("a.csv").read()
