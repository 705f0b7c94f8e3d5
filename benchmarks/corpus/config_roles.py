"""yaml through omegaconf-like reading; arguments.

reads: WORK/c.yaml WORK/a.csv
writes: WORK/m.json
"""

import pathlib


def make(name, text="a,b\n1,2\n3,4\n"):
    path = pathlib.Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


make("c.yaml", "a: 1")
make("a.csv")
import mlflow
import yaml
import json

with mlflow.start_run():
    c = yaml.safe_load(open("c.yaml"))
    mlflow.log_params(c)
    open("a.csv").read()
    json.dump(c, open("m.json", "w"))
