"""A forked child reads and writes.

reads: WORK/a.csv WORK/b.csv
writes: WORK/child.csv
"""

import os
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
    pid = os.fork()
    if not pid:
        with open("child.csv", "w") as f:
            f.write(open("b.csv").read())
        os._exit(0)
    os.waitpid(pid, 0)
