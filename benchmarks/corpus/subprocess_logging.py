"""A preparing script in another process that imports MLflow too, without a run of its own.

reads: DATA/cancer.parquet
writes: WORK/clean.parquet
"""

import os
import subprocess
import sys

import mlflow
import pandas as pd

PREPARE = """
import sys
import mlflow
import pandas
frame = pandas.read_parquet(sys.argv[1])
frame[frame.target == 1].to_parquet("clean.parquet")
"""
with mlflow.start_run():
    source = os.path.join(os.environ["DATA"], "cancer.parquet")
    subprocess.run([sys.executable, "-c", PREPARE, source], check=True)
    mlflow.log_metric("rows", len(pd.read_parquet("clean.parquet")))
