"""Approved bytes may be in places that consumers and the server share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from mlflow_plugins_pack.approvals.content import digest
from mlflow_plugins_pack.approvals.content.allowed_places import is_allowed
from mlflow_plugins_pack.approvals.plugin import build_store
from mlflow_plugins_pack.errors import (
    ApprovalRequiredError,
    SourceNotAllowedError,
    SourceNotPinnedError,
)
from tests.support.acting import signed_in

SERVING = {
    "_MLFLOW_SERVER_SERVE_ARTIFACTS": "true",
    "_MLFLOW_SERVER_ARTIFACT_ROOT": "mlflow-artifacts:/",
    "_MLFLOW_SERVER_ARTIFACT_DESTINATION": "/srv/artifacts",
}
ON_DISK = {"_MLFLOW_SERVER_ARTIFACT_ROOT": "cas-file:///srv/store"}
ON_S3 = {"_MLFLOW_SERVER_ARTIFACT_ROOT": "s3://bucket/root"}
LOCAL = {"_MLFLOW_SERVER_ARTIFACT_ROOT": "/srv/mlruns"}


@pytest.mark.parametrize(
    ("environment", "location", "expected"),
    [
        (SERVING, "mlflow-artifacts:/1/r/artifacts/m", True),
        (SERVING, "/srv/artifacts/1/r/artifacts/m", False),
        (SERVING, "file:///srv/artifacts/1", False),
        (SERVING, "/home/x/model", False),
        (SERVING, "s3://elsewhere/m", False),
        ({**SERVING, "MLFLOW": ""}, "mlflow-artifacts:/1/../2", False),
        (ON_S3, "s3://bucket/root/1/m", True),
        (ON_S3, "s3://bucket/rooted/1/m", False),
        (ON_S3, "s3://bucket/root/../x", False),
        (ON_S3, "mlflow-artifacts:/1/m", False),
        (ON_S3, "/srv/m", False),
        (LOCAL, "/srv/mlruns/1/m", True),
        (LOCAL, "file:///srv/mlruns/1/m", True),
        (LOCAL, "file:///srv/mlruns/%2e%2e/m", False),
        (LOCAL, "/srv/m", False),
        ({}, "/anywhere", True),
    ],
)
def test_by_default_the_servers_own_store_counts(
    environment: dict[str, str], location: str, expected: bool
) -> None:
    assert is_allowed(location, None, environment) is expected


@pytest.mark.parametrize(
    ("patterns", "location", "expected"),
    [
        (["s3://models/**"], "s3://models/a/b", True),
        (["s3://models/**"], "s3://models/../other/b", False),
        (["s3://models/**"], "mlflow-artifacts:/1/m", False),
        (["/mnt/**"], "/mnt/m", True),
        (["/mnt/**"], "file:///mnt/m", True),
        ([], "mlflow-artifacts:/1/m", False),
    ],
)
def test_a_policy_names_the_places(patterns: Sequence[str], location: str, expected: bool) -> None:
    assert is_allowed(location, patterns, SERVING) is expected


def test_a_link_out_of_an_allowed_folder_is_outside(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "link").symlink_to(tmp_path)
    patterns = [f"{tmp_path.resolve()}/in/**"]
    assert is_allowed(str(tmp_path / "in" / "m"), patterns)
    assert not is_allowed(str(tmp_path / "in" / "link"), patterns)


def test_a_local_path_is_refused_at_the_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "policy.yaml").write_text(
        "version: 1\ngroups: {leads: [bob]}\npolicies:\n  - name: prod\n"
        "    match: {models: ['gov-*']}\n    targets: {aliases: [prod]}\n"
        "    approvals: [{group: leads}]\n"
    )
    monkeypatch.setenv("MLFLOW_PACK_APPROVALS_POLICY", str(tmp_path / "policy.yaml"))
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "weights").write_text("x")
    store = build_store(f"approval-sqlite:///{tmp_path / 'x.db'}")
    with signed_in("alice"):
        store.create_registered_model("gov-a")
        store.create_model_version("gov-a", str(tmp_path / "m"))
        with pytest.raises(ApprovalRequiredError):
            store.set_registered_model_alias("gov-a", "prod", 1)
        for name, value in SERVING.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(SourceNotAllowedError, match="sources_under"):
            store.set_registered_model_alias("gov-a", "prod", 1)
    store.engine.dispose()


def test_a_policy_may_require_files_whose_later_writes_show(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "policy.yaml").write_text(
        "version: 1\ngroups: {leads: [bob]}\npolicies:\n  - name: prod\n"
        "    match: {models: ['gov-*']}\n    targets: {aliases: [prod]}\n"
        "    approvals: [{group: leads}]\n    require: pinned\n"
    )
    monkeypatch.setenv("MLFLOW_PACK_APPROVALS_POLICY", str(tmp_path / "policy.yaml"))
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "weights").write_text("x")
    store = build_store(f"approval-sqlite:///{tmp_path / 'x.db'}")
    with signed_in("alice"):
        store.create_registered_model("gov-a")
        store.create_model_version("gov-a", str(tmp_path / "m"))
        with pytest.raises(ApprovalRequiredError):
            store.set_registered_model_alias("gov-a", "prod", 1)
        # As of a store that has neither locks nor entity tags.
        monkeypatch.setattr(digest, "marks_of", lambda *_: None)
        with pytest.raises(SourceNotPinnedError, match="requires pinned files"):
            store.set_registered_model_alias("gov-a", "prod", 1)
    store.engine.dispose()


@pytest.mark.parametrize("slashes", ["/", "///"])
def test_a_root_counts_however_many_slashes_its_uri_has(slashes: str) -> None:
    assert is_allowed(f"cas-file:{slashes}srv/store/1/models/m-1/artifacts", None, ON_DISK)
    assert not is_allowed(f"cas-file:{slashes}srv/other/1/models/m-1/artifacts", None, ON_DISK)
