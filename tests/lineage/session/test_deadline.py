"""The end of a run has one deadline, whatever it meets, and the run's own record comes first."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from tests.lineage.support.reading import RunRecord
from tests.lineage.support.scripts import RunScript

SECONDS = 10.0
_SLOW_MACHINE = 6.0


@pytest.fixture
def dripping() -> Iterator[str]:
    """The address of a server that answers one byte a second, and never finishes."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        over = threading.Event()

        def drip(connection: socket.socket) -> None:
            with connection:
                connection.recv(65_536)
                while not over.wait(0.5):
                    try:
                        connection.sendall(b"H")
                    except OSError:
                        return

        def accept() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                threading.Thread(target=drip, args=(connection,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}/"
        over.set()


SCRIPT = """
import json, os, sys, threading, time
import mlflow
for name in ("a.csv", "b.csv", "fifo.csv", "dead.csv"):
    with open(name, "w") as file:
        file.write(name)
with mlflow.start_run():
    pass
genuine = os.stat
is_dead = threading.Event()
def stat(path, *args, **kwargs):
    # Stands for a file on a mount that does not answer.
    if DEAD and is_dead.is_set() and str(path).endswith("dead.csv"):
        time.sleep(1000)
    return genuine(path, *args, **kwargs)
os.stat = stat
ids, seconds = [], []
for _ in range(RUNS):
    with mlflow.start_run() as run:
        for name in ("a.csv", "b.csv", "fifo.csv", "dead.csv"):
            if os.path.isfile(name):
                open(name).read()
        open("out.csv", "w").close()
        if os.path.isfile("fifo.csv"):
            os.remove("fifo.csv")
            os.mkfifo("fifo.csv")
        is_dead.set()
        began = time.monotonic()
    seconds.append(time.monotonic() - began)
    ids.append(run.info.run_id)
    is_dead.clear()
ended = time.time()
print(json.dumps([ids, seconds, ended]))
"""


def _script(*, dead: bool, runs: int) -> str:
    return f"DEAD, RUNS = {dead}, {runs}\n{SCRIPT}"


def test_a_path_that_became_a_fifo_is_not_waited_for(run_script: RunScript, database: str) -> None:
    ids, seconds, _ = run_script(_script(dead=False, runs=1), database).value
    assert seconds[0] < 2 + _SLOW_MACHINE
    entries = RunRecord(database, ids[0]).entries()
    assert entries["fifo.csv"]["changed"]
    assert entries["a.csv"]["h"].startswith("sha256:")


def test_everything_at_once(run_script: RunScript, database: str, dripping: str) -> None:
    """A FIFO, a mount that does not answer, and a receiver that drips its answer."""
    outcome = run_script(
        _script(dead=True, runs=2),
        database,
        warns=True,
        MLFLOW_PACK_LINEAGE_OPENLINEAGE_URL=dripping,
    )
    over = time.time()
    ids, seconds, ended = outcome.value
    assert all(one < SECONDS + _SLOW_MACHINE for one in seconds), seconds
    assert over - ended < SECONDS + 2 * _SLOW_MACHINE
    for run_id in ids:
        record = RunRecord(database, run_id)
        assert {"a.csv", "b.csv", "dead.csv"} <= record.inputs()
        assert record.outputs() == {"out.csv"}
        assert '"unchecked":true' in record.tags["coverage"]
    assert "could not be reported to" in outcome.output
    assert "could not be written" not in outcome.output


def test_a_server_that_is_gone_costs_one_deadline(run_script: RunScript) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        outcome = run_script(
            """
            import json, time
            from mlflow_plugins_pack.lineage.session import session
            import mlflow
            session.start()
            current = session.current()
            current.attach("0" * 32, mlflow.get_tracking_uri())
            open("x.csv", "w").close()
            began = time.monotonic()
            current.detach("0" * 32)
            print(json.dumps([time.monotonic() - began]))
            """,
            f"http://127.0.0.1:{silent.getsockname()[1]}",
            warns=True,
        )
    assert outcome.value[0] < SECONDS + _SLOW_MACHINE
    assert "mlflow-pack lineage push" in outcome.output
