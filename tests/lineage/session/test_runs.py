"""What a run's record says, and when it is there; test_run_kinds.py has every kind of run."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from mlflow_plugins_pack.errors import LineageNotRecordedError
from mlflow_plugins_pack.lineage.capture.libraries.table import LAYERS
from mlflow_plugins_pack.lineage.query import api
from tests.lineage.support.reading import RunRecord
from tests.lineage.support.scripts import RunScript
from tests.support import servers


@pytest.fixture(params=["http", "sqlite"])
def tracking_uri(request: pytest.FixtureRequest) -> str:
    if request.param == "http":
        server: servers.MlflowServer = request.getfixturevalue("server")
        return server.url
    database: str = request.getfixturevalue("database")
    return database


def test_all_kinds_of_runs_in_one_program(run_script: RunScript, tracking_uri: str) -> None:
    outcome = run_script(
        """
        import concurrent.futures, json, os, shutil
        import mlflow, pandas
        DATA = os.environ["DATA"]
        ids = {}
        def copy(name):
            os.system(f"cp {DATA}/cancer.csv {name}")   # by another process: not a read of ours
        for name in ("preamble", "between", "inside", "plain", "parent", "child", "child2",
                     "sibling", "threaded", "helper", "resumed", "failed", "after"):
            copy(name + ".csv")
        read = lambda name: pandas.read_csv(name + ".csv")

        read("preamble")
        with mlflow.start_run() as run:
            ids["first"] = run.info.run_id
            read("inside")
        with mlflow.start_run() as run:
            ids["empty"] = run.info.run_id
        read("between")
        run = mlflow.start_run()
        ids["plain"] = run.info.run_id
        read("plain")
        read("plain")
        mlflow.end_run()
        with mlflow.start_run() as run:
            ids["parent"] = run.info.run_id
            read("parent")
            with mlflow.start_run(nested=True) as child:
                ids["child"] = child.info.run_id
                read("child")
            with mlflow.start_run(nested=True) as child:
                ids["child2"] = child.info.run_id
                read("child2")
        def in_thread(name):
            with mlflow.start_run() as run:
                read(name)
                return run.info.run_id
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            ids["threaded"], ids["sibling"] = pool.map(in_thread, ["threaded", "sibling"])
        with mlflow.start_run() as run:
            ids["helped"] = run.info.run_id
            with concurrent.futures.ThreadPoolExecutor(1) as pool:
                pool.submit(read, "helper").result()
        with mlflow.start_run(run_id=ids["first"]):
            read("resumed")
        try:
            with mlflow.start_run() as run:
                ids["failed"] = run.info.run_id
                read("failed")
                raise RuntimeError("as trainings do")
        except RuntimeError:
            pass
        run = mlflow.start_run()
        ids["unended"] = run.info.run_id
        read("after")
        print(json.dumps(ids))
        """,
        tracking_uri,
    )
    record = {name: RunRecord(tracking_uri, run_id) for name, run_id in outcome.value.items()}

    assert record["first"].inputs() == {"preamble.csv", "inside.csv", "resumed.csv"}
    assert record["empty"].inputs() == {"preamble.csv"}
    assert record["empty"].own() == set()
    assert record["plain"].own() == {"between.csv", "plain.csv"}
    assert record["plain"].inputs() == {"between.csv", "plain.csv", "preamble.csv"}
    assert record["parent"].own() == {"parent.csv", "child.csv", "child2.csv"}
    assert record["child"].own() == {"child.csv"}
    assert record["child"].inputs() == {"child.csv", "parent.csv", "preamble.csv"}
    assert record["child2"].own() == {"child2.csv"}
    assert record["threaded"].own() == {"threaded.csv"}
    assert record["sibling"].own() == {"sibling.csv"}
    assert record["helped"].own() == {"helper.csv"}
    assert record["failed"].own() == {"failed.csv"}
    assert record["failed"].status == "FAILED"
    assert record["unended"].own() == {"after.csv"}
    assert record["unended"].status == "FINISHED"
    for one in record.values():
        assert one.tags["schema"] == "1"
        assert json.loads(one.tags["coverage"])["layers"] == list(LAYERS)
        assert json.loads(one.tags["code"])["entry"] == (outcome.folder / "train.py").as_uri()


def test_resumed_in_another_process_keeps_what_was_there(
    run_script: RunScript, server: servers.MlflowServer, tmp_path: Path
) -> None:
    tracking_uri = server.url
    first = run_script(
        """
        import json, os, pandas, mlflow
        with mlflow.start_run() as run:
            pandas.read_csv(os.environ["DATA"] + "/cancer.csv")
        print(json.dumps(run.info.run_id))
        """,
        tracking_uri,
    ).value
    run_script(
        f"""
        import os, pandas, mlflow
        frame = pandas.read_parquet(os.environ["DATA"] + "/cancer.parquet")
        with mlflow.start_run(run_id="{first}"):
            pass
        """,
        tracking_uri,
    )
    record = RunRecord(tracking_uri, first)
    assert record.inputs() == {"cancer.csv", "cancer.parquet"}
    names = {Path(e["u"]).name for e in record.document(tmp_path)["inputs"]}
    assert names == {"cancer.csv", "cancer.parquet"}
    assert set(record.datasets()) == {"cancer.csv", "cancer.parquet"}


def test_client_only_run_is_attached(run_script: RunScript, server: servers.MlflowServer) -> None:
    tracking_uri = server.url
    ids = run_script(
        """
        import json, os, mlflow
        from mlflow_plugins_pack import lineage
        client = mlflow.MlflowClient()
        data = os.environ["DATA"]
        ids = [client.create_run("0").info.run_id for _ in range(3)]
        with lineage.attach(ids[0]):
            open(data + "/cancer.csv").read()
        client.set_terminated(ids[0])
        lineage.attach(ids[1])
        open(data + "/cancer.npy", "rb").read()
        client.set_terminated(ids[1])
        assert "lineage.inputs" in client.get_run(ids[1]).data.tags
        lineage.attach(ids[2])
        open(data + "/settings.yaml").read()
        print(json.dumps(ids))
        """,
        tracking_uri,
    ).value
    records = [RunRecord(tracking_uri, run_id) for run_id in ids]
    assert records[0].own() == {"cancer.csv"}
    assert "cancer.npy" in records[1].own()
    assert records[2].entries()["settings.yaml"]["r"] == "config"


CLIENT_RUNS = """
import json, os, mlflow
client, data = mlflow.MlflowClient(), os.environ["DATA"]
open(data + "/settings.yaml").read()
alone = client.create_run("0").info.run_id
open(data + "/cancer.csv").read()
open("out.txt", "w").close()
client.log_metric(alone, "m", 1)
client.set_terminated(alone)
first = client.create_run("0").info.run_id
open(data + "/cancer.npy", "rb").read()
second = client.create_run("0").info.run_id
open(data + "/cancer.parquet", "rb").read()
client.set_terminated(second)
client.set_terminated(first)
with mlflow.start_run() as run:
    open(data + "/cancer.csv").read()
    nested = client.create_run("0").info.run_id
    client.set_terminated(nested)
