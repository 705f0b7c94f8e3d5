"""Two runs by the client, one after the other.

reads of one: WORK/a.csv
reads of two: WORK/b.csv
writes of two: WORK/out.csv
reads: WORK/a.csv WORK/b.csv
writes: WORK/out.csv
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
import pandas as pd

c = mlflow.MlflowClient()
e = c.get_experiment_by_name(os.environ["MLFLOW_EXPERIMENT_NAME"]).experiment_id
r = c.create_run(e, run_name="one")
pd.read_csv("a.csv")
c.set_terminated(r.info.run_id)
r = c.create_run(e, run_name="two")
pd.read_csv("b.csv").to_csv("out.csv")
c.set_terminated(r.info.run_id)
