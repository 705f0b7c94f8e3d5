"""A program that is not Python sorts a file; nothing inside this process sees it.

reads: DATA/cancer.tsv
writes: WORK/sorted.tsv
blind: sort
"""

import os
import subprocess

import mlflow

with mlflow.start_run():
    source = os.path.join(os.environ["DATA"], "cancer.tsv")
    subprocess.run(["sort", "-o", "sorted.tsv", source], check=True)
    with open("sorted.tsv") as file:
        mlflow.log_metric("rows", sum(1 for _ in file))
