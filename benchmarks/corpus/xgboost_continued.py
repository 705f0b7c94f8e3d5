"""Training goes on from a model of last week.

needs: xgboost
reads: DATA/last-week.ubj DATA/cancer.parquet
writes: WORK/this-week.ubj
"""

import os

import mlflow
import pandas as pd
import xgboost as xgb

data = os.environ["DATA"]
mlflow.xgboost.autolog()
frame = pd.read_parquet(f"{data}/cancer.parquet")
model = xgb.XGBClassifier(n_estimators=3)
with mlflow.start_run():
    model.fit(frame.drop(columns="target"), frame["target"], xgb_model=f"{data}/last-week.ubj")
    model.save_model("this-week.ubj")
