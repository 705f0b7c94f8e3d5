"""log_metric without a run.

reads: WORK/a.csv
writes: WORK/o.csv
"""

import pathlib


def make(name, text="a,b\n1,2\n3,4\n"):
    path = pathlib.Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


make("a.csv")
import mlflow

mlflow.log_metric("x", 1)
open("o.csv", "w").write(open("a.csv").read())
