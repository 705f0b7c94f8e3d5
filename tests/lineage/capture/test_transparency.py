"""What runs without the package runs with it: same output, warnings, tracebacks, pickles, frames.

One process runs all cases with the capture on, one with it off; what each prints is compared.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support import servers

PRELUDE = r'''
import hashlib, inspect, io, json, os, pathlib, pickle, sys, traceback, warnings
import mlflow
import duckdb, h5py, httpx, numpy, pandas, polars, pyarrow, requests, urllib.request
import pyarrow.csv, pyarrow.dataset, pyarrow.feather, pyarrow.json, pyarrow.orc, pyarrow.parquet
frame = pandas.DataFrame({"a": [1, 2], "b": ["x", "y"]})
table = pyarrow.Table.from_pandas(frame, preserve_index=False)
frame.to_csv("a.csv", index=False)
frame.to_parquet("a.parquet")
pathlib.Path("a.json").write_text('{"a": 1}\n')
pyarrow.feather.write_feather(table, "a.feather")
pyarrow.orc.write_table(table, "a.orc")
with h5py.File("a.h5", "w") as file:
    file["x"] = numpy.arange(3)
with open("a.txt", "w") as file:
    file.write("text")

class Spy(io.FileIO):
    """A file that notes the functions on the call stack of its first reading."""
    stack = None
    def note(self):
        if self.stack is None:
            found, frame = [], sys._getframe(2)
            while frame is not None and frame.f_code.co_name != "case":
                code = frame.f_code
                found.append((os.path.basename(code.co_filename), code.co_name, frame.f_lineno))
                frame = frame.f_back
            self.stack = found
    def read(self, *args):
        self.note()
        return super().read(*args)
    def readinto(self, *args):
        self.note()
        return super().readinto(*args)

def spied(read, name):
    with Spy(name) as file:
        read(file)
    return file.stack

def about(function):
    """Return what a program can find out about a function."""
    facts = [type(function).__name__, getattr(function, "__module__", None),
             getattr(function, "__qualname__", None), getattr(function, "__doc__", None)]
    for look in (inspect.signature, inspect.getsourcelines, inspect.iscoroutinefunction,
                 callable, lambda f: f.__code__.co_varnames, lambda f: f.__defaults__,
                 lambda f: f.__closure__ is None, lambda f: hasattr(f, "__wrapped__"), pickled):
        try:
            facts.append(str(look(function)))
        except Exception as exc:
            facts.append(type(exc).__name__)
    return facts

def named(function):
    """Return the same of a native function, in whose place another one stands."""
    return about(function)[1:4], callable(function)

def inserted(connection):
    connection.execute("create table t (x int)")
    connection.executemany("insert into t values (?)", [[1], [2]])
    return connection.table("t").fetchall()

def pickled(function):
    assert pickle.loads(pickle.dumps(function)) is function
    import cloudpickle
    return cloudpickle.dumps(function)

def warned(call):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    return [(os.path.basename(w.filename), w.lineno, w.category.__name__, str(w.message))
            for w in caught]

def raised(call):
    try:
        call()
    except BaseException as exc:
        places = [(os.path.basename(f.filename), f.name, f.lineno)
                  for f in traceback.extract_tb(exc.__traceback__)]
        return type(exc).__name__, places
    return "nothing raised"
'''

CASES = r"""
duckdb.sql("select * from frame").fetchall()
duckdb.query("select sum(a) from table").fetchall()
(lambda local: duckdb.sql("select count(*) from local").fetchall())(frame)
duckdb.connect().sql("select * from frame where a > 1").fetchall()
duckdb.connect().execute("select * from frame").fetchall()
(lambda local: duckdb.execute("select count(*) from local").fetchall())(frame)
[duckdb.connect().execute("select count(*) from own").fetchone() for own in (frame, table)]
raised(lambda: duckdb.execute("selec"))
raised(lambda: duckdb.connect().execute("select * from nothing_of_that_name"))
raised(lambda: duckdb.connect("no/such/folder.db"))
raised(lambda: duckdb.execute(wrong=1))
inserted(duckdb.connect())
isinstance(duckdb.connect(), duckdb.DuckDBPyConnection)
raised(lambda: pyarrow.memory_map("missing.txt"))
duckdb.sql("select * from 'a.csv'").df().to_csv()
duckdb.read_csv("a.csv").fetchall()
duckdb.read_parquet("a.parquet").fetchall()
str(duckdb.sql("copy (select 1 as x) to 'copied.csv'"))
duckdb.sql("select 1 as x").write_csv("written.csv")
raised(lambda: duckdb.sql("select * from nothing_of_that_name"))
raised(lambda: duckdb.sql("selec"))
raised(lambda: duckdb.read_csv("missing.csv"))
polars.read_csv("a.csv").to_dicts()
polars.scan_csv("a.csv").collect().to_dicts()
polars.read_parquet("a.parquet").to_dicts()
polars.scan_parquet("a.parquet").select("a").collect().to_dicts()
str(polars.DataFrame({"a": [1]}).write_csv("p.csv"))
polars.DataFrame({"a": [1]}).write_csv()
str(polars.DataFrame({"a": [1]}).write_parquet("p.parquet"))
str(polars.DataFrame({"a": [1]}).lazy().sink_csv("s.csv"))
raised(lambda: polars.read_csv("missing.csv"))
raised(lambda: polars.read_parquet("missing.parquet"))
raised(lambda: polars.DataFrame({"a": [1]}).write_csv("no/such/folder.csv"))
warned(lambda: polars.read_csv("a.csv", row_count_name="n"))
spied(polars.read_csv, "a.csv")
pandas.read_csv("a.csv").to_csv()
pandas.read_parquet("a.parquet").to_csv()
pandas.read_feather("a.feather").to_csv()
pandas.read_orc("a.orc").to_csv()
spied(pandas.read_parquet, "a.parquet")
spied(pandas.read_csv, "a.csv")
raised(lambda: pandas.read_parquet("missing.parquet"))
raised(lambda: pandas.read_csv("missing.csv"))
raised(lambda: frame.to_parquet("no/such/folder.parquet"))
warned(lambda: pandas.read_csv("a.csv", date_format=3, parse_dates=["b"]))
pyarrow.csv.read_csv("a.csv").to_pylist()
pyarrow.json.read_json("a.json").to_pylist()
pyarrow.feather.read_table("a.feather").to_pylist()
pyarrow.orc.read_table("a.orc").to_pylist()
pyarrow.parquet.read_table("a.parquet").to_pylist()
pyarrow.parquet.ParquetFile("a.parquet").schema_arrow.names
pyarrow.dataset.dataset("a.parquet").to_table().to_pylist()
str(pyarrow.csv.write_csv(table, "w.csv"))
str(pyarrow.dataset.write_dataset(table, "folder", format="parquet"))
pyarrow.fs.LocalFileSystem().open_input_file("a.txt").read()
pickle.loads(pickle.dumps(pyarrow.fs.LocalFileSystem())).open_input_stream("a.txt").read()
pyarrow.fs.SubTreeFileSystem(".", pyarrow.fs.LocalFileSystem()).open_input_file("a.txt").read()
pyarrow.fs.LocalFileSystem().open_output_stream("out.bin").write(b"x")
raised(lambda: pyarrow.fs.LocalFileSystem().open_input_file("missing.txt"))
raised(lambda: pyarrow.fs.LocalFileSystem().open_input_file())
named(pyarrow.fs.FileSystem.open_input_file)
sorted(vars(pyarrow.fs.FileSystem))
isinstance(pyarrow.OSFile("a.txt"), pyarrow.NativeFile)
type(pyarrow.OSFile("a.txt")) is pyarrow.lib.OSFile
isinstance(pyarrow.memory_map("a.txt"), pyarrow.MemoryMappedFile)
spied(pyarrow.parquet.read_table, "a.parquet")
spied(pyarrow.csv.read_csv, "a.csv")
raised(lambda: pyarrow.csv.read_csv("missing.csv"))
raised(lambda: pyarrow.parquet.read_table("missing.parquet"))
raised(lambda: pyarrow.csv.read_csv(3))
h5py.File("a.h5").filename
(h5py.File("b.h5", "w").close(), sorted(h5py.File("a.h5")))
raised(lambda: h5py.File("missing.h5"))
raised(lambda: h5py.File("a.h5", "nonsense"))
spied(h5py.File, "a.h5")
isinstance(h5py.File("a.h5"), h5py.Group)
raised(lambda: requests.get("http://127.0.0.1:9/"))
raised(lambda: httpx.get("http://127.0.0.1:9/"))
raised(lambda: urllib.request.urlopen("http://127.0.0.1:9/"))
raised(lambda: mlflow.artifacts.download_artifacts("runs:/" + "0" * 32 + "/x"))
raised(lambda: mlflow.MlflowClient().create_model_version("missing", "runs:/x/y"))
about(duckdb.sql)
named(duckdb.execute)
named(duckdb.connect)
about(duckdb.DuckDBPyConnection.sql)
named(duckdb.DuckDBPyConnection.execute)
about(duckdb.DuckDBPyRelation.write_csv)
about(polars.read_csv)
about(polars.scan_parquet)
about(polars.DataFrame.write_csv)
about(polars.LazyFrame.sink_parquet)
about(pandas.read_parquet)
about(pandas.DataFrame.to_parquet)
about(pyarrow.parquet.ParquetFile.__init__)
about(pyarrow.parquet.ParquetWriter.__init__)
about(pyarrow.parquet.read_table)
about(pyarrow.csv.read_csv)
about(pyarrow.dataset.dataset)
about(pyarrow.dataset.write_dataset)
about(pyarrow.OSFile)
named(pyarrow.memory_map)
about(h5py.File)
about(h5py.File.__init__)
about(requests.get)
about(requests.Session.send)
about(httpx.Client.send)
about(urllib.request.urlopen)
about(urllib.request.OpenerDirector.open)
about(mlflow.MlflowClient.download_artifacts)
[name for name in dir(pyarrow) if isinstance(getattr(pyarrow, name), type)]
[type(finder).__name__ for finder in sys.meta_path if "plugins_pack" not in type(finder).__module__]
"""


def _outcomes(folder: Path, enabled: str) -> list[Any]:
    folder.mkdir()
    lines = [PRELUDE, "outcomes = []"]
    for case in CASES.strip().splitlines():
        lines.append(f"def case():\n    return {case}\ntry:\n    outcomes.append(repr(case()))")
        lines.append(
            "except Exception as exc:\n    outcomes.append(f'{type(exc).__name__}: {exc}')"
        )
    lines.append("print(json.dumps(outcomes))")
    script = folder / "script.py"
    script.write_text("\n".join(lines))
    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=folder,
        env=servers.clean_environment(
            MLFLOW_PACK_LINEAGE_ENABLED=enabled,
            MLFLOW_TRACKING_URI=f"sqlite:///{folder}/tracking.db",
            MLFLOW_HTTP_REQUEST_MAX_RETRIES="0",
        ),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    outcomes = json.loads(done.stdout.splitlines()[-1])
    return [re.sub("at 0x[0-9a-f]+", "at", o.replace(str(folder), "FOLDER")) for o in outcomes]


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, Any, Any]]:
    """Each case with what it gives without and with the capture."""
    folder = tmp_path_factory.mktemp("transparency")
    off, on = (_outcomes(folder / name, name) for name in ("false", "true"))
    return list(zip(CASES.strip().splitlines(), off, on, strict=True))


def test_nothing_changes_with_the_capture_on(both: list[tuple[str, Any, Any]]) -> None:
    assert {case: (off, on) for case, off, on in both if off != on} == {}


def test_the_cases_do_what_they_are_for(both: list[tuple[str, Any, Any]]) -> None:
    assert len(both) >= 90
    outcomes = [off for _, off, _ in both]
    assert sum("Error" in outcome for outcome in outcomes) < 40
    assert outcomes[0] == "[(1, 'x'), (2, 'y')]"
