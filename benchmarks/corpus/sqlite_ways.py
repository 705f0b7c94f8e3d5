"""SQLite in its ways.

reads: WORK/a.db WORK/b.db WORK/at.db
writes: WORK/new.db
blind: sqlite3 ATTACH
"""

import sqlite3

for n in ("a.db", "b.db", "at.db"):
    with sqlite3.connect(n) as c:
        c.execute("create table t (x)")
        c.execute("insert into t values (1)")
    c.close()
import mlflow
import pandas as pd

with mlflow.start_run():
    c = sqlite3.connect("a.db")
    pd.read_sql("select * from t", c)
    r = sqlite3.connect("file:b.db?mode=ro", uri=True)
    r.execute("select * from t").fetchall()
    c.execute("attach 'at.db' as other")
    c.execute("select * from other.t").fetchall()
    n = sqlite3.connect("new.db")
    pd.DataFrame({"x": [1]}).to_sql("t", n)
    n.commit()
    n.close()
    sqlite3.connect(":memory:").execute("select 1")
