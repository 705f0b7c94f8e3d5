"""A partitioned folder and a single parquet file, autologged.

reads: DATA/parts/part=*/rows.parquet DATA/cancer.parquet
writes: WORK/predictions.parquet
"""

import os

import mlflow
import pandas
from sklearn.linear_model import LogisticRegression

mlflow.sklearn.autolog()
base = os.environ["DATA"]
train = pandas.read_parquet(f"{base}/parts").drop(columns="part")
test = pandas.read_parquet(f"{base}/cancer.parquet")
model = LogisticRegression(max_iter=50).fit(train.drop(columns="target"), train["target"])
test["predicted"] = model.predict(test.drop(columns="target"))
with mlflow.start_run():
    test[["target", "predicted"]].to_parquet("predictions.parquet")
