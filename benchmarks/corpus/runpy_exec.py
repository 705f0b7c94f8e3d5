"""runpy and exec.

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
make("sub.py", "open('o.csv', 'w').write(open('a.csv').read())")
import mlflow
import runpy

with mlflow.start_run():
    runpy.run_path("sub.py")
    exec("open('b.csv').read()")
