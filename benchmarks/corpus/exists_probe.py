"""Probing for files that do not exist.

reads: WORK/a.csv
writes:
"""

import os
import pathlib


def make(name, text="a,b\n1,2\n3,4\n"):
    path = pathlib.Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


make("a.csv")
import mlflow

with mlflow.start_run():
    for n in ("missing.csv", "a.csv"):
        try:
            open(n).read()
        except FileNotFoundError:
            pass
    os.path.exists("b.csv")
    os.stat("a.csv")
    os.listdir(".")
