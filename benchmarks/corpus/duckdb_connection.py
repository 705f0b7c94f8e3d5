"""DuckDB through a connection: statements, frames, and files in each way.

needs: duckdb
reads: DATA/cancer.csv DATA/cancer.parquet DATA/parts/part=*/rows.parquet DATA/cancer.duckdb
writes: WORK/out.csv WORK/parts.parquet WORK/local.duckdb
"""

import os

import duckdb
import mlflow
import pandas as pd

data = os.environ["DATA"]
labels = pd.DataFrame({"target": [0, 1], "label": ["malignant", "benign"]})
with mlflow.start_run():
    with duckdb.connect("local.duckdb") as connection:
        connection.execute(f"create table cancer as from read_csv_auto('{data}/cancer.csv')")
        connection.execute(f"insert into cancer by name from '{data}/cancer.parquet'")
        connection.executemany("insert into cancer (target) values (?)", [[0], [1]])
        connection.execute("copy (from cancer join labels using (target)) to 'out.csv' (header)")
    memory = duckdb.connect()
    parts = memory.execute(f"select * from read_parquet('{data}/parts/*/*.parquet')").df()
    memory.execute("copy (select * from parts) to 'parts.parquet'")
    with duckdb.connect(f"{data}/cancer.duckdb", read_only=True) as given:
        rows = given.execute("select count(*) from cancer").fetchone()[0]
    mlflow.log_metric("rows", rows + len(parts))
