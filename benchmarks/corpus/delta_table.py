"""A Delta table read in one version and written as another.

needs: deltalake
reads: DATA/delta/
writes: WORK/scores/
"""

import os

import mlflow
from deltalake import DeltaTable, write_deltalake

with mlflow.start_run():
    table = DeltaTable(os.environ["DATA"] + "/delta")
    frame = table.to_pyarrow_table()
    write_deltalake("scores", frame.slice(0, 10))
    mlflow.log_metric("rows", len(frame))
