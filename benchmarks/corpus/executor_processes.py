"""Files that the workers of an executor read and write.

reads: DATA/pieces/*.csv
writes: WORK/piece-*.npy
"""

import glob
import os
from concurrent.futures import ProcessPoolExecutor

import mlflow
import numpy as np


def convert(path):
    array = np.loadtxt(path, delimiter=",", skiprows=1)
    np.save(f"piece-{os.path.basename(path)[:-4]}.npy", array)
    return len(array)


if __name__ == "__main__":
    with mlflow.start_run(), ProcessPoolExecutor(2) as executor:
        rows = sum(executor.map(convert, glob.glob(f"{os.environ['DATA']}/pieces/*.csv")))
        mlflow.log_metric("rows", rows)
