"""concurrent.futures with forked processes, pickled frames.

reads: DATA/shards/*.npy
writes: WORK/shard-*.csv
"""

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import mlflow
import numpy as np


def convert(path):
    np.savetxt(f"shard-{path.stem}.csv", np.load(path)[:3], delimiter=",")


if __name__ == "__main__":
    shards = sorted(Path(os.environ["DATA"], "shards").glob("*.npy"))
    context = multiprocessing.get_context("fork")
    with mlflow.start_run(), ProcessPoolExecutor(2, mp_context=context) as pool:
        list(pool.map(convert, shards))
