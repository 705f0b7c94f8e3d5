"""What an upload relies on is condemned while it commits."""

from __future__ import annotations

import io
import time
import types
from pathlib import Path
from typing import Any

import pytest
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from mlflow_plugins_pack.artifacts.maintenance.gc import collect
from mlflow_plugins_pack.artifacts.store.condemned import CondemnedPacks
from mlflow_plugins_pack.artifacts.store.opening import open_store
from mlflow_plugins_pack.artifacts.upload import pack_writer
from mlflow_plugins_pack.artifacts.upload.older_packs import MissingPackError
from mlflow_plugins_pack.artifacts.upload.session import UploadSession
from mlflow_plugins_pack.artifacts.uri.location import parse_location
from tests.contracts.artifact_repository import new_run_uri, random_bytes


def test_copies_that_are_condemned_too_are_copied_again(tmp_path, monkeypatch):
    root = f"cas-file://{tmp_path}/store"
    data = random_bytes(300_000)
    (tmp_path / "f").write_bytes(data)
    first, second = (get_artifact_repository(new_run_uri(root)) for _ in range(2))
    first.log_artifact(str(tmp_path / "f"))
    store = open_store(parse_location(root))
    asked = []
    packs = CondemnedPacks.packs

    def condemn_first(condemned: CondemnedPacks) -> frozenset[bytes]:
        asked.append(len(asked))
        if len(asked) <= 3:
            condemned.add(frozenset(store.packs.stored()) - packs(condemned))
        return packs(condemned)

    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(CondemnedPacks, "packs", condemn_first)
        second.log_artifact(str(tmp_path / "f"))
    assert len(asked) == 4
    first.delete_artifacts()
    collect(store, 0)
    assert Path(second.download_artifacts("f")).read_bytes() == data


def test_packs_that_went_during_a_long_pause_are_missed(tmp_path, monkeypatch):
    """So long that the list that condemned them is gone, too."""
    store = open_store(parse_location(f"cas-file://{tmp_path}/store"))
    upload = UploadSession(store)
    upload.add_stream("f", io.BytesIO(random_bytes(300_000)))
    passed = 0
    clock = types.SimpleNamespace(monotonic=lambda: time.monotonic() + passed)
    monkeypatch.setattr(pack_writer, "time", clock)
    commit = UploadSession._commit_scope

    def commit_after_a_pause(*arguments: Any) -> None:
        nonlocal passed
        passed = 7200
        store.packs.delete(store.packs.stored())
        commit(*arguments)

    monkeypatch.setattr(UploadSession, "_commit_scope", commit_after_a_pause)
    with pytest.raises(MissingPackError):
        upload.commit()
