"""The places where bytes enter lineage: what programs open, and what other runs recorded."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
from click.testing import CliRunner

from mlflow_plugins_pack.cli.main import cli
from mlflow_plugins_pack.errors import PackError
from mlflow_plugins_pack.lineage.capture.child_spool import Reader
from mlflow_plugins_pack.lineage.capture.event import READ, Event
from mlflow_plugins_pack.lineage.capture.libraries.sql_statements import events_of
from mlflow_plugins_pack.lineage.delivery.openlineage import report
from mlflow_plugins_pack.lineage.document.graph import Graph
from mlflow_plugins_pack.lineage.fingerprints import dvc, git
from tests.fuzz.support.odd_inputs import Odd
from tests.fuzz.support.odd_server import OddServer
from tests.fuzz.support.running import FuzzError, Place
from tests.lineage.support.scripts import run_in

SQL = (
    "SELECT a.x, b.y FROM db.a JOIN b ON a.i = b.i WHERE n IN (1, 2) AND t = 'x' UNION SELECT 1, 2"
)
ENTRY = {"u": "file:///a.csv", "r": "data", "h": "sha256:00", "s": 3, "via": "open", "files": 2}
DOCUMENT = "lineage/lineage.json"
DVC = "outs:\n- md5: d41d8cd98f00b204e9800998ecf8427e\n  size: 3\n  hash: md5\n  path: a.csv\n"
LOCK = (
    "schema: '2.0'\nstages:\n  s:\n    cmd: x\n    outs:\n    - {path: a.csv, md5: 00, size: 3}\n"
)
OPENING = """
import json, os, mlflow
names = json.load(open("names.json"))
with mlflow.start_run() as run:
    open("good.csv").read()
    for name in names:
        try:
            with open(name, "w") as file:
                file.write("x")
            open(name).read()
        except (OSError, ValueError, UnicodeError):
            pass
print(json.dumps(run.info.run_id))
"""


class Target:
    """A tracking database with a run, a folder with a repository, and a server of reports."""

    def __init__(self, folder: Path, database: str, server: OddServer) -> None:
        self.folder, self.uri, self.server = folder, database, server
        self.client = mlflow.MlflowClient(database)
        self.run = self.client.create_run("0").info.run_id
        self.data = folder / "data"
        self.data.mkdir()
        (self.data / "a.csv").write_text("x")
        subprocess.run(["git", "init", "-q"], cwd=self.data, check=True)
        self.spool = folder / "spool"
        self.spool.mkdir()

    def opened(self, odd: Odd) -> None:
        """Run a program that opens files of odd names; its run must keep its record."""
        (self.folder / "good.csv").write_text("x")
        names = [odd.text("a.csv", "b/a", "file:///a")[:300] for _ in range(200)]
        names = [name for name in names if not name.startswith("/") and ".." not in name]
        (self.folder / "names.json").write_text(json.dumps(names))
        done = run_in(self.folder, OPENING, self.uri)
        run = self.client.get_run(done.value)
        tags = run.data.tags
        if not ("lineage.inputs" in tags and '"complete":true' in tags.get("lineage.coverage", "")):
            raise FuzzError(f"the run has no whole record: {tags}")

    def statements(self, odd: Odd) -> None:
        text = odd.pick(
            (odd.cut(SQL), odd.in_a_word(SQL), odd.text(SQL), "SELECT " + "(" * odd.depth())
        )
        url = odd.pick(("postgresql://h/db/public", "mysql://h/db/", "sqlite:///x//", "odd://h//"))
        event = Event(0, READ, text, "sql", (), 0, None, None, None, url)
        list(events_of(event))

    def spooled(self, odd: Odd) -> None:
        valid = ["read", "/a", "open", ["r"], [1, 2, 3], 3, None, None, 7]
        lines = [odd.json(valid).encode("utf-8", "replace") for _ in range(5)]
        lines += [json.dumps(valid).encode(), odd.data()]
        odd.chance.shuffle(lines)
        (self.spool / "1-a.jsonl").write_bytes(b"\n".join(lines) + b"\n")
        list(Reader(str(self.spool)).events(0))

    def tracked(self, odd: Odd) -> None:
        for name, valid in (("a.csv.dvc", DVC), ("dvc.lock", LOCK)):
            text = odd.yaml(valid).encode("utf-8", "replace")
            (self.data / name).write_bytes(text if odd.chance.random() < 0.8 else odd.data(text))
        dvc.Records().find(str(self.data / "a.csv"))

    def repository(self, odd: Odd) -> None:
        index = self.data / ".git" / "index"
        index.write_bytes(odd.data(b"DIRC\0\0\0\2\0\0\0\1" + b"\0" * 60))
        paths = [str(self.data / "a.csv"), f"{self.data}/{odd.text('x')[:300]}"]
        found = git.Repositories()
        found.learn(paths)
        for path in paths:
            found.blob_of(path)

    def report_answers(self, odd: Odd) -> None:
        self.server.answer(odd, {"ok": True})
        report(self.server.url, self.run, Graph(), self.uri)

    def tags(self, odd: Odd) -> None:
        facts = {"commit": "a", "dirty": False, "mode": "full", "missed": ["x"], "inputs": 1}
        for key in ("inputs", "outputs", "code", "truncated", "coverage", "environment"):
            text = odd.json([ENTRY] if key.endswith("puts") else facts)[:8000]
            self.client.set_tag(
                self.run, f"lineage.{key}", text.encode("utf-8", "replace").decode()
            )
        whole = {
            "version": 1,
            "inputs": [ENTRY],
            "outputs": [ENTRY],
            "members": {"file:///a": ["x"]},
        }
        text = odd.json({**whole, "code": facts, "links": [["a", "b"]]})
        self.client.log_text(self.run, text.encode("utf-8", "replace").decode(), DOCUMENT)
        arguments = odd.pick(
            (
                ("show", self.run),
                ("upstream", f"runs:/{self.run}"),
                ("export", self.run, "--format", "html"),
                ("diff", self.run, self.run),
                ("who-used", odd.text("file:///a.csv")[:2000]),
            )
        )
        words = [word.encode("utf-8", "replace").decode().replace("\0", "") for word in arguments]
        done = CliRunner().invoke(cli, ["lineage", *words, "--tracking-uri", self.uri])
        if not (done.exception is None or isinstance(done.exception, (SystemExit, PackError))):
            raise done.exception


@contextlib.contextmanager
def places(folder: Path, database: str) -> Iterator[list[Place]]:
    server = OddServer()
    with server.served():
        yield _places(Target(folder, database, server))


def _places(on: Target) -> list[Place]:
    capture = "lineage/capture"
    table: tuple[tuple[str, tuple[str, ...], Any, int, int], ...] = (
        ("paths and URIs that a program opens", (f"{capture}/",), on.opened, 70_000, 1),
        ("SQL", (f"{capture}/libraries/sql_statements.py",), on.statements, 1 << 20, 20),
        ("reports of child processes", (f"{capture}/child_spool.py",), on.spooled, 1 << 20, 20),
        (".dvc files", ("lineage/fingerprints/dvc.py",), on.tracked, 2 << 20, 12),
        ("git's index", ("lineage/fingerprints/git.py",), on.repository, 70_000, 8),
        (
            "answers to OpenLineage",
            ("lineage/delivery/openlineage.py",),
            on.report_answers,
            70_000,
            8,
        ),
        ("tags of other runs", ("lineage/document/stored.py",), on.tags, 8000, 10),
    )
    return [
        Place(name, reads, feed, largest, speed=speed)
        for name, reads, feed, largest, speed in table
    ]
