"""Fresh hosts, whether what they read is right, and operators who change a storage behind them."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest
from mlflow.store.artifact.artifact_repo import ArtifactRepository

from mlflow_plugins_pack.artifacts.backends import open_backend
from mlflow_plugins_pack.artifacts.store import opening
from mlflow_plugins_pack.artifacts.uri.location import parse_location
from tests.contracts.artifact_repository import content, random_bytes

DATA = random_bytes(700_000)


def fresh_host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Forget all that this process knows of any store."""
    monkeypatch.setenv("MLFLOW_PACK_ARTIFACT_CACHE_DIR", str(tmp_path / uuid.uuid4().hex))
    opening._stores.clear()
    opening._backends.clear()


def expect_good(repository: ArtifactRepository) -> None:
    assert content(repository.download_artifacts("")) == {
        "weights.bin": DATA,
        "small.txt": b"small",
    }


class Operator:
    """Changes the objects of a store without any of its processes.

    Args:
        root: URI of the store.
    """

    def __init__(self, root: str) -> None:
        location = parse_location(root)
        self._backend = open_backend(location)
        self._root = location.path

    def save(self) -> dict[str, bytes]:
        """Return all objects by key."""
        return {key: self._backend.read(key) for key in self._keys("")}

    def wipe(self, folder: str = "") -> None:
        """Remove all objects of the store, or of a folder of it."""
        self._backend.delete(self._keys(folder))

    def restore(self, saved: dict[str, bytes], folder: str = "") -> None:
        """Set the store, or a folder of it, back to what was saved."""
        self.wipe(folder)
        for key, data in saved.items():
            if key.startswith(self._prefix(folder)):
                self._backend.write(key, data)

    def _keys(self, folder: str) -> list[str]:
        return [stored.key for stored in self._backend.list(self._prefix(folder))]

    def _prefix(self, folder: str) -> str:
        return f"{self._root}/{folder}/" if folder else f"{self._root}/"
