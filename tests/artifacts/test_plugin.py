"""What stock MLflow sees: entry points, signatures, and what importing costs."""

from __future__ import annotations

import importlib.metadata
import inspect
import subprocess
import sys

import pytest
from mlflow.store.artifact import artifact_repo
from mlflow.store.artifact.artifact_repo import ArtifactRepository
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from mlflow_plugins_pack.artifacts.plugin import CasArtifactRepository
from mlflow_plugins_pack.artifacts.uri.schemes import PACK_SCHEMES
from mlflow_plugins_pack.errors import ForbiddenRootError, UnsupportedUriError
from tests.contracts.artifact_repository import pretend_server
from tests.support import servers

pytestmark = pytest.mark.compat

BASES = tuple(
    kind for kind in CasArtifactRepository.__mro__ if kind.__module__.startswith("mlflow.")
)


def test_every_scheme_is_an_entry_point():
    found = {
        point.name: point.value
        for point in importlib.metadata.entry_points(group="mlflow.artifact_repository")
        if point.value.startswith("mlflow_plugins_pack.")
    }
    value = "mlflow_plugins_pack.artifacts.plugin:CasArtifactRepository"
    assert found == dict.fromkeys(PACK_SCHEMES, value)


@pytest.mark.parametrize(
    "name",
    [
        name
        for name, value in vars(CasArtifactRepository).items()
        if inspect.isfunction(value) and any(hasattr(base, name) for base in BASES)
    ],
)
def test_signature_equals_the_base(name):
    base = next(getattr(b, name) for b in BASES if hasattr(b, name))
    ours = inspect.signature(getattr(CasArtifactRepository, name)).parameters.values()
    theirs = inspect.signature(base).parameters.values()
    assert [(p.name, p.kind, p.default) for p in ours] == [
        (p.name, p.kind, p.default) for p in theirs
    ]
    assert inspect.iscoroutinefunction(getattr(CasArtifactRepository, name)) == (
        inspect.iscoroutinefunction(base)
    )


def test_the_bases_are_those_of_this_mlflow():
    """A server streams uploads into what has this mixin, where there is one (MLflow 3.15)."""
    assert ArtifactRepository in BASES
    assert getattr(artifact_repo, "StreamUploadMixin", ArtifactRepository) in BASES


def test_what_must_be_overridden_is():
    for name in ("log_artifact", "log_artifacts", "list_artifacts", "_download_file"):
        assert name in vars(CasArtifactRepository)
    # Without it, stock refuses to archive traces.
    assert "delete_artifacts" in vars(CasArtifactRepository)


def test_plugin_is_a_leaf():
    code = """
import sys
import mlflow.store.artifact.artifact_repo
before = set(sys.modules)
import mlflow_plugins_pack.artifacts.plugin
new = set(sys.modules) - before
print(sorted(new))
repository = mlflow_plugins_pack.artifacts.plugin.CasArtifactRepository("nonsense:///\\0")
"""
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", code],
        env=servers.clean_environment(),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    # All are known already where `import mlflow` has loaded the entry points.
    loaded = eval(done.stdout)
    assert not [
        name
        for name in loaded
        if name.split(".")[0] in ("boto3", "botocore", "azure", "sqlalchemy", "zstandard")
        or name.startswith(("mlflow.store", "mlflow_plugins_pack.artifacts.store.store"))
    ]


def test_import_mlflow_loads_no_cloud_library_through_us():
    code = """
import sys
import mlflow
print([m for m in ("boto3", "azure.storage.blob", "zstandard", "pyfastcdc",
                   "mlflow_plugins_pack.artifacts.store.store") if m in sys.modules])
from mlflow.store.artifact.artifact_repository_registry import _artifact_repository_registry as r
print(sorted(s for s in r.get_registered_artifact_repositories() if s.startswith("cas-")))
"""
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", code],
        env=servers.clean_environment(),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout.splitlines() == ["[]", str(sorted(PACK_SCHEMES))], done.stderr


def test_wrong_uri_surfaces_in_the_call():
    repository = CasArtifactRepository("cas-file://host/x")
    with pytest.raises(UnsupportedUriError, match="host"):
        repository.list_artifacts()


def test_server_refuses_other_roots(tmp_path, monkeypatch):
    pretend_server(monkeypatch, f"cas-file://{tmp_path}/own")
    (tmp_path / "f").write_bytes(b"x")
    get_artifact_repository(f"cas-file://{tmp_path}/own").log_artifact(str(tmp_path / "f"))
    other = get_artifact_repository(f"cas-file://{tmp_path}/other/1")
    for call in (
        other.list_artifacts,
        other.delete_artifacts,
        lambda: other.download_artifacts(""),
        lambda: other.log_artifact(str(tmp_path / "f")),
        other.content_digest,
    ):
        with pytest.raises(ForbiddenRootError, match="MLFLOW_PACK_ARTIFACT_ROOTS"):
            call()
    assert not (tmp_path / "other").exists()
    monkeypatch.setenv("MLFLOW_PACK_ARTIFACT_ROOTS", f"cas-file://{tmp_path}/other")
    assert other.list_artifacts() == []
