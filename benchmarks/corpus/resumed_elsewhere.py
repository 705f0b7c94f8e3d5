"""MLFLOW_RUN_ID and a resumed run in another process.

reads: WORK/a.csv WORK/b.csv
writes: WORK/o.csv
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
import subprocess
import sys

with mlflow.start_run() as r:
    open("a.csv").read()
subprocess.run(
    [
        sys.executable,
        "-c",
        "import mlflow\nwith mlflow.start_run(): open('o.csv', 'w').write(open('b.csv').read())",
    ],
    env={**os.environ, "MLFLOW_RUN_ID": r.info.run_id},
    check=True,
)
