"""Fresh hosts, and whether what they read is right."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest
from mlflow.store.artifact.artifact_repo import ArtifactRepository

from mlflow_plugins_pack.artifacts.store import opening
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
