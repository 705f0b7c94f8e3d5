"""Lower ways to open a file: descriptors, memory maps, fileinput, io.

reads: DATA/cancer.csv DATA/cancer.tsv DATA/cancer.txt DATA/validation.tsv
writes: WORK/low.bin WORK/appended.log.csv
"""

import fileinput
import io
import mmap
import os

import mlflow

data = os.environ["DATA"]
with mlflow.start_run():
    descriptor = os.open(f"{data}/cancer.csv", os.O_RDONLY)
    size = len(os.read(descriptor, 1 << 20))
    os.close(descriptor)
    with open(f"{data}/cancer.txt", "rb") as file:
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            size += len(mapped)
    with fileinput.input([f"{data}/cancer.tsv"]) as lines:
        size += sum(1 for _ in lines)
    size += len(io.FileIO(f"{data}/validation.tsv").readall())
    descriptor = os.open("low.bin", os.O_WRONLY | os.O_CREAT, 0o600)
    os.write(descriptor, b"x")
    os.close(descriptor)
    for line in range(3):
        with open("appended.log.csv", "a") as file:
            file.write(f"{line}\n")
    mlflow.log_metric("size", size)
