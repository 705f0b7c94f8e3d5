"""Processes that a training starts, in each of Python's ways, and ranks of a distributed one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mlflow_plugins_pack.lineage.capture import child_spool
from mlflow_plugins_pack.lineage.capture.event import READ, Event
from mlflow_plugins_pack.lineage.capture.libraries import install
from mlflow_plugins_pack.lineage.capture.libraries.table import LAYERS, TABLE
from mlflow_plugins_pack.lineage.session import early_start
from tests.lineage.support.reading import RunRecord
from tests.lineage.support.scripts import RunScript


def test_children_read_for_the_right_run(run_script: RunScript, database: str) -> None:
    """A pool that outlives a run, a child with a run of its own, a library's reader as the task."""
    outcome = run_script(
        """
        import json, multiprocessing, os, pathlib, subprocess, sys, glob, tempfile
        import mlflow, numpy
        def read(path):
            return len(open(path).read())
        def own_run(path):
            with mlflow.start_run() as run:
                open(path).read()
            return run.info.run_id
        if __name__ == "__main__":
            mlflow.set_experiment("children")
            for name in ("before", "one", "two", "between", "third", "parent", "own"):
                os.system(f"echo {name} > {name}.txt")
            os.system("cp $DATA/cancer.npy array.npy")
            context = multiprocessing.get_context("spawn" if len(sys.argv) > 1 else "fork")
            ids = {}
            with context.Pool(1) as pool:
                pool.map(read, ["before.txt"])
                for name in ("one", "two"):
                    with mlflow.start_run() as run:
                        pool.map(read, [name + ".txt"])
                    ids[name] = run.info.run_id
                    pool.map(read, ["between.txt"])
                with mlflow.start_run() as run:
                    pool.map(numpy.load, ["array.npy"])
                    with mlflow.start_run(nested=True) as child:
                        pool.map(read, ["third.txt"])
                ids["parent"], ids["child"] = run.info.run_id, child.info.run_id
            with mlflow.start_run() as run:
                with context.Pool(1) as pool:
                    ids["own"] = pool.map(own_run, ["own.txt"])[0]
            ids["starter"] = run.info.run_id
            left = os.environ["_MLFLOW_PACK_LINEAGE_SPOOL"]
            print(json.dumps([ids, left]))
        """,
        database,
    )
    ids, left = outcome.value
    own = {name: RunRecord(database, run_id).own() for name, run_id in ids.items()}
    assert own["one"] == {"before.txt", "one.txt"}
    assert own["two"] == {"between.txt", "two.txt"}
    assert own["child"] == {"third.txt"}
    assert own["parent"] == {"array.npy", "third.txt"}
    assert own["own"] == {"own.txt"}
    assert own["starter"] == set()
    assert not os.path.exists(left)


def test_what_a_child_wrote_is_intermediate_to_its_parent(
    run_script: RunScript, database: str
) -> None:
    outcome = run_script(
        """
        import json, multiprocessing, pathlib, mlflow
        def prepare(text):
            pathlib.Path("clean.txt").write_text(text)
        with mlflow.start_run() as run:
            process = multiprocessing.get_context("fork").Process(target=prepare, args=("x",))
            process.start()
            process.join()
            pathlib.Path("clean.txt").read_text()
        print(json.dumps(run.info.run_id))
        """,
        database,
    )
    record = RunRecord(database, outcome.value)
    assert record.outputs() == {"clean.txt"}
    assert record.entries()["clean.txt"]["r"] == "intermediate"


def test_later_ranks_report_to_rank_0(run_script: RunScript, database: str) -> None:
    """Two ranks started as torchrun starts them: the environment alone joins them."""
    outcome = run_script(
        """
        import json, os, pathlib, subprocess, sys, time
        if "RANK" not in os.environ:
            shared = dict(os.environ, MASTER_ADDR="127.0.0.1", MASTER_PORT="29517", WORLD_SIZE="2")
            ranks = [subprocess.Popen([sys.executable, __file__], env={**shared, "RANK": str(rank)})
                     for rank in range(2)]
            assert [rank.wait(100) for rank in ranks] == [0, 0]
            print(pathlib.Path("run").read_text())
            sys.exit()
        import mlflow
        rank = os.environ["RANK"]
        os.system(f"echo x > shard-{rank}.txt")
        def meet(name):
            pathlib.Path(f"{name}-{rank}").touch()
            while not all(pathlib.Path(f"{name}-{other}").exists() for other in "01"):
                time.sleep(0.02)
        if rank == "0":
            run = mlflow.start_run()
            pathlib.Path("id").write_text(run.info.run_id)
            meet("begun")
        else:
            meet("begun")
            mlflow.start_run(run_id=pathlib.Path("id").read_text())
        open(f"shard-{rank}.txt").read()
        meet("read")
        if rank == "0":
            mlflow.end_run()
            pathlib.Path("run").write_text(json.dumps(run.info.run_id))
        meet("ended")
        """,
        database,
    )
    assert {"shard-0.txt", "shard-1.txt"} <= RunRecord(database, outcome.value).own()


