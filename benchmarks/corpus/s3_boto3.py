"""S3 through boto3: get, download, upload.

service: moto
reads: s3://BUCKET/raw/cancer.csv s3://BUCKET/raw/cancer.parquet
writes: s3://BUCKET/out/scores.csv WORK/local.parquet
"""

import io
import os

import boto3
import mlflow
import pandas as pd

bucket = os.environ["BUCKET"]
s3 = boto3.client("s3", endpoint_url=os.environ["MLFLOW_S3_ENDPOINT_URL"])
with mlflow.start_run():
    body = s3.get_object(Bucket=bucket, Key="raw/cancer.csv")["Body"].read()
    frame = pd.read_csv(io.BytesIO(body))
    s3.download_file(bucket, "raw/cancer.parquet", "local.parquet")
    other = pd.read_parquet("local.parquet")
    s3.put_object(Bucket=bucket, Key="out/scores.csv", Body=frame[["target"]].to_csv().encode())
    mlflow.log_metric("rows", len(frame) + len(other))
