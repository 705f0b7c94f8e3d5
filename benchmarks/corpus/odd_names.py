"""Names with blanks, percent signs, umlauts, bytes and quotes.

reads: WORK/*.csv
writes:
"""

import os
import pathlib


def make(name, text="a,b\n1,2\n3,4\n"):
    path = pathlib.Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


for n in ("a b.csv", "50%.csv", "ü.csv", "it's.csv", 'q".csv', "#1.csv", "a?b.csv"):
    make(n)
import mlflow

with mlflow.start_run():
    for n in sorted(os.listdir(".")):
        if n.endswith(".csv"):
            open(n).read()
    open(os.fsencode("ü.csv")).read()
