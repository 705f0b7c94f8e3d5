"""`mlflow-pack lineage`, as a person types it, and records that had to wait for a server."""

from __future__ import annotations

import json
from pathlib import Path

import mlflow
import pytest
from click.testing import CliRunner, Result

from mlflow_plugins_pack.cli.lineage.group import lineage
from mlflow_plugins_pack.errors import LineageNotRecordedError
from mlflow_plugins_pack.lineage.delivery import local_queue, writer
from mlflow_plugins_pack.lineage.document import stored
from mlflow_plugins_pack.lineage.document.graph import Entry, Graph


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(lineage, arguments)


def experiment(database: str) -> str:
    """An experiment with artifacts next to the database; the default one has them in ./mlruns."""
    client = mlflow.MlflowClient(database)
    if known := client.get_experiment_by_name("asked"):
        return str(known.experiment_id)
    place = Path(database.removeprefix("sqlite:///")).parent / "artifacts"
    return str(client.create_experiment("asked", artifact_location=place.as_uri()))


@pytest.fixture
def run_id(database: str) -> str:
    """A run with a record of every kind of entry."""
    client = mlflow.MlflowClient(database)
    run = client.create_run(experiment(database), run_name="trained")
    graph = Graph(
        inputs=(
            Entry("file:///data/n%C3%A4me.csv", "sha256:" + "ab" * 32, 7, coverage="full"),
            Entry("s3://bucket/big.csv", version="v1", via="boto", shared=True),
            Entry("file:///data/moved.csv", size=1, changed=True),
            Entry("file:///data/parts/", "sha256:" + "cd" * 32, files=300, coverage="sampled"),
        ),
        outputs=(Entry("file:///out/%5Bx%5D.csv", size=3),),
        upstream_runs=("f" * 32,),
        dropped=4,
        facts={
            "code": {"entry": "file:///train.py", "commit": "c" * 40, "dirty": True},
            "env": {"python": "3.11.7", "packages": 12, "h": "sha256:00"},
            "coverage": {"layers": ["audit"], "blind": ["polars"]},
        },
    )
    writer.write(run.info.run_id, graph, tracking_uri=database, base=None)
    return str(run.info.run_id)


def test_show_for_people(database: str, run_id: str) -> None:
    result = invoke("show", run_id, "--tracking-uri", database)
    assert result.exit_code == 0, result.output
    words = " ".join(result.output.split())
    for expected in (
        "trained",
        "/data/näme.csv",
        "abababababab",
        "version v1",
        "changed since it was read",
        "read before the run",
        "300 files",
        "digest of samples",
        "/out/[x].csv",
        "cccccccccccc with changes",
        "blind to polars",
        "f" * 32,
        "4 more files",
    ):
        assert expected in words, result.output


def test_show_for_scripts_has_everything_in_full(database: str, run_id: str) -> None:
    result = invoke("show", run_id, "--json", "--tracking-uri", database)
    document = json.loads(result.stdout)
    assert document["run_id"] == run_id
    by_uri = {entry["u"]: entry for entry in document["inputs"]}
    assert by_uri["file:///data/n%C3%A4me.csv"]["h"] == "sha256:" + "ab" * 32
    assert by_uri["file:///data/parts/"]["files"] == 300
    assert document["upstream_runs"] == ["f" * 32]
    assert document["digest"].startswith("sha256:")
    assert document["code"]["dirty"] is True


def test_show_without_the_artifact_falls_back_to_the_tags(database: str, run_id: str) -> None:
    client = mlflow.MlflowClient(database)
    uri = client.get_run(run_id).info.artifact_uri.removeprefix("file://")
    (Path(uri) / stored.ARTIFACT).unlink()
    result = invoke("show", run_id, "--json", "--tracking-uri", database)
    assert len(json.loads(result.stdout)["inputs"]) == 4


def test_run_without_lineage_is_explained(database: str) -> None:
    run = mlflow.MlflowClient(database).create_run(experiment(database))
    result = invoke("show", run.info.run_id, "--tracking-uri", database)
    assert result.exit_code == 1
    assert isinstance(result.exception, LineageNotRecordedError)
    assert "attach" in str(result.exception)


def test_writing_again_changes_nothing(database: str, run_id: str) -> None:
    client = mlflow.MlflowClient(database)
    before = client.get_run(run_id)
    graph = stored.read(client, before)
    assert graph is not None
    writer.write(run_id, graph, tracking_uri=database, base=None)
    after = client.get_run(run_id)
    unchanged = {k: v for k, v in before.data.tags.items() if k != "lineage.truncated"}
    assert unchanged.items() <= after.data.tags.items()
    assert len(after.inputs.dataset_inputs) == len(before.inputs.dataset_inputs)


def test_kept_records_are_pushed_once(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    run = mlflow.MlflowClient(database).create_run(experiment(database))
    graph = Graph(inputs=(Entry("file:///data/a.csv", "sha256:" + "12" * 32),))
    path = local_queue.keep(run.info.run_id, graph, "http://alice:hunter2@127.0.0.1:9/?t=x")
    assert path is not None
    assert "hunter2" not in path.read_text()
    assert path.stat().st_mode & 0o077 == 0
    pushed = invoke("push", "--tracking-uri", database, "--json")
    assert json.loads(pushed.stdout)[0]["result"] == "written"
    assert not path.exists()
    assert invoke("push").output == "No records are waiting.\n"
    tags = mlflow.MlflowClient(database).get_run(run.info.run_id).data.tags
    assert json.loads(tags["lineage.inputs"])[0]["u"] == "file:///data/a.csv"


def test_records_kept_for_one_run_are_all_pushed(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that is resumed while the server is away leaves one record for each time."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    client = mlflow.MlflowClient(database)
    run_id = client.create_run(experiment(database)).info.run_id
    for name in "ab":
        local_queue.keep(run_id, Graph(inputs=(Entry(f"file:///data/{name}.csv"),)), database)
    pushed = json.loads(invoke("push", "--json").stdout)
    assert [(row["run"], row["result"]) for row in pushed] == [(run_id, "written")] * 2
    inputs = json.loads(client.get_run(run_id).data.tags["lineage.inputs"])
    assert {entry["u"] for entry in inputs} == {"file:///data/a.csv", "file:///data/b.csv"}


def test_record_of_a_run_that_is_gone_is_kept(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    path = local_queue.keep("0" * 32, Graph(), database)
    assert path is not None
    result = invoke("push", "--json")
    assert result.exit_code == 1
    assert "kept: " in json.loads(result.stdout)[0]["result"]
    assert path.exists()
