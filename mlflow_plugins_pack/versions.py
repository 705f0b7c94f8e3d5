"""Which versions of MLflow the pack is made for."""

from __future__ import annotations

import mlflow.version

OLDEST_MLFLOW = (3, 14)
"""Before it, nothing that decides by who calls can be relied on."""
NEWEST_TRIED_MLFLOW = (3, 18)
"""The newest minor version that the tests have run on."""


def mlflow_version() -> tuple[int, ...]:
    """Return major and minor version of the installed MLflow."""
    return tuple(int(part) for part in mlflow.version.VERSION.split(".")[:2])
