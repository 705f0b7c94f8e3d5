"""A Hugging Face data set from local CSV and JSON files, and one that was saved to disk.

needs: datasets
reads: DATA/cancer.csv DATA/cancer.jsonl DATA/saved/data-*.arrow DATA/saved/state.json DATA/saved/dataset_info.json
writes: WORK/mapped/*
"""

import os

import mlflow
from datasets import load_dataset, load_from_disk

data = os.environ["DATA"]
with mlflow.start_run():
    rows = load_dataset("csv", data_files=f"{data}/cancer.csv", split="train")
    lines = load_dataset("json", data_files={"train": f"{data}/cancer.jsonl"})["train"]
    saved = load_from_disk(f"{data}/saved")
    mapped = saved.map(lambda row: {"double": row["target"] * 2})
    mapped.save_to_disk("mapped")
    mlflow.log_metric("rows", len(rows) + len(lines) + len(mapped))
