"""Symlinked file and folder.

reads: WORK/link.csv WORK/linked/x.csv
writes: WORK/linked/out.csv
"""

import os
import pathlib


def make(name, text="a,b\n1,2\n3,4\n"):
    path = pathlib.Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


make("real/x.csv")
os.symlink("real/x.csv", "link.csv")
os.symlink("real", "linked")
import mlflow
import pandas as pd

with mlflow.start_run():
    pd.read_csv("link.csv")
    pd.read_csv("linked/x.csv").to_csv("linked/out.csv")
