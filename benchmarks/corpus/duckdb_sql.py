"""SQL straight over files, in and out.

needs: duckdb
reads: DATA/cancer.parquet DATA/cancer.csv DATA/cancer.jsonl
writes: WORK/joined.parquet WORK/counts.csv
"""

import os

import duckdb
import mlflow

data = os.environ["DATA"]
with mlflow.start_run():
    counts = duckdb.sql(f"SELECT target, count(*) AS n FROM '{data}/cancer.parquet' GROUP BY 1")
    counts.write_csv("counts.csv")
    duckdb.execute(
        f"""
        COPY (
            SELECT * FROM read_csv_auto('{data}/cancer.csv')
            UNION ALL BY NAME
            SELECT * FROM read_json('{data}/cancer.jsonl')  -- the second hospital's
        ) TO 'joined.parquet' (FORMAT parquet)
        """
    )
    mlflow.log_metric("rows", duckdb.sql("SELECT count(*) FROM 'joined.parquet'").fetchall()[0][0])
