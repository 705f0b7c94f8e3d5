"""Azure Blob Storage through fsspec.

service: azurite
needs: adlfs
reads: wasbs://CONTAINER/raw/cancer.csv
writes: wasbs://CONTAINER/out/head.csv
"""

import os

import mlflow
import pandas as pd

options = {"connection_string": os.environ["AZURE_STORAGE_CONNECTION_STRING"]}
container = os.environ["CONTAINER"]
with mlflow.start_run():
    frame = pd.read_csv(f"abfs://{container}/raw/cancer.csv", storage_options=options)
    frame.head().to_csv(f"abfs://{container}/out/head.csv", storage_options=options)
