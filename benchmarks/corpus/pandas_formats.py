"""Joins files of four formats and writes two.

reads: DATA/cancer.jsonl DATA/cancer.feather DATA/cancer.pkl DATA/cancer.orc
writes: WORK/joined.feather WORK/joined.jsonl.gz
"""

import os
from pathlib import Path

import mlflow
import pandas as pd

data = Path(os.environ["DATA"])
with mlflow.start_run(run_name="join"):
    parts = [
        pd.read_json(data / "cancer.jsonl", lines=True),
        pd.read_feather(data / "cancer.feather"),
        pd.read_pickle(data / "cancer.pkl"),
        pd.read_orc(data / "cancer.orc"),
    ]
    joined = pd.concat(parts, ignore_index=True)
    joined.to_feather("joined.feather")
    joined.to_json("joined.jsonl.gz", orient="records", lines=True)
    mlflow.log_metric("rows", len(joined))
