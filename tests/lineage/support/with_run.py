"""A plugin of pytest that keeps a run active while a library's own tests run."""

from __future__ import annotations

import warnings

import mlflow


def pytest_configure() -> None:
    """Begin the run before the tests are imported."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some suites take those of MLflow for errors
        mlflow.start_run()


def pytest_unconfigure() -> None:
    """End it."""
    mlflow.end_run()
