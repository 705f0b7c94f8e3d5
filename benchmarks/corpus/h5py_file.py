"""HDF5 through h5py, a slice at a time.

needs: h5py
reads: DATA/cancer.h5
writes: WORK/slices.h5
"""

import os

import h5py
import mlflow

with mlflow.start_run():
    with h5py.File(os.environ["DATA"] + "/cancer.h5", "r") as source:
        values = source["x"][:100]
        labels = source["y"][:100]
    with h5py.File("slices.h5", "w") as target:
        target.create_dataset("x", data=values, compression="gzip")
        target["y"] = labels
    mlflow.log_metric("mean", float(values.mean()))
