"""Features made by polars, read and written at once.

needs: polars
reads: DATA/cancer.csv DATA/cancer.parquet
writes: WORK/features.parquet WORK/summary.csv
"""

import os

import mlflow
import polars as pl

folder = os.environ["DATA"]
with mlflow.start_run():
    left = pl.read_csv(folder + "/cancer.csv")
    right = pl.read_parquet(folder + "/cancer.parquet")
    both = pl.concat([left, right], how="vertical_relaxed")
    both.write_parquet("features.parquet")
    both.describe().write_csv("summary.csv")
