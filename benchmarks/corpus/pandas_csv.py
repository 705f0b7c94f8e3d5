"""A classifier on one CSV file; metrics and a plot are written and logged.

needs: matplotlib
reads: DATA/cancer.csv DATA/settings.yaml
writes: WORK/metrics.json WORK/importance.png
"""

import json
import os

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import mlflow
import pandas as pd
import yaml
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import train_test_split

DATA = os.environ["DATA"]

with open(os.path.join(DATA, "settings.yaml")) as file:
    settings = yaml.safe_load(file)
frame = pd.read_csv(os.path.join(DATA, "cancer.csv"))
x_train, x_test, y_train, y_test = train_test_split(
    frame.drop(columns="target"), frame["target"], random_state=0
)
with mlflow.start_run():
    model = RandomForestClassifier(n_estimators=5, max_depth=settings["depth"], random_state=0)
    model.fit(x_train, y_train)
    with open("metrics.json", "w") as file:
        json.dump({"accuracy": model.score(x_test, y_test)}, file)
    plt.bar(range(5), model.feature_importances_[:5])
    plt.savefig("importance.png")
    mlflow.log_artifact("metrics.json")
    mlflow.log_artifact("importance.png")
    mlflow.sklearn.log_model(
        model, name="model", input_example=x_test[:2], serialization_format="cloudpickle"
    )
