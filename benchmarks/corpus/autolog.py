"""Autolog makes the run.

reads: DATA/cancer.csv
writes:
"""

import os

import mlflow
import pandas as pd
from sklearn.linear_model import LogisticRegression

mlflow.sklearn.autolog()
f = pd.read_csv(os.environ["DATA"] + "/cancer.csv")
LogisticRegression(max_iter=20).fit(f.drop(columns="target"), f["target"])
