"""Processes that start runs of their own.

reads: DATA/pieces/0.csv DATA/pieces/1.csv
writes: WORK/o0.csv WORK/o1.csv
reads of p0: DATA/pieces/0.csv
reads of p1: DATA/pieces/1.csv
"""

import os

import mlflow
import pandas as pd
import multiprocessing as mp


def work(i):
    with mlflow.start_run(run_name=f"p{i}"):
        pd.read_csv(f"{os.environ['DATA']}/pieces/{i}.csv").to_csv(f"o{i}.csv")


if __name__ == "__main__":
    mlflow.set_experiment(os.environ["MLFLOW_EXPERIMENT_NAME"])
    with mp.get_context("spawn").Pool(2) as pool:
        pool.map(work, range(2), chunksize=1)
