"""DuckDB.

reads: WORK/a.csv WORK/b.csv WORK/g/*.csv WORK/x.parquet WORK/old.duckdb WORK/j.json
writes: WORK/o.parquet WORK/part/*/* WORK/new.duckdb WORK/r.csv
"""

import pathlib


def make(name, text="a,b\n1,2\n3,4\n"):
    path = pathlib.Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


make("a.csv")
make("b.csv")
make("g/1.csv")
make("g/2.csv")
make("j.json", '{"a": 1}\n')
import duckdb

duckdb.sql("copy (select 1 as a) to 'x.parquet'")
c = duckdb.connect("old.duckdb")
c.execute("create table t as select 1 as a")
c.close()
import mlflow

with mlflow.start_run():
    duckdb.sql("select * from read_csv_auto(['a.csv', 'b.csv'])").fetchall()
    duckdb.sql("select * from 'g/*.csv'").fetchall()
    duckdb.from_parquet("x.parquet").fetchall()
    duckdb.read_json("j.json").fetchall()
    c = duckdb.connect()
    c.execute("attach 'old.duckdb' as o (read_only)")
    c.execute("select * from o.t").fetchall()
    duckdb.sql("copy (select 1 as a) to 'o.parquet' (format parquet)")
    duckdb.sql("copy (select 1 as a, 2 as b) to 'part' (format parquet, partition_by (a))")
    n = duckdb.connect("new.duckdb")
    n.execute("create table t as from 'a.csv'")
    n.close()
    duckdb.read_csv("a.csv").write_csv("r.csv")
