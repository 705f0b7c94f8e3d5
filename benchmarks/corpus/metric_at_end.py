"""Trains first, and opens a run only to log the result, as many scripts do.

reads: DATA/cancer.csv
writes: WORK/model.joblib WORK/predictions.csv
"""

import os

import joblib
import mlflow
import pandas as pd
from sklearn.linear_model import LogisticRegression

frame = pd.read_csv(f"{os.environ['DATA']}/cancer.csv")
x, y = frame.drop(columns="target"), frame["target"]
model = LogisticRegression(max_iter=50).fit(x, y)
joblib.dump(model, "model.joblib")
frame.assign(predicted=model.predict(x)).to_csv("predictions.csv", index=False)
with mlflow.start_run():
    mlflow.log_metric("accuracy", model.score(x, y))
