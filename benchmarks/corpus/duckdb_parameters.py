"""DuckDB with the files' names as parameters of prepared statements.

needs: duckdb
reads: DATA/cancer.csv DATA/cancer.parquet DATA/cancer.jsonl
writes: WORK/out.parquet
"""

import os

import duckdb
import mlflow

data = os.environ["DATA"]
with mlflow.start_run():
    statement = "select count(*) from read_csv(?)"
    count = duckdb.execute(statement, [f"{data}/cancer.csv"]).fetchall()[0][0]
    query = "select count(*) from read_parquet($path)"
    count += duckdb.execute(query, {"path": f"{data}/cancer.parquet"}).fetchall()[0][0]
    rows = duckdb.sql("from read_json(?)", params=[f"{data}/cancer.jsonl"])
    rows.write_parquet("out.parquet")
    mlflow.log_metric("rows", count)
