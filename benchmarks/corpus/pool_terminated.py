"""A pool whose workers are terminated right after.

reads: WORK/in/*.csv
writes:
"""

import pathlib


def make(name, text="a,b\n1,2\n3,4\n"):
    path = pathlib.Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


for i in range(8):
    make(f"in/{i}.csv")
import mlflow
import multiprocessing as mp


def work(i):
    return len(open(f"in/{i}.csv").read())


if __name__ == "__main__":
    with mlflow.start_run():
        with mp.get_context("fork").Pool(3, maxtasksperchild=2) as pool:
            print(sum(pool.map(work, range(8))))
