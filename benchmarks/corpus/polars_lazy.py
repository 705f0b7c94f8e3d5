"""Lazy scans over a glob and a file, sunk to parquet.

needs: polars
reads: DATA/parts/part=*/rows.parquet DATA/cancer.jsonl DATA/cancer.arrow
writes: WORK/lazy.parquet WORK/mean.ndjson
"""

import os
from pathlib import Path

import mlflow
import polars as pl

data = Path(os.environ["DATA"])
with mlflow.start_run():
    parts = pl.scan_parquet(str(data / "parts" / "*" / "*.parquet"), hive_partitioning=False)
    parts.filter(pl.col("target") == 1).sink_parquet("lazy.parquet")
    lines = pl.scan_ndjson(data / "cancer.jsonl")
    arrow = pl.scan_ipc(data / "cancer.arrow")
    mean = pl.concat([lines.mean(), arrow.mean()], how="vertical_relaxed").collect()
    mean.write_ndjson("mean.ndjson")
