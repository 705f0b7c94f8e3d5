"""The four plugins, as MLflow finds them through their entry points."""

from __future__ import annotations

import subprocess
import sys

LOADED = """
import mlflow_plugins_pack.{plugin}.plugin
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.tracking.context.registry import _run_context_provider_registry as contexts
from mlflow.tracking.request_header.registry import _request_header_provider_registry as headers

pack = "mlflow_plugins_pack."
assert type(get_artifact_repository("cas-file:///store")).__module__.startswith(pack)
for registry in (contexts, headers):
    assert any(type(provider).__module__.startswith(pack) for provider in registry)
"""


def test_a_plugin_that_is_imported_before_mlflow_is_registered_all_the_same() -> None:
    started = [
        subprocess.Popen(
            [sys.executable, "-W", "error::UserWarning", "-c", LOADED.format(plugin=plugin)],
            stderr=subprocess.PIPE,
            text=True,
        )
        for plugin in ("approvals", "artifacts", "auth", "lineage")
    ]
    for process in started:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
