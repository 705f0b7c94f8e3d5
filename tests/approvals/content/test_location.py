"""Approvals are bound to the files that stock clients load, from a place that stays the same."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient

from mlflow_plugins_pack.approvals.content import digest, location
from mlflow_plugins_pack.approvals.database.mlflow_tables import Version
from mlflow_plugins_pack.approvals.plugin import build_store
from mlflow_plugins_pack.errors import SourceNotPinnedError
from tests.support.acting import signed_in

POLICY = """
version: 1
groups: {leads: [bob]}
policies:
  - name: prod
    match: {models: ["gov-*"]}
    targets: {aliases: [prod]}
    approvals: [{group: leads}]
"""


def version(place: str) -> Version:
    return Version("default", "m", 1, "uid", "None", place, place, None, False, True)


@pytest.mark.parametrize(
    ("place", "why"),
    [
        ("runs:/r/code", "logged model of that name"),
        ("RUNS:/r", "logged model of that name"),
        ("models:/m/1", "registered again"),
        ("models:/m@prod", "registered again"),
        ("models:/m/Production", "registered again"),
        (" s3://bucket/m", "blanks or control characters"),
        ("s3://bucket/m\n", "blanks or control characters"),
        ("mlflow-artifacts:/a\tb", "blanks or control characters"),
        ("mlflow-artifacts://elsewhere/1/m", "host that it names"),
        ("mlflow-artifacts://elsewhere:5000/1/m", "host that it names"),
        ("https://elsewhere/api/2.0/mlflow-artifacts/artifacts/1/m", "host that it names"),
        ("mlflow-artifacts:/1/%6d", "different ways"),
        ("mlflow-artifacts:/1//m", "different ways"),
        ("mlflow-artifacts:/1/../2/m", "different ways"),
        ("mlflow-artifacts:/1/./m", "different ways"),
        ("mlflow-artifacts:/1/m?x", "different ways"),
        ("mlflow-artifacts:/1/m#x", "different ways"),
        ("mlflow-artifacts:/1\\m", "different ways"),
    ],
)
def test_a_place_that_can_lead_elsewhere_is_not_approvable(place: str, why: str) -> None:
    with pytest.raises(SourceNotPinnedError, match=why) as caught:
        digest.version_digest(version(place), {})
    assert "Nothing was changed" in caught.value.message


@pytest.mark.parametrize(
    "place",
    [
        "mlflow-artifacts:/1/2c/artifacts/my model ü",
        "mlflow-artifacts:/workspaces/a/1/models/m-1/artifacts",
        "s3://bucket/a//b%20c",
        "cas-s3://bucket/x",
        "/srv/models/1",
        "file:///srv/models/a%20b",
        "abfss://c@account.dfs.core.windows.net/x",
    ],
)
def test_other_places_are_pinned(place: str) -> None:
    assert location.reason_not_pinned(place) is None


@pytest.mark.parametrize(
    "name",
    ["a?b", "d?q/w", "w?", " w", "w#x", "Data:1", "w%7Ex", "a\tb", "x/x", "e/x/x"],
)
def test_a_file_that_clients_load_otherwise_is_found(name: str) -> None:
    assert location.loaded_otherwise(["MLmodel", "w", name]) == name


@pytest.mark.parametrize(
    "names",
    [
        ["MLmodel", "data/model.pkl", "w;p=1", "w+x", "w&x", "café ü/ß", "x=1", ".hidden", "w..x"],
        ["x/x", "x/y"],  # not alone
        ["x/x/y"],  # a folder
        ["x"],
    ],
)
def test_other_files_are_loaded_as_they_are(names: list[str]) -> None:
    assert location.loaded_otherwise(names) is None


@pytest.fixture
def tracking(tmp_path: Path) -> Iterator[MlflowClient]:
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path / 'x.db'}")
    try:
        client = MlflowClient()
        client.create_experiment("e", artifact_location=str(tmp_path / "artifacts"))
        yield client
    finally:
        mlflow.set_tracking_uri(before)


def test_a_download_is_digested_with_what_the_client_lays_over_it(
    tracking: MlflowClient, tmp_path: Path
) -> None:
    run = tracking.create_run("1")
    tracking.log_text(run.info.run_id, "approved", "code/helper.py")
    source = version(f"runs:/{run.info.run_id}/code")
    before = digest.downloaded_digest(source, {})
    model = tracking.create_logged_model("1", name="code", source_run_id=run.info.run_id)
    (tmp_path / "evil").mkdir()
    (tmp_path / "evil" / "helper.py").write_text("evil")
    tracking.log_model_artifacts(model.model_id, str(tmp_path / "evil"))
    assert digest.downloaded_digest(source, {}) != before


def test_a_logged_model_is_read_where_its_files_are(tracking: MlflowClient, tmp_path: Path) -> None:
    model = tracking.create_logged_model("1", name="m")
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "MLmodel").write_text("x")
    tracking.log_model_artifacts(model.model_id, str(tmp_path / "files"))
    source = version(f"models:/{model.model_id}")
    expected = digest.version_digest(version(str(tmp_path / "files")), {})
    assert location.pinned_location(source) == model.artifact_location
    assert digest.version_digest(source, {}) == digest.downloaded_digest(source, {}) == expected


def test_a_run_as_source_is_refused_before_anyone_votes(
    tracking: MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "policy.yaml").write_text(POLICY)
    monkeypatch.setenv("MLFLOW_PACK_APPROVALS_POLICY", str(tmp_path / "policy.yaml"))
    store = build_store(f"approval-sqlite:///{tmp_path / 'x.db'}")
    run = tracking.create_run("1")
    tracking.log_text(run.info.run_id, "x", "code/helper.py")
    with signed_in("alice"):
        store.create_registered_model("gov-a")
        store.create_model_version("gov-a", f"runs:/{run.info.run_id}/code", run.info.run_id)
        with pytest.raises(SourceNotPinnedError):
            store.set_registered_model_alias("gov-a", "prod", 1)
        place = f"{run.info.artifact_uri}/code"
        store.create_model_version("gov-a", place, run.info.run_id)
    store.engine.dispose()
