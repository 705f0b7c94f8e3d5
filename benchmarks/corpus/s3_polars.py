"""S3 through polars' own client.

service: moto
needs: polars
reads: s3://BUCKET/raw/cancer.parquet
writes:
"""

import os

import mlflow
import polars as pl

options = {
    "aws_endpoint_url": os.environ["MLFLOW_S3_ENDPOINT_URL"],
    "aws_region": "us-east-1",
    "aws_allow_http": "true",
}
with mlflow.start_run():
    path = f"s3://{os.environ['BUCKET']}/raw/cancer.parquet"
    rows = pl.scan_parquet(path, storage_options=options).select(pl.len()).collect().item()
    mlflow.log_metric("rows", rows)
