"""HDF5 through pandas and PyTables.

needs: tables
reads: DATA/table.h5
writes: WORK/scaled.h5
"""

import os

import mlflow
import pandas as pd

with mlflow.start_run():
    frame = pd.read_hdf(os.path.join(os.environ["DATA"], "table.h5"), "cancer")
    scaled = (frame - frame.mean()) / frame.std()
    scaled.to_hdf("scaled.h5", key="scaled")
