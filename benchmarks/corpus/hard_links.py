"""Hard links and symlinks as results.

reads: WORK/a.csv
writes: WORK/o.csv
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
    open("tmp", "w").write(open("a.csv").read())
    os.link("tmp", "o.csv")
    os.unlink("tmp")
