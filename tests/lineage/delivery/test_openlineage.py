"""What leaves the process besides the record: OpenLineage events; and what never may: secrets."""

from __future__ import annotations

import inspect
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.lineage.support.reading import RunRecord
from tests.lineage.support.scripts import RunScript
from tests.support import servers


@dataclass
class Endpoint:
    """A server that answers every request and keeps what it was sent."""

    url: str
    events: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    redirects_to: str = ""


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            kept.events.append(json.loads(body))
            kept.headers.append(dict(self.headers))
            if kept.redirects_to:
                self.send_response(307)
                self.send_header("Location", kept.redirects_to)
                self.send_header("Content-Length", "0")
                self.end_headers()
            else:
                self.do_GET()

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        kept = Endpoint(f"http://127.0.0.1:{server.server_address[1]}")
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield kept
        server.shutdown()
        thread.join(60)


TWO_RUNS = """
    import json, os, mlflow
    ids = []
    for fails in (False, True):
        try:
            with mlflow.start_run() as run:
                ids.append(run.info.run_id)
                open(os.environ["DATA"] + "/cancer.csv").read()
                open("out.txt", "w").write("x")
                if fails:
                    raise ArithmeticError
        except ArithmeticError:
            pass
    print(json.dumps(ids))
"""


@pytest.mark.parametrize("store", ["http", "sqlite"])
def test_finished_runs_are_reported_with_their_status(
    run_script: RunScript,
    server: servers.MlflowServer,
    database: str,
    endpoint: Endpoint,
    store: str,
) -> None:
    outcome = run_script(
        TWO_RUNS,
        server.url if store == "http" else database,
        MLFLOW_PACK_LINEAGE_OPENLINEAGE_URL=f"{endpoint.url}/api/v1/lineage",
    )
    assert [event["eventType"] for event in endpoint.events] == ["COMPLETE", "FAIL"]
    sent = [event["run"]["runId"].replace("-", "") for event in endpoint.events]
    assert sent == outcome.value
    event = endpoint.events[0]
    assert (event["job"]["namespace"], event["job"]["name"]) == ("mlflow", "Default")
    assert [Path(data["name"]).name for data in event["inputs"]] == ["cancer.csv"]
    assert {data["namespace"] for data in event["inputs"] + event["outputs"]} == {"file"}
    assert event["inputs"][0]["facets"]["version"]["datasetVersion"].startswith("sha256:")


def check_against_the_specification(event: dict[str, Any]) -> set[str]:
    """Check each facet against the class that OpenLineage generates from its JSON schema."""
    client = pytest.importorskip("openlineage.client")
    from openlineage.client import event_v2, facet_v2

    known = {
        cls._get_schema(): cls
        for module in filter(inspect.ismodule, vars(facet_v2).values())
        for cls in vars(module).values()
        if isinstance(cls, type) and issubclass(cls, facet_v2.BaseFacet)
    }
    assert client is not None

    def made(facets: dict[str, Any]) -> dict[str, Any]:
        return {
            name: _instance(known[facet["_schemaURL"]], facet) for name, facet in facets.items()
        }

    def data(kind: type, listed: list[dict[str, Any]]) -> list[Any]:
        return [kind(d["namespace"], d["name"], facets=made(d["facets"])) for d in listed]

    event_v2.RunEvent(
        eventType=event_v2.RunState(event["eventType"]),
        eventTime=event["eventTime"],
        run=event_v2.Run(event["run"]["runId"], facets=made(event["run"]["facets"])),
        job=event_v2.Job(
            event["job"]["namespace"], event["job"]["name"], facets=made(event["job"]["facets"])
        ),
        producer=event["producer"],
        inputs=data(event_v2.InputDataset, event["inputs"]),
        outputs=data(event_v2.OutputDataset, event["outputs"]),
    )
    assert event["schemaURL"] == event_v2.RunEvent._get_schema()
    parts = (event["run"], event["job"], *event["inputs"], *event["outputs"])
    return {name for part in parts for name in part["facets"]}


