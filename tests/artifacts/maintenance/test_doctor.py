"""The doctor's check of an artifact root."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlflow_plugins_pack.artifacts.maintenance import doctor
from mlflow_plugins_pack.artifacts.plugin import CasArtifactRepository
from tests.support import servers


def test_a_writable_root_is_fine_and_left_as_it_was(tmp_path: Path) -> None:
    uri = f"cas-file://{tmp_path}"
    (finding,) = doctor.check(uri)
    assert finding.level == "ok"
    assert "first upload will make the store" in finding.message
    assert list(tmp_path.iterdir()) == []


def test_an_existing_store_is_named(tmp_path: Path) -> None:
    uri = f"cas-file://{tmp_path}/store"
    local = tmp_path / "a.txt"
    local.write_text("a")
    CasArtifactRepository(f"{uri}/1/{'0' * 32}/artifacts").log_artifact(str(local))
    (finding,) = doctor.check(uri)
    assert finding.level == "ok"
    assert "the store is cas-file:" in finding.message


def test_a_root_that_is_a_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    (finding,) = doctor.check(f"cas-file://{tmp_path}/file/store")
    assert finding.level == "error"


def test_a_missing_bucket_is_an_error(
    moto: servers.ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in moto.environment.items():
        monkeypatch.setenv(name, value)
    (finding,) = doctor.check("cas-s3://no-such-bucket-here/prefix")
    assert finding.level == "error"
    assert "no-such-bucket-here" in finding.message
