"""A file that is replaced while it is read.

reads: WORK/a.csv WORK/new.csv
writes: WORK/a.csv
"""

import os
import pathlib


def make(name, text="a,b\n1,2\n3,4\n"):
    path = pathlib.Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


make("a.csv")
make("new.csv", "z\n9\n")
import mlflow
import shutil

with mlflow.start_run():
    with open("a.csv") as f:
        f.readline()
        shutil.copy("new.csv", "tmp.csv")
        os.replace("tmp.csv", "a.csv")
        f.read()
