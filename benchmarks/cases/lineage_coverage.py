"""Measures how much of what real scripts read and write is in their runs' lineage.

Each script of ``benchmarks/corpus`` runs as a person runs it: in a fresh process and folder, stock
MLflow logging to a database, every setting of the pack at its default. Its docstring says what it
truly reads and writes; those lists were written before the capture was made to see them.
"""

from __future__ import annotations

import ast
import contextlib
import glob
import importlib.util
import os
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from benchmarks.frame import Options, Survey

CORPUS = Path(__file__).parent.parent / "corpus"
_SCRIPT_SECONDS = 300


@dataclass(frozen=True)
class Script:
    """One script of the corpus and what its docstring says.

    Attributes:
        path: The script.
        needs: Modules that must be installed.
        service: ``postgresql``, ``moto``, ``azurite``, ``web`` or empty.
        reads: Patterns of what it reads.
        writes: Patterns of what it writes.
        blind: Names that the coverage of its runs must have, since it uses what cannot be seen.
        code: Its exit code.
        runs: Patterns of what its single runs read and write, by ``reads`` or ``writes`` and the
            run's name. They are said in lines such as ``reads of first: DATA/cancer.csv``.
    """

    path: Path
    needs: tuple[str, ...]
    service: str
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    blind: tuple[str, ...] = ()
    code: int = 0
    runs: Mapping[tuple[str, str], tuple[str, ...]] = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path) -> Script:
        """Read a script's docstring."""
        words: dict[str, list[str]] = {}
        runs = {}
        for line in (ast.get_docstring(ast.parse(path.read_text())) or "").splitlines():
            key, colon, rest = line.partition(":")
            kind, of, name = key.partition(" of ")
            if colon and key == "blind":
                words[key] = [name.strip() for name in rest.split(",")]
            elif colon and key in ("needs", "service", "reads", "writes", "code"):
                words[key] = rest.split()
            elif colon and of and kind in ("reads", "writes"):
                runs[kind, name] = tuple(rest.split())
        return cls(
            path,
            tuple(words.get("needs", ())),
            " ".join(words.get("service", ())),
            tuple(words["reads"]),
            tuple(words["writes"]),
            tuple(words.get("blind", ())),
            int("".join(words.get("code", "0"))),
            runs,
        )


@dataclass
class Score:
    """Expected and found places of one kind."""

    expected: set[str] = field(default_factory=set)
    found: set[str] = field(default_factory=set)

    @property
    def right(self) -> int:
        return len(self.expected & self.found)


@dataclass
class Outcome:
    """What came of one script; `problem` says why there are no scores.

    Attributes:
        complete: Whether all its runs say that nothing is missing.
        named: What their coverage names as not seen.
        misplaced: The single runs that list something else than they read or wrote.
    """

    script: Script
    reads: Score = field(default_factory=Score)
    writes: Score = field(default_factory=Score)
    problem: str = ""
    complete: bool = True
    named: set[str] = field(default_factory=set)
    misplaced: list[str] = field(default_factory=list)

    @property
    def has_gap(self) -> bool:
        """Whether something that the script read or wrote is not listed."""
        return any(score.expected - score.found for score in (self.reads, self.writes))

    @property
    def admits(self) -> bool:
        """Whether the coverage says that something is missing, and names all it must."""
        return not self.complete and set(self.script.blind) <= self.named


def scripts(only: str = "") -> list[Script]:
    """Return the corpus, or those scripts whose names hold one of some texts, split by commas."""
    paths = (p for p in sorted(CORPUS.glob("*.py")) if any(t in p.stem for t in only.split(",")))
    return [Script.load(path) for path in paths]


# --- services -------------------------------------------------------------------------------------


@dataclass
class Service:
    """A running service: the scripts' settings, and what placeholders stand for."""

    environment: dict[str, str]
    places: dict[str, str]


