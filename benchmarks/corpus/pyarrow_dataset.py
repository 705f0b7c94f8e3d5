"""A partitioned data set, filtered, and written as another.

reads: DATA/parts/part=*/rows.parquet
writes: WORK/healthy/part-0.parquet
"""

import os

import mlflow
import pyarrow.dataset as ds

with mlflow.start_run():
    source = ds.dataset(os.environ["DATA"] + "/parts", format="parquet", partitioning="hive")
    healthy = source.to_table(filter=ds.field("target") == 1)
    ds.write_dataset(healthy, "healthy", format="parquet")
    mlflow.log_param("rows", healthy.num_rows)
