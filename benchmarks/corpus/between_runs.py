"""Two runs; what happens between them prepares the second.

reads: DATA/cancer.csv DATA/cancer.npy
writes: WORK/first.csv WORK/between.npy
"""

import os

import mlflow
import numpy as np
import pandas as pd

data = os.environ["DATA"]
with mlflow.start_run(run_name="first"):
    pd.read_csv(f"{data}/cancer.csv").head().to_csv("first.csv")
array = np.load(f"{data}/cancer.npy")
np.save("between.npy", array[:10])
with mlflow.start_run(run_name="second"):
    mlflow.log_metric("rows", len(array))