@contextlib.contextmanager
def _postgresql(data: Path) -> Iterator[Service]:
    import pandas
    import sqlalchemy

    from tests.support import servers

    with servers.postgresql() as server:
        url = server.new_database()
        engine = sqlalchemy.create_engine(url)
        frame = pandas.read_csv(data / "cancer.csv")
        frame["hospital"] = frame.index % 3
        frame.to_sql("cancer", engine, index=False)
        cities = pandas.DataFrame({"id": range(3), "city": ["Bonn", "Lund", "Graz"]})
        cities.to_sql("hospitals", engine, index=False)
        with engine.begin() as connection:
            connection.execute(sqlalchemy.text("CREATE SCHEMA clinic"))
        visits = pandas.DataFrame({"hospital": range(3), "seen": [0, 1, 2]})
        visits.to_sql("visits", engine, schema="clinic", index=False)
        engine.dispose()
        parts = sqlalchemy.make_url(url)
        place = f"postgresql://{parts.host}:{parts.port}/{parts.database}"
        yield Service({"DATABASE_URL": url}, {"POSTGRESQL": place})


@contextlib.contextmanager
def _moto(data: Path) -> Iterator[Service]:
    import boto3

    from tests.support import servers

    with servers.moto() as server:
        bucket = server.new_root().removeprefix("s3://").partition("/")[0]
        client = boto3.client(
            "s3",
            endpoint_url=server.environment["MLFLOW_S3_ENDPOINT_URL"],
            aws_access_key_id="test",
            aws_secret_access_key="test",
            region_name="us-east-1",
        )
        for path in (data / "cancer.csv", data / "cancer.parquet"):
            client.upload_file(str(path), bucket, f"raw/{path.name}")
        for path in (data / "parts").glob("*/*"):
            client.upload_file(str(path), bucket, str(path.relative_to(data)))
        yield Service({**server.environment, "BUCKET": bucket}, {"BUCKET": bucket})


@contextlib.contextmanager
def _azurite(data: Path) -> Iterator[Service]:
    from azure.storage.blob import BlobServiceClient

    from tests.support import servers

    with servers.azurite() as server:
        root = server.new_root().removeprefix("wasbs://").partition("/")[0]
        container = root.partition("@")[0]
        with BlobServiceClient.from_connection_string(
            server.environment["AZURE_STORAGE_CONNECTION_STRING"]
        ) as client:
            for name in ("cancer.csv", "labels.json"):
                blob = client.get_blob_client(container, f"raw/{name}")
                blob.upload_blob((data / name).read_bytes())
        yield Service({**server.environment, "CONTAINER": container}, {"CONTAINER": root})


class _Files(SimpleHTTPRequestHandler):
    """Serves a folder as web servers do: with byte ranges, which parquet readers ask for."""

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        path = Path(self.translate_path(self.path))
        if wanted is None or not path.is_file():
            super().do_GET()
            return
        body = path.read_bytes()
        first, last = int(wanted[1]), min(int(wanted[2] or len(body)), len(body) - 1)
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {first}-{last}/{len(body)}")
        self.send_header("Content-Length", str(last - first + 1))
        self.end_headers()
        self.wfile.write(body[first : last + 1])

    def end_headers(self) -> None:
        self.send_header("Accept-Ranges", "bytes")
        super().end_headers()


@contextlib.contextmanager
def _web(data: Path) -> Iterator[Service]:
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Files, directory=str(data))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_address[1]}"
        try:
            yield Service({"WEB": address}, {"WEB": address})
        finally:
            server.shutdown()


_SERVICES: Mapping[str, Callable[[Path], contextlib.AbstractContextManager[Service]]] = {
    "postgresql": _postgresql,
    "moto": _moto,
    "azurite": _azurite,
    "web": _web,
}


# --- running --------------------------------------------------------------------------------------


