"""joblib.

reads: WORK/a.joblib WORK/m.joblib
writes: WORK/o.joblib
"""

import joblib
import numpy as np

joblib.dump(np.arange(10), "a.joblib", compress=3)
joblib.dump(np.arange(10), "m.joblib")
import mlflow


def work(i):
    return joblib.load("a.joblib")[i]


with mlflow.start_run():
    joblib.Parallel(2)(joblib.delayed(work)(i) for i in range(4))
    joblib.load("m.joblib", mmap_mode="r")
    joblib.dump([1], "o.joblib")
