"""Dask on CSV and parquet, in threads.

needs: dask
reads: DATA/pieces/*.csv DATA/cancer.parquet
writes: WORK/out/*.parquet
"""

import os

import dask.dataframe as dd
import mlflow

data = os.environ["DATA"]
with mlflow.start_run():
    pieces = dd.read_csv(f"{data}/pieces/*.csv")
    whole = dd.read_parquet(f"{data}/cancer.parquet")
    pieces.to_parquet("out", write_metadata_file=False)
    mlflow.log_metric("rows", len(pieces) + len(whole))
