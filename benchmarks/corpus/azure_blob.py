"""Azure Blob Storage through its own client.

service: azurite
reads: wasbs://CONTAINER/raw/cancer.csv wasbs://CONTAINER/raw/labels.json
writes: wasbs://CONTAINER/out/scores.csv
"""

import io
import json
import os

import mlflow
import pandas as pd
from azure.storage.blob import BlobServiceClient

service = BlobServiceClient.from_connection_string(os.environ["AZURE_STORAGE_CONNECTION_STRING"])
container = service.get_container_client(os.environ["CONTAINER"])
with mlflow.start_run():
    frame = pd.read_csv(io.BytesIO(container.download_blob("raw/cancer.csv").readall()))
    labels = json.loads(container.get_blob_client("raw/labels.json").download_blob().readall())
    container.upload_blob("out/scores.csv", frame[["target"]].to_csv(), overwrite=True)
    mlflow.log_metric("rows", len(frame) + len(labels))
