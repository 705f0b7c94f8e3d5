"""S3 through Arrow's own client.

service: moto
reads: s3://BUCKET/raw/cancer.parquet s3://BUCKET/parts/part=*/rows.parquet
writes: s3://BUCKET/out/arrow.parquet
"""

import os

import mlflow
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from pyarrow.fs import S3FileSystem

bucket = os.environ["BUCKET"]
endpoint = os.environ["MLFLOW_S3_ENDPOINT_URL"].removeprefix("http://")
s3 = S3FileSystem(endpoint_override=endpoint, scheme="http")
with mlflow.start_run():
    table = pq.read_table(f"{bucket}/raw/cancer.parquet", filesystem=s3)
    parts = ds.dataset(f"{bucket}/parts", filesystem=s3, format="parquet").to_table()
    pq.write_table(table, f"{bucket}/out/arrow.parquet", filesystem=s3)
    mlflow.log_metric("rows", len(table) + len(parts))
