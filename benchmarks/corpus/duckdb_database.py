"""A database file of DuckDB, fed from a glob of parquet files.

needs: duckdb
reads: DATA/parts/part=*/rows.parquet DATA/cancer.duckdb DATA/cancer.csv
writes: WORK/work.duckdb WORK/train.parquet
"""

import os

import duckdb
import mlflow

data = os.environ["DATA"]
with mlflow.start_run():
    connection = duckdb.connect("work.duckdb")
    connection.execute(
        f"CREATE TABLE parts AS SELECT * FROM read_parquet('{data}/parts/*/*.parquet')"
    )
    connection.execute(f"ATTACH '{data}/cancer.duckdb' AS other (READ_ONLY)")
    connection.sql("SELECT * FROM other.cancer").write_parquet("train.parquet")
    extra = connection.read_csv(f"{data}/cancer.csv").df()
    connection.close()
    mlflow.log_metric("rows", len(extra))
