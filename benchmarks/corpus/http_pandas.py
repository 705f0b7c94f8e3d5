"""A table straight from a web address, and a download to disk.

service: web
reads: WEB/cancer.csv WEB/cancer.tsv
writes: WORK/cancer.tsv
"""

import os
import urllib.request

import mlflow
import pandas as pd

web = os.environ["WEB"]
with mlflow.start_run():
    frame = pd.read_csv(f"{web}/cancer.csv")
    path, _ = urllib.request.urlretrieve(f"{web}/cancer.tsv", "cancer.tsv")
    more = pd.read_csv(path, sep="\t")
    mlflow.log_metric("rows", len(frame) + len(more))
