"""SQLite through SQLAlchemy and pandas.

reads: DATA/cancer.db
writes: WORK/scores.db
"""

import os

import mlflow
import pandas as pd
import sqlalchemy

source = sqlalchemy.create_engine(f"sqlite:///{os.environ['DATA']}/cancer.db")
target = sqlalchemy.create_engine("sqlite:///scores.db")
with mlflow.start_run():
    frame = pd.read_sql("SELECT * FROM cancer WHERE target = 1", source)
    frame[["target"]].to_sql("scores", target, index=False)
    mlflow.log_metric("rows", len(frame))
