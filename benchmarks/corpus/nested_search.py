"""A hand-written search: a parent run, three children, one of which fails.

reads: DATA/cancer.npy DATA/pieces/0.csv DATA/pieces/1.csv DATA/pieces/2.csv
writes: WORK/best.txt
"""

import os

import mlflow
import numpy as np
import pandas as pd

data = os.environ["DATA"]
values = np.load(f"{data}/cancer.npy")
with mlflow.start_run(run_name="search"):
    for trial in range(3):
        try:
            with mlflow.start_run(nested=True, run_name=f"trial {trial}"):
                piece = pd.read_csv(f"{data}/pieces/{trial}.csv")
                if trial == 1:
                    raise ArithmeticError("diverged")
                mlflow.log_metric("score", float(piece["target"].mean() + values.mean()))
        except ArithmeticError:
            pass
    with open("best.txt", "w") as file:
        file.write("2")
