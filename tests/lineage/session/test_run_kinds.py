"""Every kind of run, through a database, a server, and a server that goes away before the end.

One script for each kind, the same in each cell. It writes down its runs' ids, and says where in it
the server goes away, which happens in the last cell only. There the exit code is the one that stock
MLflow gives the script (`test_exit_codes_are_stocks_own` runs them without lineage), the record is
kept on the machine, and `mlflow-pack lineage push` writes it once the server is back.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from click.testing import CliRunner

from mlflow_plugins_pack.cli.lineage.group import lineage
from tests.lineage.support.reading import RunRecord
from tests.lineage.support.scripts import Outcome, run_in
from tests.support import servers

AT_ONCE = 2
KILLED = -9

CELLS: Mapping[str, Mapping[str, str]] = {
    "database": {},
    "server": {
        "MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING": "true",
        "MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL": "1",
        "MLFLOW_ENABLE_ASYNC_LOGGING": "true",
    },
    "server goes away": {
        "MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING": "true",
        "MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL": "1",
        "MLFLOW_ENABLE_ASYNC_LOGGING": "true",
        # Stock tries for four minutes; what lineage does meanwhile is tested in test_runs.py.
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    },
}
AWAY = "server goes away"

PRELUDE = """
import os, pathlib, socket, urllib.parse
import mlflow
FOLDER = pathlib.Path(os.environ["FOLDER"])

def read(name):
    return (FOLDER / f"{name}.txt").read_text()

def note(name, run):
    (FOLDER / "runs" / f".{name}").write_text(run.info.run_id)   # the dot: no data
    mlflow.MlflowClient().log_metric(run.info.run_id, "loss", 0.5)

def server_goes_away():
    if os.environ["CELL"] == "server goes away":
        port = urllib.parse.urlsplit(os.environ["MLFLOW_TRACKING_URI"]).port
        try:
            with socket.create_connection(("127.0.0.1", port)) as line:
                line.sendall(b"SHUT")
                line.recv(1)
        except ConnectionRefusedError:
            pass                                    # it has gone already
