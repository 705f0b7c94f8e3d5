"""The end of a run has one deadline, whatever it meets, and the run's own record comes first."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lineage.support.reading import RunRecord
from tests.lineage.support.scripts import RunScript
from tests.support.stopping_mount import stopping_mount

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


@pytest.fixture
def dead(tmp_path: Path) -> Iterator[dict[str, str]]:
    """Settings that name a file, and the process that answers for it until it is stopped."""
    (tmp_path / "mount").mkdir()
    with stopping_mount(tmp_path / "mount", "dead.csv", b"x\n1\n") as mount:
        if mount is None:
            pytest.skip("no file system can be mounted here")
        yield {"DEAD_FILE": str(mount.file), "DEAD_SERVER": str(mount.server)}


PRELUDE = """
import json, os, signal, threading, time
import mlflow
file, server = os.environ.get("DEAD_FILE"), int(os.environ.get("DEAD_SERVER", "0"))
names = ["a.csv", "b.csv", "fifo.csv", *[file] * bool(file)]
for name in names[:3]:
    with open(name, "w") as made:
        made.write(name)
os.mkfifo("pipe.csv")
def send():
    with open("pipe.csv", "w") as pipe:
        pipe.write("x")
def read():
    for name in names:
        if os.path.isfile(name):
            open(name).read()
    threading.Thread(target=send).start()
    open("pipe.csv").read()
    open("out.csv", "w").close()
def break_down():
    if os.path.isfile("fifo.csv"):
        os.remove("fifo.csv")
        os.mkfifo("fifo.csv")
    if server:
        os.kill(server, signal.SIGSTOP)
def recover():
    if server:
        os.kill(server, signal.SIGCONT)
"""
RUNS = """
with mlflow.start_run():
    pass
ids, seconds = [], []
for _ in range(RUNS):
    with mlflow.start_run() as run:
        read()
        break_down()
        began = time.monotonic()
    seconds.append(time.monotonic() - began)
    ids.append(run.info.run_id)
    recover()
ended = time.time()
print(json.dumps([ids, seconds, ended]))
"""


def test_a_path_that_became_a_fifo_is_not_waited_for(run_script: RunScript, database: str) -> None:
    ids, seconds, _ = run_script(f"RUNS = 1{PRELUDE}{RUNS}", database).value
    assert seconds[0] < 2 + _SLOW_MACHINE
    entries = RunRecord(database, ids[0]).entries()
    assert entries["fifo.csv"]["changed"]
    assert entries["a.csv"]["h"].startswith("sha256:")


def test_everything_at_once(
    run_script: RunScript, database: str, dripping: str, dead: dict[str, str]
) -> None:
    """A pipe, a FIFO in a file's place, a mount that does not answer, a receiver that drips."""
    outcome = run_script(
        f"RUNS = 2{PRELUDE}{RUNS}",
        database,
        warns=True,
        MLFLOW_PACK_LINEAGE_OPENLINEAGE_URL=dripping,
        **dead,
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


def test_everything_at_once_and_the_server_is_gone_too(
    run_script: RunScript, dripping: str, dead: dict[str, str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        outcome = run_script(
            f"""{PRELUDE}
from mlflow_plugins_pack import lineage
attached = lineage.attach("0" * 32)
read()
break_down()
began = time.monotonic()
attached.detach()
print(json.dumps([time.monotonic() - began, time.time()]))
""",
            f"http://127.0.0.1:{silent.getsockname()[1]}",
            warns=True,
            MLFLOW_PACK_LINEAGE_OPENLINEAGE_URL=dripping,
            **dead,
        )
    over = time.time()
    seconds, ended = outcome.value
    assert seconds < SECONDS + _SLOW_MACHINE
    assert over - ended < SECONDS + 2 * _SLOW_MACHINE
    assert "mlflow-pack lineage push" in outcome.output


def test_a_machine_that_was_busy_once_is_not_a_dead_mount(
    run_script: RunScript, database: str
) -> None:
    """The look at the first run's files ends too late, but it ends: the second run has its time."""
    outcome = run_script(
        """
        import json, time, mlflow
        from mlflow_plugins_pack.lineage.building.builder import GraphBuilder
        from mlflow_plugins_pack.lineage.session import records
        records._LOOK_SECONDS = 2.0
        seconds, ids = [3.0, 1.5], []
        original = GraphBuilder.build
        def build(self, *arguments, **options):
            if options["looks"] and seconds:
                time.sleep(seconds.pop(0))
            return original(self, *arguments, **options)
        for number in range(2):
            GraphBuilder.build = build
            with mlflow.start_run() as run:
                open("train.py").close()
                open(f"{number}.csv", "w").write("x")
            ids.append(run.info.run_id)
            time.sleep(2)
        print(json.dumps(ids))
        """,
        database,
    )
    first, second = (RunRecord(database, run_id).tags["coverage"] for run_id in outcome.value)
    assert '"unchecked":true' in first
    assert "unchecked" not in second
