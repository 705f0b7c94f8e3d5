"""log_input of what is read, too.

reads: DATA/cancer.csv
writes:
"""

import os

import mlflow
import pandas as pd

with mlflow.start_run():
    n = os.environ["DATA"] + "/cancer.csv"
    mlflow.log_input(mlflow.data.from_pandas(pd.read_csv(n), source=n, name="c"), "training")
