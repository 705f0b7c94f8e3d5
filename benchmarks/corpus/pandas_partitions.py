"""A folder of parquet files, partitioned on the way out and read by a filter.

needs: pyarrow
reads: DATA/parts/part=*/rows.parquet DATA/cancer.orc
writes: WORK/by_target/target=*/*.parquet WORK/rewritten/*.parquet
"""

import os

import mlflow
import pandas as pd
import pyarrow.parquet as pq

data = os.environ["DATA"]
with mlflow.start_run():
    frame = pd.read_parquet(f"{data}/parts")
    orc = pd.read_orc(f"{data}/cancer.orc")
    frame.to_parquet("by_target", partition_cols=["target"])
    table = pq.read_table(f"{data}/parts", filters=[("part", "=", 1)])
    pq.write_to_dataset(table, "rewritten")
    mlflow.log_metric("rows", len(frame) + len(orc))
