"""A generator that opens in one run and is read on in another.

reads of one: WORK/a.csv
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


def lines():
    with open("a.csv") as f:
        yield from f


with mlflow.start_run(run_name="one"):
    g = lines()
    next(g)
with mlflow.start_run(run_name="two"):
    print(list(g))
