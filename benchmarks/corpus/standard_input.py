"""Standard input is a file.

reads: WORK/a.csv
writes:
"""

import pathlib


def make(name, text="a,b\n1,2\n3,4\n"):
    path = pathlib.Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


make("a.csv")
import sys
import subprocess

if len(sys.argv) < 2:
    with open("a.csv") as f:
        raise SystemExit(subprocess.run([sys.executable, __file__, "x"], stdin=f).returncode)
import mlflow
import pandas as pd

with mlflow.start_run():
    pd.read_csv(sys.stdin)
