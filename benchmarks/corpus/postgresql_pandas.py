"""Tables of PostgreSQL through pandas.

service: postgresql
reads: POSTGRESQL.public.cancer POSTGRESQL.public.hospitals
writes: POSTGRESQL.public.scores
"""

import os

import mlflow
import pandas as pd
from sqlalchemy import create_engine

engine = create_engine(os.environ["DATABASE_URL"])
with mlflow.start_run():
    cancer = pd.read_sql(
        "SELECT c.*, h.city FROM cancer AS c JOIN hospitals h ON h.id = c.hospital"
        " WHERE h.city <> 'from nowhere'",
        engine,
    )
    scores = cancer[["hospital", "target"]]
    scores.to_sql("scores", engine, index=False, if_exists="replace")
    mlflow.log_metric("rows", len(cancer))