"""


@dataclass(frozen=True)
class Kind:
    """A kind of run.

    Attributes:
        script: The program, after ``from prelude import *``.
        inputs: By run, the first letters of the files that its record must name, and no other.
        code: Its exit code.
        code_away: Its exit code where the server goes away: stock's end of a run fails then.
        only_up: Runs that stock makes at the end only, and so not where the server has gone.
        without: Cells that cannot be, with the reason.
        settings: Of lineage.
    """

    script: str
    inputs: Mapping[str, str]
    code: int = 0
    code_away: int = 1
    only_up: frozenset[str] = frozenset()
    without: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)


KINDS = {
    "nested": Kind(
        """
        with mlflow.start_run() as run:
            note("parent", run)
            read("a")
            with mlflow.start_run(nested=True) as child:
                note("child", child)
                read("b")
                server_goes_away()
        """,
        {"parent": "ab", "child": "ab"},
    ),
    "resumed": Kind(
        """
        with mlflow.start_run() as run:
            note("run", run)
            read("a")
        with mlflow.start_run(run_id=run.info.run_id):
            read("b")
            server_goes_away()
        """,
        {"run": "ab"},
    ),
    "threaded": Kind(
        """
        import concurrent.futures
        with mlflow.start_run() as run, concurrent.futures.ThreadPoolExecutor(2) as pool:
            note("run", run)
            list(pool.map(read, "ab"))
            server_goes_away()
        """,
        {"run": "ab"},
    ),
    "concurrent": Kind(
        """
        import concurrent.futures, threading
        begun, done = threading.Barrier(2), threading.Barrier(2, action=server_goes_away)
        def train(name):
            with mlflow.start_run() as run:
                note(name, run)
                begun.wait()
                read(name)
                done.wait()
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            list(pool.map(train, "ab"))
        """,
        {"a": "a", "b": "b"},
    ),
    "mlflow run": Kind(
        """
        project = FOLDER / "project"
        project.mkdir()
        (project / "MLproject").write_text(
            "name: p\\nentry_points:\\n  main:\\n    command: python main.py\\n")
        (project / "main.py").write_text(
            "from prelude import *\\n"
            "with mlflow.start_run() as run:\\n"
            "    note('run', run)\\n"
            "    read('a')\\n"
            "    server_goes_away()\\n")
        mlflow.projects.run(str(project), env_manager="local")
        """,
        {"run": "a"},
    ),
    "client-only": Kind(
        """
        from mlflow_plugins_pack.lineage import attach
        client = mlflow.MlflowClient()
        run = client.create_run("0")
        note("run", run)
        with attach(run.info.run_id):
            read("a")
            server_goes_away()
        client.set_terminated(run.info.run_id)
        """,
        {"run": "a"},
    ),
    "notebook": Kind(
        """
        import nbclient, nbformat
        read_a = "frame = read('a')"
        cells = ["from prelude import *", "run = mlflow.start_run()", "note('run', run)",
                 read_a, read_a, "read('b')", "server_goes_away()", "mlflow.end_run()"]
        book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
        nbclient.NotebookClient(book, timeout=100, kernel_name="python3").execute()
        """,
        {"run": "ab"},
    ),
    "autologged": Kind(
        """
        from sklearn.linear_model import LinearRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import FunctionTransformer
        mlflow.sklearn.autolog(log_models=False, silent=True)
        read("a")
        def step(x):
            if mlflow.active_run():
                note("run", mlflow.active_run())
                read("b")
                server_goes_away()
            return x
        x = [[number] for number in range(9)]
        make_pipeline(FunctionTransformer(step), LinearRegression()).fit(x, x)
        """,
        {"run": "ab"},
        code_away=0,  # autologging swallows what fails
    ),
    "search": Kind(
        """
        import numpy
        from sklearn.model_selection import GridSearchCV
        from sklearn.tree import DecisionTreeClassifier
        mlflow.sklearn.autolog(log_models=False, silent=True)
        def score(model, x, y):
            if mlflow.active_run() and not (FOLDER / "runs/.search").exists():
                note("search", mlflow.active_run())
                read("a")
                server_goes_away()
            return model.score(x, y)
        x, y = numpy.arange(20.0).reshape(-1, 1), numpy.array([0, 1] * 10)
        search = GridSearchCV(DecisionTreeClassifier(), {"max_depth": [1, 2]}, cv=2, scoring=score)
        search.fit(x, y)
        if os.environ["CELL"] != "server goes away":
            for number, child in enumerate(mlflow.search_runs(
                filter_string="tags.`mlflow.parentRunId` LIKE '%'", output_format="list")):
                if child.data.tags["mlflow.parentRunId"] == (FOLDER / "runs/.search").read_text():
                    note(f"child{number % 2}", child)
        """,
        {"search": "a", "child0": "a", "child1": "a"},
        code_away=0,  # autologging swallows what fails
        only_up=frozenset({"child0", "child1"}),
    ),
    "crashed": Kind(
        """
        run = mlflow.start_run()
        note("run", run)
        read("a")
        server_goes_away()
        raise RuntimeError("as trainings do")
        """,
        {"run": "a"},
        code=1,
    ),
    "killed": Kind(
        """
        import signal, time
        run = mlflow.start_run()
        note("run", run)
        read("a")
        while "lineage.inputs" not in mlflow.get_run(run.info.run_id).data.tags:
            time.sleep(0.1)
        os.kill(os.getpid(), signal.SIGKILL)
        """,
        {"run": "a"},
        code=KILLED,
        without={AWAY: "a killed process can keep nothing; what it had written before is there"},
        settings={"MLFLOW_PACK_LINEAGE_FLUSH_SECONDS": "1"},
    ),
    "forked": Kind(
        """
        with mlflow.start_run() as run:
            note("parent", run)
            read("a")
            child = os.fork()
            if child == 0:
                try:
                    read("b")                       # before it has a run of its own: the parent's
                    with mlflow.start_run() as own:
                        note("child", own)
                        read("c")
                        server_goes_away()
                finally:
                    os._exit(0)
            os.waitpid(child, 0)
        """,
        {"parent": "ab", "child": "abc"},
        # A forked child of stock MLflow never ends if its parent has begun to log in this way.
        settings={"MLFLOW_ENABLE_ASYNC_LOGGING": "false"},
    ),
    "distributed": Kind(
        """
        import subprocess, sys, time
        def meet(name):
            (FOLDER / f"{name}-{rank}").touch()
            while not all((FOLDER / f"{name}-{other}").exists() for other in "01"):
                time.sleep(0.02)
        if "RANK" not in os.environ:
            group = dict(os.environ, MASTER_ADDR="127.0.0.1", MASTER_PORT="29517", WORLD_SIZE="2",
                         TORCHELASTIC_RUN_ID=str(FOLDER))
            ranks = [subprocess.Popen([sys.executable, __file__], env={**group, "RANK": str(rank)})
                     for rank in range(2)]
            sys.exit(max([rank.wait(100) for rank in ranks]))
        rank = os.environ["RANK"]
        if rank == "0":
            run = mlflow.start_run()
            note("run", run)
            meet("begun")
            read("a")
        else:
            meet("begun")
            mlflow.start_run(run_id=(FOLDER / "runs" / ".run").read_text())
            read("b")
        meet("read")
        if rank == "0":
            server_goes_away()
            try:
                mlflow.end_run()
            finally:
                meet("ended")
        else:
            meet("ended")
        """,
        {"run": "ab"},
    ),
}
CELLS_OF_KINDS = [
    pytest.param(kind, cell, id=f"{kind}-{cell}".replace(" ", "_"))
    for cell in CELLS
    for kind in KINDS
    if cell not in KINDS[kind].without
]


class Link:
    """A way to a server that a script closes by saying ``SHUT``; connections are refused then.

    The port stays taken while it is shut, so no other process can be given it.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._lines: list[socket.socket] = []
        self._lock = threading.Lock()
        self._is_shut = True
        self.port = servers.free_port()
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind(("127.0.0.1", self.port))

    def open(self) -> None:
        self._is_shut = False
        self._listener.listen(64)
        threading.Thread(target=self._accept, daemon=True).start()

    def shut(self) -> None:
        with self._lock:
            if self._is_shut:
                return
            self._is_shut = True
            # Linux: no longer a listening socket, but still a bound one.
            self._listener.shutdown(socket.SHUT_RDWR)
            for line in self._lines:
                with contextlib.suppress(OSError):
                    line.shutdown(socket.SHUT_RDWR)
            self._lines.clear()

    def close(self) -> None:
        self.shut()
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # shut
            while True:
                line, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(line,), daemon=True).start()

    def _serve(self, line: socket.socket) -> None:
        with line, contextlib.suppress(OSError):
            said = line.recv(1 << 16)
            if said == b"SHUT":
                self.shut()
                return
            with socket.create_connection(("127.0.0.1", self._target)) as server:
                with self._lock:
                    if self._is_shut:
                        return
                    self._lines += line, server
                server.sendall(said)
                back = threading.Thread(target=_pump, args=(server, line), daemon=True)
                back.start()
                _pump(line, server)
                back.join()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


