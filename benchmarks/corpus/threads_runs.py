"""Threads, each with a run of its own at the same time.

reads: WORK/t0.csv WORK/t1.csv WORK/t2.csv
writes: WORK/o0.csv WORK/o1.csv WORK/o2.csv
reads of r0: WORK/t0.csv
reads of r1: WORK/t1.csv
reads of r2: WORK/t2.csv
writes of r0: WORK/o0.csv
writes of r1: WORK/o1.csv
writes of r2: WORK/o2.csv
"""

import pathlib


def make(name, text="a,b\n1,2\n3,4\n"):
    path = pathlib.Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


for i in range(3):
    make(f"t{i}.csv")
import mlflow
import pandas as pd
import threading

barrier = threading.Barrier(3)


def work(i):
    with mlflow.start_run(run_name=f"r{i}"):
        barrier.wait()
        pd.read_csv(f"t{i}.csv").to_csv(f"o{i}.csv")
        barrier.wait()


ts = [threading.Thread(target=work, args=(i,)) for i in range(3)]
[t.start() for t in ts]
[t.join() for t in ts]