left = client.create_run("0").info.run_id
open(data + "/cancer.csv").read()
print(json.dumps([alone, first, second, run.info.run_id, nested, left]))
"""


def test_runs_of_clients_have_what_can_be_attributed(
    run_script: RunScript, tracking_uri: str
) -> None:
    ids = run_script(CLIENT_RUNS, tracking_uri).value
    records = [RunRecord(tracking_uri, run_id) for run_id in ids]
    alone, first, second, active, nested, left = records
    applies = [json.loads(record.tags["coverage"]).get("applies") for record in records]
    assert applies == [None, "partly", "not", None, "not", None]
    assert alone.own() == {"settings.yaml", "cancer.csv"}
    assert alone.outputs() == {"out.txt"}
    assert first.own() == {"cancer.npy"}
    assert "cancer.csv" in active.own()
    assert left.own() == {"cancer.csv"}
    for record in (second, nested):
        assert set(record.tags) == {"schema", "coverage"}
        assert record.status == "FINISHED"
        with pytest.raises(LineageNotRecordedError, match="while other runs were open"):
            api.run_lineage(record.run.info.run_id, tracking_uri=tracking_uri)


def test_record_is_there_before_the_run_is_seen_as_finished(
    run_script: RunScript, server: servers.MlflowServer
) -> None:
    """Asks from outside, at the moment when the server learns that the run has ended."""
    outcome = run_script(
        """
        import json, os, mlflow
        from mlflow.tracking._tracking_service.client import TrackingServiceClient
        from mlflow.store.tracking.rest_store import RestStore
        seen = {}
        send = RestStore.update_run_info
        def update_run_info(self, run_id, *args, **kwargs):
            result = send(self, run_id, *args, **kwargs)
            run = mlflow.MlflowClient().get_run(run_id)
            seen[run.info.status] = "lineage.inputs" in run.data.tags
            return result
        RestStore.update_run_info = update_run_info
        with mlflow.start_run():
            open(os.environ["DATA"] + "/cancer.csv").read()
        print(json.dumps(seen))
        """,
        server.url,
    )
    assert outcome.value == {"FINISHED": True}


def test_system_metrics_and_asynchronous_logging_go_along(
    run_script: RunScript, database: str
) -> None:
    outcome = run_script(
        """
        import json, os, threading, mlflow
        from mlflow.tracking import fluent
        mlflow.config.enable_async_logging()
        with mlflow.start_run(log_system_metrics=True) as run:
            monitor = fluent.run_id_to_system_metrics_monitor[run.info.run_id]
            open(os.environ["DATA"] + "/cancer.csv").read()
            mlflow.log_metric("late", 1.0)
        assert monitor._shutdown_event.is_set()
        assert not fluent.run_id_to_system_metrics_monitor
        print(json.dumps(run.info.run_id))
        """,
        database,
    )
    record = RunRecord(database, outcome.value)
    assert record.own() == {"cancer.csv"}
    assert record.run.data.metrics["late"] == 1.0


def test_server_away_costs_a_bounded_wait_and_one_warning(
    run_script: RunScript, tmp_path: Path, database: str
) -> None:
    """The tracking server vanishes after runs began; training goes on, and the program ends."""
    with servers.mlflow_server(tmp_path / "gone", MLFLOW_PACK_LINEAGE_ENABLED="false") as server:
        outcome = run_script(
            f"""
            import atexit, json, os, signal, time
            @atexit.register
            def at_end():
                print(json.dumps({{"ids": attached, "seconds": time.monotonic() - began}}))
            import mlflow
            from mlflow_plugins_pack.lineage import attach
            client = mlflow.MlflowClient()
            never_ended = [client.create_run("0") for _ in range(3)]
            attached = [client.create_run("0").info.run_id for _ in range(2)]
            os.killpg({server.process.pid}, signal.SIGKILL)
            began = time.monotonic()
            for run_id in attached:
                with attach(run_id):
                    open(os.environ["DATA"] + "/cancer.csv").read()
            """,
            server.url,
            warns=True,
        )
    assert outcome.value["seconds"] < 25
    assert outcome.output.count("could not be written") == 1
    assert "mlflow-pack lineage push" in outcome.output
    kept = sorted((tmp_path / "home/.local/state/mlflow-pack/lineage").glob("*.json"))
    assert {path.stem.split("-")[0] for path in kept} >= set(outcome.value["ids"])
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(f"{server.url}/health", timeout=1)


def test_fork_while_facts_are_gathered(run_script: RunScript, database: str) -> None:
    outcome = run_script(
        """
        import json, os, sys, threading, mlflow
        from mlflow_plugins_pack.lineage.building import environment as provenance
        data, code, parent = os.environ["DATA"], provenance.code, os.getpid()
        begun, go_on = threading.Event(), threading.Event()
        def slow(home, **options):
            if os.getpid() == parent:
                begun.set()
                go_on.wait(100)
            return code(home, **options)
        provenance.code = slow
        with mlflow.start_run() as run:
            assert begun.wait(100)
            child = os.fork()
            if child == 0:
                with mlflow.start_run() as own:
                    open(data + "/cancer.npy", "rb").read()
                open("child.txt", "w").write(own.info.run_id)
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
            go_on.set()
        print(json.dumps(open("child.txt").read()))
        """,
        database,
    )
    assert RunRecord(database, outcome.value).own() == {"cancer.npy"}
