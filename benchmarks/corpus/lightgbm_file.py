"""LightGBM trains from a text file, with a separate validation file.

needs: lightgbm
reads: DATA/cancer.tsv DATA/validation.tsv
writes: WORK/lightgbm.txt
"""

import os

import lightgbm as lgb
import mlflow

data = os.environ["DATA"]
with mlflow.start_run():
    train = lgb.Dataset(
        f"{data}/cancer.tsv", params={"header": True, "label_column": "name:target"}
    )
    valid = lgb.Dataset(f"{data}/validation.tsv", reference=train)
    booster = lgb.train(
        {"objective": "binary", "verbose": -1, "header": True, "label_column": "name:target"},
        train,
        num_boost_round=3,
        valid_sets=[valid],
    )
    booster.save_model("lightgbm.txt")
    again = lgb.Booster(model_file="lightgbm.txt")
    mlflow.log_metric("trees", again.num_trees())
