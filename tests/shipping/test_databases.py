"""The same between servers as teams run them."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlflow_plugins_pack.shipping import content, journey
from mlflow_plugins_pack.shipping.ends import End
from mlflow_plugins_pack.shipping.journey import Options
from tests.shipping.support.versions import (
    STEPS,
    all_of,
    client_of,
    files_of,
    make_version,
    model_of,
    random_bytes,
)
from tests.support.servers import DatabaseServer, ObjectStore, mlflow_server

LARGE = 8 * 2**20


def use(monkeypatch: pytest.MonkeyPatch, store: ObjectStore) -> None:
    for name, value in store.environment.items():
        monkeypatch.setenv(name, value)


def check(dev: str, prod: str, tmp_path: Path, *storage: str) -> int:
    """Ship two versions that differ by little; return the bytes moved for the second."""
    source, target = End(dev, storage=storage), End(prod, storage=storage)
    base = random_bytes(LARGE, 5)
    changed = base[:3_000_000] + random_bytes(LARGE // 100, 6) + base[3_000_000 + LARGE // 100 :]
    moved = 0
    for number, large in enumerate((base, changed), 1):
        version = make_version(dev, "fraud", tmp_path / f"model{number}", large=large)
        wanted = f"models:/fraud/{number}"
        done = journey.ship(source, target, wanted, Options(), lambda _: None)
        assert done.target == wanted
        again = journey.ship(source, target, wanted, Options(), lambda _: None)
        assert (again.is_new, again.digest) == (False, done.digest)
        there = client_of(prod).get_model_version("fraud", str(number))
        model = client_of(prod).get_logged_model(model_of(there))
        files = files_of(prod, model.artifact_location, tmp_path / f"there{number}")
        assert files["data/weights.bin"] == large
        history = client_of(prod).get_metric_history(there.run_id, "loss")
        assert len(history) == STEPS
        assert version.run_id != there.run_id
        moved = done.moved.moved_bytes
    assert {key: all_of(prod)[key] for key in ("runs", "models", "versions")} == {
        "runs": 2,
        "models": 2,
        "versions": 2,
    }
    return moved


def test_postgresql_and_s3_by_chunks(
    tmp_path: Path,
    postgresql: DatabaseServer,
    moto: ObjectStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    use(monkeypatch, moto)
    roots = [f"cas-{moto.new_root()}" for _ in range(2)]
    with (
        mlflow_server(
            tmp_path / "dev",
            backend=postgresql.new_mlflow_database(),
            default_artifact_root=roots[0],
            **moto.environment,
        ) as dev,
        mlflow_server(
            tmp_path / "prod",
            backend=postgresql.new_mlflow_database(),
            default_artifact_root=roots[1],
            **moto.environment,
        ) as prod,
    ):
        assert check(dev.url, prod.url, tmp_path, *roots) < LARGE // 10


def test_mariadb_and_azure_through_the_servers(
    tmp_path: Path,
    mariadb: DatabaseServer,
    azurite: ObjectStore,
) -> None:
    with (
        mlflow_server(
            tmp_path / "dev",
            backend=mariadb.new_mlflow_database(),
            artifacts=azurite.new_root(),
            **azurite.environment,
        ) as dev,
        mlflow_server(
            tmp_path / "prod",
            backend=mariadb.new_mlflow_database(),
            artifacts=f"cas-{azurite.new_root()}",
            **azurite.environment,
        ) as prod,
    ):
        assert check(dev.url, prod.url, tmp_path) > LARGE


def test_from_workspace_to_workspace(tmp_path: Path) -> None:
    import mlflow
    from mlflow.utils.workspace_context import ServerWorkspaceContext

    with mlflow_server(tmp_path, options=["--enable-workspaces"]) as server:
        mlflow.set_tracking_uri(server.url)
        for name in ("team-a", "team-b"):
            mlflow.create_workspace(name)
        with ServerWorkspaceContext("team-a"):
            make_version(server.url, "fraud", tmp_path / "model")
        source, target = End(server.url, "team-a"), End(server.url, "team-b")
        done = journey.ship(source, target, "models:/fraud/1", Options(), lambda _: None)
        assert done.is_new
        with ServerWorkspaceContext("team-b"):
            found = client_of(server.url).get_model_version("fraud", "1")
            model = client_of(server.url).get_logged_model(model_of(found))
        # Not by a stock download: its threads know of no workspace but the environment's.
        assert content.read_digest(target, model.artifact_location) == done.digest
        again = journey.ship(source, target, "models:/fraud/1", Options(), lambda _: None)
        assert not again.is_new
