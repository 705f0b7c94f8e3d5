"""A pool of spawned processes, each reading with pandas and writing with pyarrow.

reads: DATA/pieces/*.csv
writes: WORK/piece-*.parquet
"""

import multiprocessing
import os
from pathlib import Path

import mlflow
import pandas as pd


def convert(path):
    frame = pd.read_csv(path)
    frame.to_parquet(f"piece-{path.stem}.parquet")
    return len(frame)


if __name__ == "__main__":
    pieces = sorted(Path(os.environ["DATA"], "pieces").glob("*.csv"))
    with mlflow.start_run():
        with multiprocessing.get_context("spawn").Pool(2) as pool:
            mlflow.log_metric("rows", sum(pool.map(convert, pieces)))
