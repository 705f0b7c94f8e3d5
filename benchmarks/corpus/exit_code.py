"""A run that the end of the process ends, with an exit code.

reads: WORK/a.csv
writes:
code: 1
"""

import pathlib


def make(name, text="a,b\n1,2\n3,4\n"):
    path = pathlib.Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


make("a.csv")
import mlflow
import pandas as pd

mlflow.start_run()
pd.read_csv("a.csv")
raise SystemExit(1)
