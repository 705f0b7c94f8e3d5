"""Models that are loaded in one form and saved in others, with statistics in JSON.

reads: DATA/scaler.joblib DATA/cancer.pkl
writes: WORK/scaler.pkl WORK/scaler.joblib.gz WORK/stats.json
"""

import json
import os
import pickle

import joblib
import mlflow
import pandas as pd

data = os.environ["DATA"]
with mlflow.start_run():
    scaler = joblib.load(f"{data}/scaler.joblib")
    frame = pd.read_pickle(f"{data}/cancer.pkl")
    with open("scaler.pkl", "wb") as file:
        pickle.dump(scaler, file)
    joblib.dump(scaler, "scaler.joblib.gz")
    with open("stats.json", "w") as file:
        json.dump(frame.mean().to_dict(), file)
    with open("scaler.pkl", "rb") as file:
        pickle.load(file)
    mlflow.log_metric("rows", len(frame))
