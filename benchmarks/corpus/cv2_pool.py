"""OpenCV in a pool of forked processes.

needs: cv2
reads: DATA/images/*.png
writes: WORK/means.npy
"""

import multiprocessing
import os
from pathlib import Path

import cv2
import mlflow
import numpy as np


def mean(path):
    return float(cv2.imread(str(path)).mean())


if __name__ == "__main__":
    paths = sorted(Path(os.environ["DATA"], "images").glob("*.png"))
    with mlflow.start_run():
        with multiprocessing.get_context("fork").Pool(2) as pool:
            means = pool.map(mean, paths, chunksize=5)
        np.save("means.npy", np.array(means))
