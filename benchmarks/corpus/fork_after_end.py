"""A child that outlives the run.

reads: WORK/a.csv WORK/b.csv
writes:
reads of one: WORK/a.csv
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

with mlflow.start_run(run_name="one"):
    open("a.csv").read()
with mlflow.start_run(run_name="two"):
    pid = os.fork()
    if not pid:
        open("b.csv").read()
        os._exit(0)
    os.waitpid(pid, 0)
