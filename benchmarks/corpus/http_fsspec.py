"""Files of a web server through pandas and fsspec.

service: web
needs: aiohttp
reads: WEB/cancer.csv WEB/cancer.parquet WEB/labels.json
writes:
"""

import json
import os

import fsspec
import mlflow
import pandas as pd

web = os.environ["WEB"]
with mlflow.start_run():
    frame = pd.read_csv(f"{web}/cancer.csv?token=secret")
    with fsspec.open(f"{web}/cancer.parquet") as file:
        other = pd.read_parquet(file)
    with fsspec.open(f"{web}/labels.json", "rt") as file:
        labels = json.load(file)
    mlflow.log_metric("rows", len(frame) + len(other) + len(labels))
