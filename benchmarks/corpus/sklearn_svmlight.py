"""A pipeline on svmlight data, kept and loaded again with joblib.

reads: DATA/cancer.svm DATA/scaler.joblib
writes: WORK/model.joblib
"""

import os

import joblib
import mlflow
from sklearn.datasets import load_svmlight_file
from sklearn.linear_model import SGDClassifier

data = os.environ["DATA"]
x, y = load_svmlight_file(f"{data}/cancer.svm")
scaler = joblib.load(f"{data}/scaler.joblib")
with mlflow.start_run() as run:
    model = SGDClassifier(random_state=0).fit(scaler.transform(x.toarray()), y)
    joblib.dump(model, "model.joblib", compress=3)
    again = joblib.load("model.joblib")
    mlflow.log_metric("accuracy", again.score(scaler.transform(x.toarray()), y))
    mlflow.sklearn.log_model(again, name="model", serialization_format="cloudpickle")
