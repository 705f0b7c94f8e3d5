"""Appending, editing in place, truncating.

reads: WORK/edit.txt
writes: WORK/log.txt WORK/edit.txt WORK/new.txt
"""

import pathlib


def make(name, text="a,b\n1,2\n3,4\n"):
    path = pathlib.Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


make("log.txt")
make("edit.txt")
make("cut.txt")
import mlflow

with mlflow.start_run():
    open("log.txt", "a").write("x")
    with open("edit.txt", "r+") as f:
        t = f.read()
        f.seek(0)
        f.write(t.upper())
    open("new.txt", "x").write("n")