@dataclass(frozen=True)
class Done:
    """What became of one script.

    Attributes:
        outcome: Of its process.
        runs: Its runs' ids by their names in the table.
        link: The way to the server that it closed.
    """

    outcome: Outcome
    runs: dict[str, str]
    link: Link | None


class Trainings:
    """Runs scripts, each in a folder of its own."""

    def __init__(self, folder: Path, database: str, server: servers.MlflowServer) -> None:
        self.folder, self.database, self.server = folder, database, server
        (folder / "prelude").mkdir()
        (folder / "prelude" / "prelude.py").write_text(PRELUDE)

    def run(self, kind: str, cell: str, **environment: str) -> Done:
        folder = self.folder / f"{kind}-{cell}-{len(environment)}".replace(" ", "_")
        (folder / "runs").mkdir(parents=True)
        for name in "abc":
            (folder / f"{name}.txt").write_text(f"{name} of {kind}, {cell}")
        uri, link = {"database": self.database}.get(cell, self.server.url), None
        if cell == AWAY:
            link = Link(int(self.server.url.rpartition(":")[2]))
            link.open()
            uri = f"http://127.0.0.1:{link.port}"
        settings = {**CELLS[cell], **KINDS[kind].settings, **environment}
        outcome = run_in(
            folder,
            "        from prelude import *\n" + KINDS[kind].script,
            uri,
            expect=None,
            warns=cell == AWAY,
            CELL=cell,
            FOLDER=str(folder),
            PYTHONPATH=str(self.folder / "prelude"),
            XDG_STATE_HOME=str(folder / "state"),
            **settings,
        )
        runs = {path.name[1:]: path.read_text() for path in (folder / "runs").iterdir()}
        return Done(outcome, runs, link)