class Runner:
    """Runs scripts over the same data, each in a folder of its own.

    Args:
        folder: For everything; must lie where data may lie.
        environment: Further settings of the scripts.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str] | None = None) -> None:
        self._folder = folder
        self._extra = dict(environment or {})
        self.data = folder / "data"
        self._home = folder / "home"
        self._stack = contextlib.ExitStack()
        self._services: dict[str, Service] = {}
        self.tracking_uri = f"sqlite:///{folder / 'tracking.db'}"

    def __enter__(self) -> Runner:
        from tests.support.servers import clean_environment

        subprocess.run(
            [sys.executable, "-m", "benchmarks.corpus_data", str(self.data), str(self._home)],
            check=True,
            cwd=CORPUS.parent.parent,
            env=clean_environment(MLFLOW_PACK_LINEAGE_ENABLED="false"),
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def run(self, script: Script) -> Outcome:
        """Run one script and compare."""
        started = self.start(script, script.path.stem)
        if isinstance(started, str):
            return Outcome(script, problem=started)
        return self.score(script, script.path.stem, *started)

    def score(
        self, script: Script, experiment: str, done: subprocess.CompletedProcess[str], work: Path
    ) -> Outcome:
        """Compare what the runs of a script list with what it read and wrote.

        Args:
            script: The script.
            experiment: Where its runs are.
            done: What `start` returned.
            work: The folder that it ran in.
        """
        if done.returncode != script.code:
            return Outcome(script, problem=f"failed: {done.stderr[-2000:]}")
        outcome = Outcome(script)
        service = self._service(script.service)
        for name, graph in self._graphs(experiment):
            if graph is None:
                outcome.complete = False
                continue
            found = {
                "reads": {e.uri for e in graph.inputs if e.role != "intermediate"},
                "writes": {e.uri for e in graph.outputs},
            }
            outcome.reads.found |= found["reads"]
            outcome.writes.found |= found["writes"]
            coverage = graph.facts.get("coverage", {"complete": False})
            outcome.complete &= coverage["complete"]
            outcome.named |= {*coverage.get("blind", ()), *coverage.get("programs", ())}
            for kind in ("reads", "writes"):
                patterns = script.runs.get((kind, name))
                if patterns is not None and (found[kind] != self._places(patterns, work, service)):
                    outcome.misplaced.append(f"{kind} of {name}")
        outcome.reads.expected = self._places(script.reads, work, service)
        outcome.writes.expected = self._places(script.writes, work, service)
        return outcome

    def start(
        self, script: Script, experiment: str, **environment: str
    ) -> tuple[subprocess.CompletedProcess[str], Path] | str:
        """Run one script in a folder of its own.

        Args:
            script: The script.
            experiment: Name of a new experiment for its runs.
            environment: Further settings.

        Returns:
            What it did and its folder, or why it cannot be run.
        """
        import pytest

        if missing := [name for name in script.needs if importlib.util.find_spec(name) is None]:
            return f"skipped: {', '.join(missing)} is not installed"
        try:
            service = self._service(script.service)
        except (pytest.skip.Exception, pytest.fail.Exception) as exc:
            return f"skipped: {exc}"
        work = self._folder / "work" / experiment
        work.mkdir(parents=True)
        return self._start(script, experiment, work, service, environment), work

    def _service(self, name: str) -> Service:
        if not name:
            return Service({}, {})
        if name not in self._services:
            self._services[name] = self._stack.enter_context(_SERVICES[name](self.data))
        return self._services[name]

    def _start(
        self,
        script: Script,
        experiment: str,
        work: Path,
        service: Service,
        settings: Mapping[str, str],
    ) -> subprocess.CompletedProcess[str]:
        import mlflow

        from tests.support.servers import clean_environment

        artifacts = (self._folder / "artifacts" / experiment).as_uri()
        mlflow.MlflowClient(self.tracking_uri).create_experiment(experiment, artifacts)
        environment = clean_environment(
            HOME=str(self._home),
            DATA=str(self.data),
            MLFLOW_TRACKING_URI=self.tracking_uri,
            MLFLOW_EXPERIMENT_NAME=experiment,
            MLFLOW_DISABLE_TELEMETRY="true",
            HF_HUB_OFFLINE="1",
            **service.environment,
            **self._extra,
            **settings,
        )
        return subprocess.run(
            [sys.executable, str(script.path)],
            cwd=work,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_SCRIPT_SECONDS,
            check=False,
        )

    def _graphs(self, experiment: str) -> Iterator[tuple[str, Any]]:
        import mlflow

        from mlflow_plugins_pack.lineage.document import stored

        client = mlflow.MlflowClient(self.tracking_uri)
        found = client.get_experiment_by_name(experiment)
        for run in client.search_runs([found.experiment_id], max_results=1000):
            yield run.info.run_name, stored.read(client, run)

    def _places(self, patterns: tuple[str, ...], work: Path, service: Service) -> set[str]:
        from mlflow_plugins_pack.lineage.document.graph import file_uri

        places = set()
        for pattern in patterns:
            head, _, rest = pattern.partition("/")
            if base := {"DATA": self.data, "WORK": work, "HOME": self._home}.get(head):
                if not rest.endswith("/"):
                    matches = glob.glob(f"{base}/{rest}")
                    assert matches, f"the script made or found no {pattern}"
                    places |= {file_uri(match) for match in matches}
                else:
                    places.add(file_uri(f"{base}/{rest}"))
                continue
            for name, value in service.places.items():
                pattern = pattern.replace(name, value)
            if "part=*" in pattern:
                places |= {pattern.replace("part=*", f"part={part}") for part in range(3)}
            else:
                places.add(pattern)
        return places


# --- the table ------------------------------------------------------------------------------------


def total(scores: list[Score]) -> tuple[float, float]:
    """Return recall and precision over all places of all scripts."""
    right = sum(score.right for score in scores)
    expected = sum(len(score.expected) for score in scores)
    found = sum(len(score.found) for score in scores)
    return right / expected if expected else 1.0, right / found if found else 1.0


def per_script(scores: list[Score]) -> float:
    """Return the mean of the scripts' recalls, in which a folder of images weighs no more."""
    shares = [score.right / len(score.expected) for score in scores if score.expected]
    return sum(shares) / len(shares) if shares else 1.0


