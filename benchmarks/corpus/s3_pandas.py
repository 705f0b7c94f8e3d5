"""S3 through pandas alone.

needs: s3fs
service: moto
reads: s3://BUCKET/raw/cancer.csv s3://BUCKET/raw/cancer.parquet
writes: s3://BUCKET/out/pandas.csv s3://BUCKET/out/pandas.parquet
"""

import os

import mlflow
import pandas as pd

bucket = os.environ["BUCKET"]
options = {"endpoint_url": os.environ["MLFLOW_S3_ENDPOINT_URL"]}
with mlflow.start_run():
    csv = pd.read_csv(f"s3://{bucket}/raw/cancer.csv", storage_options=options)
    parquet = pd.read_parquet(f"s3://{bucket}/raw/cancer.parquet", storage_options=options)
    csv.to_csv(f"s3://{bucket}/out/pandas.csv", storage_options=options)
    parquet.to_parquet(f"s3://{bucket}/out/pandas.parquet", storage_options=options)
    mlflow.log_metric("rows", len(csv) + len(parquet))
