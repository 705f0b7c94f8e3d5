"""Metrics logged asynchronously and system metrics sampled while files are read.

needs: psutil
reads: DATA/cancer.npz DATA/cancer.tsv
writes: WORK/out.csv
"""

import os

import mlflow
import numpy as np
import pandas as pd

data = os.environ["DATA"]
mlflow.config.enable_async_logging()
mlflow.set_system_metrics_sampling_interval(1)
with mlflow.start_run(log_system_metrics=True):
    x = np.load(f"{data}/cancer.npz")["x"]
    for step, row in enumerate(x[:20]):
        mlflow.log_metric("mean", float(row.mean()), step=step)
    pd.read_table(f"{data}/cancer.tsv").describe().to_csv("out.csv")
