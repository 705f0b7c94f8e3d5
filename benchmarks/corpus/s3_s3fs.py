"""S3 through s3fs and pandas' s3:// paths.

service: moto
needs: s3fs
reads: s3://BUCKET/raw/cancer.csv s3://BUCKET/raw/cancer.parquet
writes: s3://BUCKET/out/summary.csv s3://BUCKET/out/frame.parquet
"""

import os

import mlflow
import pandas as pd
import s3fs

bucket = os.environ["BUCKET"]
options = {"client_kwargs": {"endpoint_url": os.environ["MLFLOW_S3_ENDPOINT_URL"]}}
fs = s3fs.S3FileSystem(**options)
with mlflow.start_run():
    with fs.open(f"{bucket}/raw/cancer.csv") as file:
        frame = pd.read_csv(file)
    other = pd.read_parquet(f"s3://{bucket}/raw/cancer.parquet", storage_options=options)
    frame.describe().to_csv(f"s3://{bucket}/out/summary.csv", storage_options=options)
    other.to_parquet(f"s3://{bucket}/out/frame.parquet", storage_options=options)
