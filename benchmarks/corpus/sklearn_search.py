"""A hyper-parameter search in joblib's worker processes, autologged.

reads: DATA/cancer.csv
writes:
"""

import os

import mlflow
import pandas as pd
from sklearn.model_selection import GridSearchCV
from sklearn.tree import DecisionTreeClassifier

mlflow.sklearn.autolog(max_tuning_runs=3)
frame = pd.read_csv(os.environ["DATA"] + "/cancer.csv")
search = GridSearchCV(DecisionTreeClassifier(), {"max_depth": [1, 2, 3]}, cv=2, n_jobs=2)
with mlflow.start_run():
    search.fit(frame.drop(columns="target"), frame["target"])
