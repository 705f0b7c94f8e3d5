"""Polars on several files, patterns and streams.

needs: polars
reads: DATA/pieces/*.csv DATA/cancer.jsonl DATA/cancer.feather DATA/parts/part=*/rows.parquet DATA/cancer.csv
writes: WORK/all.parquet WORK/lines.jsonl WORK/frame.arrow
"""

import os

import mlflow
import polars as pl

data = os.environ["DATA"]
with mlflow.start_run():
    pieces = pl.scan_csv(f"{data}/pieces/*.csv").collect()
    lines = pl.scan_ndjson(f"{data}/cancer.jsonl").collect()
    feather = pl.read_ipc(f"{data}/cancer.feather")
    parts = pl.read_parquet(f"{data}/parts/**/*.parquet", hive_partitioning=False)
    with open(f"{data}/cancer.csv", "rb") as file:
        opened = pl.read_csv(file)
    pieces.lazy().sink_parquet("all.parquet")
    lines.write_ndjson("lines.jsonl")
    feather.write_ipc("frame.arrow")
    mlflow.log_metric("rows", len(parts) + len(opened))