def markdown(outcomes: list[Outcome]) -> str:
    """Return the table of all scripts, and the totals."""
    ran = [outcome for outcome in outcomes if not outcome.problem]
    lines = [
        "| | recall | recall, mean of the scripts | precision |",
        "|---|---|---|---|",
    ]
    for name in ("reads", "writes"):
        scores = [getattr(outcome, name) for outcome in ran]
        recall, precision = total(scores)
        count = sum(len(score.expected) for score in scores)
        lines.append(
            f"| {count} {name} of {len(ran)} scripts | {recall:.1%} | {per_script(scores):.1%} "
            f"| {precision:.1%} |"
        )
    lines += ["", *_admissions(ran)]
    lines += ["", "| script | reads seen | writes seen | wrongly listed | named as not seen |"]
    lines.append("|---|---|---|---|---|")
    for outcome in outcomes:
        name = outcome.script.path.stem
        if outcome.problem:
            lines.append(f"| `{name}` | {outcome.problem.splitlines()[-1]} | | | |")
            continue
        cells = [f"{s.right} of {len(s.expected)}" for s in (outcome.reads, outcome.writes)]
        wrong = sum(len(s.found - s.expected) for s in (outcome.reads, outcome.writes))
        named = ", ".join(sorted(outcome.named))
        lines.append(f"| `{name}` | {cells[0]} | {cells[1]} | {wrong or ''} | {named} |")
    return "\n".join(lines)


def _admissions(ran: list[Outcome]) -> list[str]:
    gaps = [outcome for outcome in ran if outcome.has_gap]
    whole = [outcome for outcome in ran if not outcome.has_gap]
    admitted, complete = sum(o.admits for o in gaps), sum(o.complete for o in whole)
    return [
        f"Of {len(gaps)} scripts of which something is not seen, the coverage of {admitted} says",
        f"so and names the cause. Of the {len(whole)} others, that of {complete} says `complete`.",
    ]


def _run(options: Options, only: str) -> str:
    outcomes = []
    with tempfile.TemporaryDirectory(prefix="corpus-", ignore_cleanup_errors=True) as name:
        os.chmod(name, 0o755)
        with Runner(Path(name)) as runner:
            for script in scripts(only):
                outcome = runner.run(script)
                outcomes.append(outcome)
                options.progress(f"{script.path.stem}: {summary(outcome)}")
    return markdown(outcomes)


def summary(outcome: Outcome) -> str:
    """Return a script's outcome in one line, with what was missed or listed wrongly."""
    if outcome.problem:
        return outcome.problem
    words = []
    for name in ("reads", "writes"):
        score: Score = getattr(outcome, name)
        words.append(f"{score.right} of {len(score.expected)} {name}")
        words += [f"missed {place}" for place in sorted(score.expected - score.found)[:5]]
        words += [f"wrong {place}" for place in sorted(score.found - score.expected)[:5]]
    words += [f"misplaced {what}" for what in outcome.misplaced]
    if outcome.has_gap != (not outcome.complete):
        words.append(f"complete: {outcome.complete}, named {sorted(outcome.named)}")
    return ", ".join(words)


SURVEY = Survey("lineage-coverage", "recall and precision on a corpus of training scripts", _run)
