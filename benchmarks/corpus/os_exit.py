"""os._exit in a run.

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
import pandas as pd

mlflow.start_run()
pd.read_csv("a.csv")
os._exit(0)
