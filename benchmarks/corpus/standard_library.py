"""The standard library only: csv, gzip, zip, tar, pickle, shelve-free.

needs: tomllib
reads: DATA/cancer.csv DATA/cancer.csv.gz DATA/cancer.zip DATA/cancer.tar.gz DATA/settings.toml
writes: WORK/report.csv.gz WORK/archive.zip WORK/final.txt
"""

import csv
import gzip
import os
import tarfile
import tempfile
import tomllib
import zipfile
from pathlib import Path

import mlflow

data = Path(os.environ["DATA"])
settings = tomllib.loads((data / "settings.toml").read_text())
with mlflow.start_run(run_name=settings["name"]):
    with open(data / "cancer.csv", newline="") as file:
        rows = list(csv.reader(file))
    with gzip.open(data / "cancer.csv.gz", "rt") as file:
        rows += list(csv.reader(file))
    with zipfile.ZipFile(data / "cancer.zip") as archive, archive.open("cancer.csv") as file:
        size = len(file.read())
    with tarfile.open(data / "cancer.tar.gz") as archive:
        size += sum(member.size for member in archive.getmembers())
    with tempfile.TemporaryDirectory() as scratch:
        Path(scratch, "scratch.csv").write_text("a,b\n")
        Path(scratch, "scratch.csv").read_text()
    with gzip.open("report.csv.gz", "wt") as file:
        csv.writer(file).writerows(rows[:5])
    with zipfile.ZipFile("archive.zip", "w") as archive:
        archive.writestr("rows.txt", str(len(rows)))
    unfinished = Path("final.txt.part")
    unfinished.write_text(str(size))
    os.replace(unfinished, "final.txt")
