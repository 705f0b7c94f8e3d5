"""A data set of 300 files, by three libraries.

reads: WORK/ds/*/*.parquet
writes:
"""

import os

import pandas as pd

for i in range(300):
    os.makedirs(f"ds/k={i % 3}", exist_ok=True)
    pd.DataFrame({"a": [i]}).to_parquet(f"ds/k={i % 3}/{i}.parquet")
import mlflow
import polars as pl
import duckdb

with mlflow.start_run(run_name="pd"):
    print(len(pd.read_parquet("ds")))
with mlflow.start_run(run_name="pl"):
    print(pl.scan_parquet("ds/**/*.parquet").collect().height)
with mlflow.start_run(run_name="dd"):
    print(duckdb.sql("select count(*) from 'ds/*/*.parquet'").fetchall())
