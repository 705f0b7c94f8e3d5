"""Tables in each of Arrow's own formats.

reads: DATA/cancer.parquet DATA/cancer.csv DATA/cancer.jsonl DATA/cancer.feather DATA/cancer.orc
writes: WORK/table.parquet WORK/table.feather WORK/table.csv
"""

import os

import mlflow
import pyarrow as pa
import pyarrow.csv
import pyarrow.feather
import pyarrow.json
import pyarrow.orc
import pyarrow.parquet as pq

base = os.environ["DATA"]
with mlflow.start_run():
    tables = [
        pq.read_table(f"{base}/cancer.parquet"),
        pa.csv.read_csv(f"{base}/cancer.csv"),
        pa.json.read_json(f"{base}/cancer.jsonl"),
        pa.feather.read_table(f"{base}/cancer.feather"),
        pa.orc.read_table(f"{base}/cancer.orc"),
    ]
    mlflow.log_metric("rows", sum(table.num_rows for table in tables))
    pq.write_table(tables[0], "table.parquet")
    pa.feather.write_feather(tables[0], "table.feather")
    pa.csv.write_csv(tables[1], "table.csv")
