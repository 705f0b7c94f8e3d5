"""Artifacts of another run, fetched and read.

reads of second: WORK/down/a.csv
reads: DATA/cancer.csv WORK/down/a.csv
writes: WORK/a.csv
"""

import os

import mlflow
import pandas as pd

with mlflow.start_run(run_name="first") as r:
    pd.read_csv(os.environ["DATA"] + "/cancer.csv").to_csv("a.csv")
    mlflow.log_artifact("a.csv")
with mlflow.start_run(run_name="second"):
    os.makedirs("down")
    p = mlflow.artifacts.download_artifacts(f"runs:/{r.info.run_id}/a.csv", dst_path="down")
    pd.read_csv(p)
