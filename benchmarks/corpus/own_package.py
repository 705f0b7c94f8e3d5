"""The user's code is an installed package, data next to it is not.

reads: WORK/a.csv
writes: WORK/o.csv
"""

import pathlib


def make(name, text="a,b\n1,2\n3,4\n"):
    path = pathlib.Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


make("a.csv")
make(
    "lib/site-packages/mypack.py", "def work():\n    open('o.csv', 'w').write(open('a.csv').read())"
)
import sys

sys.path.insert(0, "lib/site-packages")
import mlflow
import mypack

with mlflow.start_run():
    mypack.work()
