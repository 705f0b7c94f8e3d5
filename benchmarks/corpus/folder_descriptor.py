"""Opened relative to a folder's descriptor.

reads: WORK/d/a.csv WORK/d/b.csv
writes: WORK/d/o.csv
"""

import os
import pathlib


def make(name, text="a,b\n1,2\n3,4\n"):
    path = pathlib.Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


make("d/a.csv")
make("d/b.csv")
make("a.csv")
import mlflow

with mlflow.start_run():
    d = os.open("d", os.O_RDONLY)
    fd = os.open("a.csv", os.O_RDONLY, dir_fd=d)
    os.read(fd, 10)
    os.close(fd)
    with open("b.csv", opener=lambda p, f: os.open(p, f, dir_fd=d)) as f:
        f.read()
    fd = os.open("o.csv", os.O_WRONLY | os.O_CREAT, dir_fd=d)
    os.write(fd, b"x")
    os.close(fd)
