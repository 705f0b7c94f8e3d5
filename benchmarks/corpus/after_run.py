"""Read after the last run: nothing owns it.

reads: WORK/a.csv
writes:
"""

import pathlib


def make(name, text="a,b\n1,2\n3,4\n"):
    path = pathlib.Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


make("a.csv")
make("b.csv")
import mlflow

with mlflow.start_run():
    open("a.csv").read()
open("b.csv").read()
open("late.csv", "w").write("x")
