"""os.sendfile, os.copy_file_range, splice: descriptors opened by Python.

reads: WORK/a.csv WORK/b.csv
writes: WORK/o.csv WORK/p.csv
"""

import os
import pathlib


def make(name, text="a,b\n1,2\n3,4\n"):
    path = pathlib.Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


make("a.csv")
make("b.csv")
import mlflow

with mlflow.start_run():
    with open("a.csv", "rb") as s, open("o.csv", "wb") as t:
        os.sendfile(t.fileno(), s.fileno(), 0, 100)
    with open("b.csv", "rb") as s, open("p.csv", "wb") as t:
        os.copy_file_range(s.fileno(), t.fileno(), 100)