@pytest.fixture(scope="module")
def trainings(
    tmp_path_factory: pytest.TempPathFactory, database: str, server: servers.MlflowServer
) -> Trainings:
    return Trainings(tmp_path_factory.mktemp("kinds"), database, server)


@pytest.fixture(scope="module")
def done(
    request: pytest.FixtureRequest, trainings: Trainings
) -> Iterator[dict[tuple[str, str], Future[Done]]]:
    """All scripts that this session's tests ask for, two at a time."""
    asked = [
        (item.callspec.params["kind"], item.callspec.params["cell"])
        for item in request.session.items
        if isinstance(item, pytest.Function)
        and item.module is request.module
        and "done" in item.fixturenames
    ]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield {each: pool.submit(trainings.run, *each) for each in asked}


@pytest.mark.parametrize(("kind", "cell"), CELLS_OF_KINDS)
def test_run_has_its_record(
    done: dict[tuple[str, str], Future[Done]],
    trainings: Trainings,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    cell: str,
) -> None:
    what, training = KINDS[kind], done[kind, cell].result()
    outcome, link = training.outcome, training.link
    assert outcome.code == (what.code if link is None else what.code_away), outcome.output
    expected = {
        name: {f"{letter}.txt" for letter in letters}
        for name, letters in what.inputs.items()
        if link is None or name not in what.only_up
    }
    assert set(training.runs) == set(expected), outcome.output
    if link is not None:
        assert "could not be written" in outcome.output
        monkeypatch.setenv("XDG_STATE_HOME", str(outcome.folder / "state"))
        link.open()
        try:
            pushed = CliRunner().invoke(lineage, ["push", "--json"])
        finally:
            link.close()
        assert pushed.exit_code == 0, pushed.output
        rows = json.loads(pushed.stdout)
        assert {row["run"]: row["result"] for row in rows} == dict.fromkeys(
            training.runs.values(), "written"
        )
        assert not list((outcome.folder / "state").rglob("*.json"))
    uri = trainings.database if cell == "database" else trainings.server.url
    records = {name: RunRecord(uri, run_id) for name, run_id in training.runs.items()}
    assert {name: record.inputs() for name, record in records.items()} == expected
    if link is None and kind not in ("crashed", "killed"):
        # Asynchronous logging ended as it should; at a crash stock itself gives up what waits, and
        # what is logged to runs that have ended.
        own = [record for name, record in records.items() if name not in what.only_up]
        assert all("loss" in record.run.data.metrics for record in own)


if os.environ.get("MLFLOW_PACK_STOCK_EXIT_CODES"):  # all scripts again, without lineage

    @pytest.mark.parametrize("kind", [kind for kind in KINDS if AWAY not in KINDS[kind].without])
    def test_exit_codes_are_stocks_own(trainings: Trainings, kind: str) -> None:
        stock = trainings.run(kind, AWAY, MLFLOW_PACK_LINEAGE_ENABLED="false")
        assert stock.outcome.code == KINDS[kind].code_away, stock.outcome.output
        assert stock.link is not None
        stock.link.close()
