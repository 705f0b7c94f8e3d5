"""Spreadsheets, whose library writes temporary files on the way.

needs: openpyxl
reads: DATA/cancer.xlsx
writes: WORK/report.xlsx
"""

import os

import mlflow
import pandas as pd

with mlflow.start_run():
    frame = pd.read_excel(f"{os.environ['DATA']}/cancer.xlsx")
    frame.describe().to_excel("report.xlsx")
    mlflow.log_metric("rows", len(frame))
