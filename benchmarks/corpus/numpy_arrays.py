"""Arrays loaded in each of numpy's ways.

reads: DATA/cancer.npy DATA/cancer.npz DATA/cancer.txt DATA/cancer.raw
writes: WORK/scaled.npy WORK/both.npz WORK/matrix.txt
"""

import os

import mlflow
import numpy as np

data = os.environ["DATA"]
with mlflow.start_run():
    mapped = np.load(f"{data}/cancer.npy", mmap_mode="r")
    packed = np.load(f"{data}/cancer.npz")["x"]
    text = np.loadtxt(f"{data}/cancer.txt")
    raw = np.fromfile(f"{data}/cancer.raw")
    scaled = (mapped - mapped.mean(axis=0)) / (mapped.std(axis=0) + 1e-9)
    np.save("scaled.npy", scaled)
    np.savez_compressed("both.npz", a=packed, b=text)
    np.savetxt("matrix.txt", text[:10])
    mlflow.log_metric("sum", float(raw.sum()))
