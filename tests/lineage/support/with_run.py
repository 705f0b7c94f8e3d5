"""A plugin of pytest that keeps a run active while a library's own tests run."""

from __future__ import annotations

import mlflow


def pytest_configure() -> None:
    """Begin the run before the tests are imported."""
    mlflow.start_run()


def pytest_unconfigure() -> None:
    """End it."""
    mlflow.end_run()
