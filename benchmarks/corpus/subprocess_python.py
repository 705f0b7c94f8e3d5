"""A preparing script of its own, in another process that knows nothing of MLflow.

reads: DATA/cancer.csv
writes: WORK/clean.csv
"""

import os
import subprocess
import sys

import mlflow
import pandas as pd

PREPARE = """
import sys
import pandas
frame = pandas.read_csv(sys.argv[1])
frame[frame.target == 1].to_csv("clean.csv", index=False)
"""
with mlflow.start_run():
    source = os.path.join(os.environ["DATA"], "cancer.csv")
    subprocess.run([sys.executable, "-c", PREPARE, source], check=True)
    mlflow.log_metric("rows", len(pd.read_csv("clean.csv")))
