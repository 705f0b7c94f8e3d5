"""Boosting on a file that XGBoost opens itself.

needs: xgboost
reads: DATA/cancer.svm
writes: WORK/booster.ubj WORK/booster.json
"""

import os

import mlflow
import xgboost as xgb

with mlflow.start_run():
    train = xgb.DMatrix(os.environ["DATA"] + "/cancer.svm?format=libsvm")
    booster = xgb.train({"objective": "binary:logistic", "max_depth": 2}, train, 3)
    booster.save_model("booster.ubj")
    booster.save_model("booster.json")
    again = xgb.Booster()
    again.load_model("booster.json")
    mlflow.xgboost.log_model(again, name="model")