def _instance(cls: type, facet: dict[str, Any]) -> Any:
    values = {key: value for key, value in facet.items() if not key.startswith("_")}
    assert values.keys() <= inspect.signature(cls).parameters.keys()
    return cls(**values)


def test_nested_run_in_a_repository_is_valid_and_signed(
    run_script: RunScript, database: str, endpoint: Endpoint, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.write_text("secret-1\n")
    outcome = run_script(
        """
        import json, os, subprocess, mlflow
        def git(*arguments):
            user = ["-c", "user.name=x", "-c", "user.email=x@y"]
            subprocess.run(["git", *user, *arguments], check=True)
        git("init", "-q")
        git("remote", "add", "origin", "https://u:hunter2@git.example.org/team/code.git")
        git("add", "train.py")
        git("commit", "-qm", "first")
        with mlflow.start_run() as outer:
            with mlflow.start_run(nested=True) as inner:
                open(os.environ["DATA"] + "/cancer.csv").read()
                open("out.txt", "w").write("x")
        print(json.dumps([outer.info.run_id, inner.info.run_id]))
        """,
        database,
        MLFLOW_PACK_LINEAGE_OPENLINEAGE_URL=endpoint.url,
        MLFLOW_PACK_LINEAGE_OPENLINEAGE_TOKEN_FILE=str(token),
        MLFLOW_PACK_LINEAGE_OPENLINEAGE_HEADER="X-Api-Key: key-1",
        MLFLOW_PACK_LINEAGE_OPENLINEAGE_NAMESPACE="team",
        MLFLOW_PACK_LINEAGE_CODE="true",
    )
    outer, inner = outcome.value
    by_run = {event["run"]["runId"].replace("-", ""): event for event in endpoint.events}
    event = by_run[inner]
    found = check_against_the_specification(event)
    assert found == {
        *("parent", "processing_engine"),
        *("jobType", "sourceCodeLocation", "sourceCode"),
        *("dataSource", "version"),
    }
    parent = event["run"]["facets"]["parent"]
    assert parent["run"]["runId"].replace("-", "") == outer
    assert parent["job"] == {"namespace": "team", "name": "Default"}
    location = event["job"]["facets"]["sourceCodeLocation"]
    assert location["url"] == "https://git.example.org/team/code.git"
    assert "parent" not in by_run[outer]["run"]["facets"]
    assert {headers["Authorization"] for headers in endpoint.headers} == {"Bearer secret-1"}
    assert {headers["X-Api-Key"] for headers in endpoint.headers} == {"key-1"}


def test_profile_signs_events(
    run_script: RunScript, database: str, endpoint: Endpoint, tmp_path: Path
) -> None:
    profiles = tmp_path / "auth.toml"
    profiles.write_text(
        f"""
        [profile.lineage]
        hosts = ["{endpoint.url}"]
        source = "headers"
        headers = {{ "X-Api-Key" = {{ env = "KEY" }} }}
        """
    )
    profiles.chmod(0o600)
    run_script(
        TWO_RUNS,
        database,
        MLFLOW_PACK_AUTH_CONFIG=str(profiles),
        MLFLOW_PACK_LINEAGE_OPENLINEAGE_URL=endpoint.url,
        MLFLOW_PACK_LINEAGE_OPENLINEAGE_AUTH="plugins-pack",
        KEY="key-2",
    )
    assert [headers["X-Api-Key"] for headers in endpoint.headers] == ["key-2"] * 2


def test_credentials_go_nowhere_else(
    run_script: RunScript, database: str, endpoint: Endpoint, tmp_path: Path
) -> None:
    endpoint.redirects_to = f"{endpoint.url}/elsewhere"
    outcome = run_script(
        TWO_RUNS,
        database,
        warns=True,
        MLFLOW_PACK_LINEAGE_OPENLINEAGE_URL=endpoint.url,
        MLFLOW_PACK_LINEAGE_OPENLINEAGE_HEADER="X-Api-Key: key-1",
    )
    assert "307" in outcome.output
    assert len(endpoint.events) == 2  # none was sent again
    outcome = run_script(
        TWO_RUNS,
        database,
        warns=True,
        MLFLOW_PACK_LINEAGE_OPENLINEAGE_URL="http://192.0.2.1/api/v1/lineage",
        MLFLOW_PACK_LINEAGE_OPENLINEAGE_HEADER="X-Api-Key: key-1",
    )
    assert "must be https" in outcome.output
    assert "key-1" not in outcome.output


def test_endpoint_that_is_down_costs_one_warning(run_script: RunScript, database: str) -> None:
    url = f"http://alice:hunter2@127.0.0.1:{servers.free_port()}/?key=hunter2"
    outcome = run_script(TWO_RUNS, database, warns=True, MLFLOW_PACK_LINEAGE_OPENLINEAGE_URL=url)
    assert outcome.output.count("could not be reported") == 1
    assert "hunter2" not in outcome.output
    for run_id in outcome.value:
        assert RunRecord(database, run_id).own() == {"cancer.csv"}


def test_secrets_never_appear(
    run_script: RunScript,
    server: servers.MlflowServer,
    postgresql: servers.DatabaseServer,
    endpoint: Endpoint,
    tmp_path: Path,
) -> None:
    dsn = postgresql.new_database().replace("mlflow@", "mlflow:hunter2@")
    web = endpoint.url.replace("http://", "http://alice:hunter2@")
    outcome = run_script(
        """
        import json, os, pathlib, mlflow, pandas, requests, httpx, sqlalchemy
        home = pathlib.Path.home() / "hunter2-home"
        home.mkdir(parents=True)
        os.system(f"cp $DATA/cancer.csv {home}/mine.csv")
        engine = sqlalchemy.create_engine(os.environ["DSN"])
        with engine.begin() as connection:
            connection.execute(sqlalchemy.text("CREATE TABLE people (name text)"))
        with mlflow.start_run() as run:
            secret = {"Authorization": "Bearer hunter2", "X-Key": "hunter2"}
            requests.get(os.environ["WEB"] + "/r.csv?token=hunter2#hunter2", headers=secret)
            httpx.get(os.environ["WEB"] + "/h.csv", params={"sig": "hunter2"}, headers=secret)
            with engine.begin() as connection:
                text = "SELECT * FROM people WHERE name = 'hunter2' -- hunter2"
                connection.execute(sqlalchemy.text(text))
                connection.execute(
                    sqlalchemy.text("INSERT INTO people VALUES (:name)"), {"name": "hunter2"})
            pandas.read_csv(home / "mine.csv")
        print(json.dumps(run.info.run_id))
        """,
        server.url,
        DSN=dsn,
        WEB=web,
        MLFLOW_PACK_LINEAGE_REDACT="true",
        MLFLOW_PACK_LINEAGE_OPENLINEAGE_URL=f"{endpoint.url}/events",
        MLFLOW_PACK_LINEAGE_EXCLUDE="",
    )
    record = RunRecord(server.url, outcome.value)
    folder = tmp_path / "document"
    folder.mkdir()
    written = [record.tags, record.document(folder), record.datasets(), endpoint.events]
    everything = json.dumps(written).replace("hunter2-home", "")
    assert "hunter2" not in everything + outcome.output.replace("hunter2-home", "")
    assert str(tmp_path / "home") not in json.dumps(record.document(folder)["inputs"])
    uris = {entry["u"] for entry in record.document(folder)["inputs"]}
    assert {f"{endpoint.url}/r.csv", f"{endpoint.url}/h.csv"} <= uris
    assert "file:///~/hunter2-home/mine.csv" in uris
    assert any(uri.startswith("postgresql://127.0.0.1:") for uri in uris)
    assert all("people" not in uri or uri.endswith(".public.people") for uri in uris)
