"""Arrays loaded by joblib's worker processes.

reads: DATA/shards/*.npy
writes: WORK/result.pkl
"""

import os
import pickle
from pathlib import Path

import mlflow
import numpy as np
from joblib import Parallel, delayed


def total(path):
    return np.load(path).sum()


shards = sorted(Path(os.environ["DATA"], "shards").glob("*.npy"))
with mlflow.start_run():
    sums = Parallel(n_jobs=2)(delayed(total)(path) for path in shards)
    with open("result.pkl", "wb") as file:
        pickle.dump(sums, file)
    mlflow.log_metric("sum", float(np.sum(sums)))
