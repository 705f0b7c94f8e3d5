"""Arrays that are mapped into memory, to read and to write.

reads: DATA/cancer.raw DATA/cancer.npy
writes: WORK/scaled.raw WORK/opened.npy
"""

import os

import mlflow
import numpy as np
from numpy.lib.format import open_memmap

data = os.environ["DATA"]
with mlflow.start_run():
    raw = np.memmap(f"{data}/cancer.raw", dtype="float64", mode="r")
    array = open_memmap(f"{data}/cancer.npy", mode="r")
    scaled = np.memmap("scaled.raw", dtype="float64", mode="w+", shape=raw.shape)
    scaled[:] = raw / raw.max()
    scaled.flush()
    opened = open_memmap("opened.npy", mode="w+", dtype=array.dtype, shape=array.shape)
    opened[:] = array
    mlflow.log_metric("mean", float(scaled.mean()))
