"""SQLite through Python's own module: one database read, one made.

reads: DATA/cancer.db
writes: WORK/results.db
"""

import os
import sqlite3

import mlflow

with mlflow.start_run():
    source = sqlite3.connect(f"file:{os.environ['DATA']}/cancer.db?mode=ro", uri=True)
    rows = source.execute("SELECT target, count(*) FROM cancer GROUP BY target").fetchall()
    source.close()
    with sqlite3.connect("results.db") as target:
        target.execute("CREATE TABLE counts (target INTEGER, n INTEGER)")
        target.executemany("INSERT INTO counts VALUES (?, ?)", rows)
    target.close()
