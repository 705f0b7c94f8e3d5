"""The contract over every storage, with real servers."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.contracts.artifact_repository import ArtifactRepositoryContract
from tests.support import servers


@pytest.mark.compat
class TestLocal(ArtifactRepositoryContract):
    @pytest.fixture
    def root(self, tmp_path: Path) -> str:
        return f"cas-file://{tmp_path}/store"


class TestS3(ArtifactRepositoryContract):
    @pytest.fixture
    def root(self, moto: servers.ObjectStore, monkeypatch: pytest.MonkeyPatch) -> str:
        for name, value in moto.environment.items():
            monkeypatch.setenv(name, value)
        return f"cas-{moto.new_root()}"


class TestGoogleStorage(ArtifactRepositoryContract):
    @pytest.fixture
    def root(self, gcs: servers.ObjectStore, monkeypatch: pytest.MonkeyPatch) -> str:
        for name, value in gcs.environment.items():
            monkeypatch.setenv(name, value)
        return f"cas-{gcs.new_root()}"


class TestAzure(ArtifactRepositoryContract):
    @pytest.fixture
    def root(self, azurite: servers.ObjectStore, monkeypatch: pytest.MonkeyPatch) -> str:
        for name, value in azurite.environment.items():
            monkeypatch.setenv(name, value)
        return f"cas-{azurite.new_root()}"


class TestEncrypted(ArtifactRepositoryContract):
    @pytest.fixture
    def root(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
        monkeypatch.setenv("ARTIFACT_KEY", "07" * 32)
        monkeypatch.setenv("MLFLOW_PACK_ARTIFACT_KEYS", "env:ARTIFACT_KEY")
        monkeypatch.setenv("MLFLOW_PACK_ARTIFACT_ENCRYPT", "true")
        return f"cas-file://{tmp_path}/store"
