"""fsspec local and memory and cached.

reads: WORK/a.csv WORK/b.csv
writes: WORK/o.csv
"""

import pathlib


def make(name, text="a,b\n1,2\n3,4\n"):
    path = pathlib.Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


make("a.csv")
make("b.csv")
import mlflow
import fsspec

with mlflow.start_run():
    with fsspec.open("a.csv") as f:
        f.read()
    fsspec.filesystem("file").cat("b.csv")
    with fsspec.open("o.csv", "w") as f:
        f.write("x")
    with fsspec.open("memory://x", "w") as f:
        f.write("x")
