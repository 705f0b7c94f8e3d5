"""The place of a store, and what it is never put over: stock MLflow's artifacts, other stores."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from mlflow_plugins_pack.artifacts.maintenance import doctor
from mlflow_plugins_pack.artifacts.store import opening
from mlflow_plugins_pack.errors import ForeignDataError
from tests.artifacts.support.commands import run, run_json
from tests.contracts.artifact_repository import content, listing

RUN = "1/0123456789abcdef0123456789abcdef/artifacts"
OTHER = "1/fedcba9876543210fedcba9876543210/artifacts"


@pytest.fixture
def local(tmp_path: Path) -> str:
    path = tmp_path / "f"
    path.write_bytes(b"x" * 50_000)
    return str(path)


@pytest.fixture(params=["disk", "moto"])
def stock_root(request, tmp_path, monkeypatch) -> str:
    if request.param == "disk":
        return f"file://{tmp_path}/mlflow"
    server = request.getfixturevalue("moto")
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    return server.new_root()


def test_artifacts_of_stock_are_not_shown_as_empty(stock_root, local, tmp_path):
    """`cas-` in front of a destination in use: refused, with the command that migrates."""
    get_artifact_repository(f"{stock_root}/{RUN}").log_artifact(local)
    old = get_artifact_repository(f"cas-{stock_root}/{RUN}")
    new = get_artifact_repository(f"cas-{stock_root}/{OTHER}")
    target = tmp_path / "out"
    target.mkdir()
    advice = f"mlflow-pack artifacts import {stock_root.replace('///', '/')}"
    for call in (
        lambda: old.list_artifacts(),
        lambda: old.download_artifacts("", str(target)),
        lambda: old.download_artifacts("f", str(target)),
        lambda: old.content_digest(),
        lambda: new.log_artifact(local),
        lambda: old.log_artifact(local),
    ):
        with pytest.raises(ForeignDataError) as caught:
            call()
        assert f"{advice} TARGET" in caught.value.message
        assert "Nothing was" in caught.value.message
    assert content(target) == {}
    (finding,) = doctor.check(f"cas-{stock_root}")
    assert finding.level == "error"
    assert advice in finding.message
    # A run of its own that is empty still is.
    assert listing(new) == []
    # The command that the message names, word for word.
    command = re.findall(r"`mlflow-pack artifacts (import .*?)`", caught.value.message)[0]
    new_root = re.findall(r"such as (cas-\S*[-/]store),", caught.value.message)[0]
    run(*command.replace("TARGET", new_root).split())
    again = get_artifact_repository(f"{new_root}/{RUN}")
    assert Path(again.download_artifacts("f")).read_bytes() == b"x" * 50_000
    assert run_json("fsck", new_root, "--read-data")["problems"] == []


def test_run_of_stock_in_a_store_is_not_shown_as_empty(stock_root, local):
    get_artifact_repository(f"cas-{stock_root}/{OTHER}").log_artifact(local)
    get_artifact_repository(f"{stock_root}/{RUN}").log_artifact(local)
    old = get_artifact_repository(f"cas-{stock_root}/{RUN}")
    with pytest.raises(ForeignDataError) as caught:
        old.list_artifacts()
    command = re.findall(r"`mlflow-pack artifacts (import .*?)`", caught.value.message)[0]
    for _ in range(2):
        # Twice, as after an interruption.
        run(*command.split())
        assert listing(old) == [("f", False, 50_000)]
    other = get_artifact_repository(f"cas-{stock_root}/{OTHER}")
    other.delete_artifacts()
    assert listing(other) == []


def test_no_store_above_another(tmp_path, local):
    get_artifact_repository(f"cas-file://{tmp_path}/team/mlflow/{RUN}").log_artifact(local)
    opening._stores.clear()
    with pytest.raises(ForeignDataError, match=r"another artifact store at .*/team/mlflow"):
        get_artifact_repository(f"cas-file://{tmp_path}/team").log_artifact(local)
    assert not (tmp_path / "team/.cas").exists()


@pytest.mark.parametrize("folder", ["abcdefghijklmnopqrstuvwxyz/artifacts", "models/m-1/artifacts"])
def test_destination_that_looks_like_a_run(tmp_path, local, monkeypatch, folder):
    """A server makes its store in its destination, whatever the path looks like."""
    destination = f"cas-file://{tmp_path}/{folder}"
    monkeypatch.setenv("_MLFLOW_SERVER_ARTIFACT_DESTINATION", destination)
    get_artifact_repository(f"{destination}/{RUN}").log_artifact(local)
    assert (tmp_path / folder / ".cas/format.json").exists()
    assert not (tmp_path / ".cas").exists()
    monkeypatch.delenv("_MLFLOW_SERVER_ARTIFACT_DESTINATION")
    for _ in range(2):
        # A client finds it there, in a process that knows it and in one that does not.
        assert listing(get_artifact_repository(f"{destination}/{RUN}")) == [("f", False, 50_000)]
        opening._stores.clear()