def test_early_start_sees_what_is_read_before_the_import(
    run_script: RunScript, database: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.setattr(early_start, "path", lambda: site / early_start.NAME)
    assert early_start.install().read_text() == early_start.LINE
    # As Python itself treats the folder of an environment.
    (tmp_path / "sitecustomize.py").write_text(f"import site; site.addsitedir({str(site)!r})")
    code = """
        import json, os, subprocess, sys
        open(os.environ["DATA"] + "/cancer.csv").read()
        import mlflow
        with mlflow.start_run() as run:
            path = os.environ["DATA"] + "/settings.yaml"
            subprocess.run([sys.executable, "-c", f"open({path!r}).read()"], check=True)
        print(json.dumps(run.info.run_id))
    """
    path = {"PYTHONPATH": str(tmp_path)}
    outcome = run_script(code, database, MLFLOW_PACK_LINEAGE_EARLY="true", **path)
    assert RunRecord(database, outcome.value).own() == {"cancer.csv", "settings.yaml"}
    # Installed, but not asked for: only children of captured programs take part.
    outcome = run_script(code, database, **path)
    assert RunRecord(database, outcome.value).own() == {"settings.yaml"}
    assert early_start.uninstall()
    assert not early_start.uninstall()


def test_early_line_is_harmless_where_the_package_is_gone(tmp_path: Path) -> None:
    (tmp_path / early_start.NAME).write_text(early_start.LINE)
    code = f"import site; site.addsitedir({str(tmp_path)!r}); print('fine')"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code],
        env={"MLFLOW_PACK_LINEAGE_EARLY": "true"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert (done.stdout, done.stderr) == ("fine\n", "")


@pytest.mark.parametrize("layer", ["audit", "wrap", "spool"])
def test_each_layer_can_be_switched_off(run_script: RunScript, database: str, layer: str) -> None:
    outcome = run_script(
        """
        import json, os, mlflow, pyarrow.parquet
        data = os.environ["DATA"]
        with mlflow.start_run() as run:
            open(data + "/cancer.csv").read()
            pyarrow.parquet.read_table(data + "/cancer.parquet")
            if os.fork() == 0:
                open(data + "/settings.yaml").read()
                os._exit(0)
            os.wait()
        print(json.dumps(run.info.run_id))
        """,
        database,
        MLFLOW_PACK_LINEAGE_CAPTURE=",".join(other for other in LAYERS if other != layer),
    )
    record = RunRecord(database, outcome.value)
    assert layer not in json.loads(record.tags["coverage"])["layers"]
    missing = {
        "audit": {"cancer.csv", "settings.yaml"},
        "wrap": {"cancer.parquet"},
        "spool": {"settings.yaml"},
    }[layer]
    assert record.own() == {"cancer.csv", "cancer.parquet", "settings.yaml"} - missing


@pytest.mark.parametrize("layer", sorted(TABLE))
def test_a_layer_that_is_off_waits_for_nothing(layer: str) -> None:
    others = install.modules(tuple(other for other in LAYERS if other != layer))
    assert not set(TABLE[layer]) & set(others)
    assert list(TABLE[layer]) == install.modules((layer,))


def test_spool_survives_whatever_lies_in_its_folder(tmp_path: Path) -> None:
    folder = str(tmp_path / "spool")
    assert child_spool.make(folder)
    assert child_spool.make(folder), "it is there, and this user's alone"
    reader, writer = child_spool.Reader(folder), child_spool.Writer(folder, ("run",))
    event = Event(7, READ, "/data/\udcff\n.csv", "audit", (), 1, None)
    writer.write(event)
    (tmp_path / "spool" / "broken.jsonl").write_text('{"x": 1}\n[1]\nnonsense\n["r"')
    assert list(reader.events(3)) == [event._replace(owners=("run",), thread=3)]
    assert list(reader.events(3)) == []
    writer.write(event._replace(where="/data/two.csv"))
    assert [found.where for found in reader.events(3)] == ["/data/two.csv"]
    reader.remove()
    child_spool.Writer(folder).write(event)
    assert list(reader.events(3)) == []


def test_spool_folder_of_somebody_else_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir(mode=0o777)
    (tmp_path / "open").chmod(0o777)
    assert not child_spool.make(str(tmp_path / "open"))
    assert not child_spool.make(str(tmp_path / "absent" / "folder"))


@pytest.mark.parametrize("module", ["building.builder", "fingerprints.hashing"])
def test_a_fork_while_the_worker_imports_leaves_no_hung_child(
    run_script: RunScript, database: str, module: str
) -> None:
    """A module that is half imported at a fork can never be imported in the child."""
    outcome = run_script(
        f"""
        import importlib.machinery, json, multiprocessing, pathlib, sys, threading, mlflow
        begun, name = threading.Event(), "mlflow_plugins_pack.lineage.{module}"
        class Slow:
            def find_spec(self, asked, path=None, target=None):
                if asked != name:
                    return None
                spec = importlib.machinery.PathFinder.find_spec(asked, path)
                execute = spec.loader.exec_module
                def slowly(module):
                    begun.set()
                    threading.Event().wait(2)
                    execute(module)
                spec.loader.exec_module = slowly
                return spec
        sys.meta_path.insert(0, Slow())
        def prepare():
            pathlib.Path("clean.txt").write_text("x")
        with mlflow.start_run() as run:
            assert begun.wait(60)
            process = multiprocessing.get_context("fork").Process(target=prepare)
            process.start()
            process.join(60)
            ended = process.exitcode
            process.kill()
        print(json.dumps([run.info.run_id, ended]))
        """,
        database,
    )
    run_id, ended = outcome.value
    assert ended == 0
    assert RunRecord(database, run_id).outputs() == {"clean.txt"}
