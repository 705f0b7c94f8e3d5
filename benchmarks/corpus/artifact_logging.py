"""Writes files only to log them; MLflow's own reading of them is not the run's.

needs: matplotlib
reads: DATA/cancer.csv
writes: WORK/plots/*.png WORK/report.html WORK/params.json
"""

import json
import os
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import mlflow
import pandas as pd

frame = pd.read_csv(f"{os.environ['DATA']}/cancer.csv")
Path("plots").mkdir()
with mlflow.start_run():
    for column in frame.columns[:3]:
        figure = plt.figure()
        plt.hist(frame[column])
        figure.savefig(f"plots/{column}.png")
    frame.describe().to_html("report.html")
    with open("params.json", "w") as file:
        json.dump({"columns": len(frame.columns)}, file)
    mlflow.log_artifacts("plots", "plots")
    mlflow.log_artifact("report.html")
    mlflow.log_artifact("params.json")
    mlflow.log_table(frame.head(), "head.json")
    mlflow.log_dict({"a": 1}, "dict.json")
    mlflow.log_figure(figure, "figure.png")
