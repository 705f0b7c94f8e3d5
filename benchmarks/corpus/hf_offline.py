"""Hugging Face data sets of local files.

needs: datasets
reads: WORK/d/train.csv WORK/d/test.csv WORK/t.txt WORK/p.parquet WORK/img/*/*.png
writes: WORK/out.csv WORK/out.parquet WORK/out.jsonl
"""

import os
import pathlib


def make(name, text="a,b\n1,2\n3,4\n"):
    path = pathlib.Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


make("d/train.csv")
make("d/test.csv")
make("t.txt")
import pandas as pd
from PIL import Image

pd.DataFrame({"a": [1, 2]}).to_parquet("p.parquet")
for k in "xy":
    os.makedirs(f"img/{k}")
    Image.new("L", (4, 4)).save(f"img/{k}/0.png")
import mlflow
import datasets

with mlflow.start_run():
    ds = datasets.load_dataset("d")
    print(ds["train"][0])
    print(datasets.load_dataset("text", data_files="t.txt")["train"][0])
    p = datasets.Dataset.from_parquet("p.parquet")
    im = datasets.load_dataset("imagefolder", data_dir="img")["train"]
    print(im[0], im[1])
    p.to_csv("out.csv")
    p.to_parquet("out.parquet")
    p.to_json("out.jsonl")
    s = datasets.load_dataset("csv", data_files="d/train.csv", streaming=True)["train"]
    print(next(iter(s)))
