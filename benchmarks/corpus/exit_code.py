"""An exception that nobody catches ends the interpreter's main; run is ended at exit.

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
