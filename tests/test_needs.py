"""The marks `server` and `process` follow from what a test's code calls."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.support import needs, servers


def start_a_program() -> None:
    subprocess.run(["true"], check=True)


def start_a_server() -> None:
    with servers.mlflow_server(Path()):
        pass


def start_it_by_a_helper() -> None:
    def helper() -> None:
        start_a_server()

    helper()


def start_it_by_an_import() -> None:
    from tests.support.servers import mlflow_server

    mlflow_server(Path())


@pytest.mark.parametrize(
    ("function", "found"),
    [
        (str.upper, set()),
        (start_a_program, {"process"}),
        (start_a_server, {"server"}),
        (start_it_by_a_helper, {"server"}),
        (start_it_by_an_import, {"server"}),
    ],
)
def test_needs_are_read_from_code(function: object, found: set[str]) -> None:
    assert needs._needs(function) == found


def test_this_test_needs_nothing(request: pytest.FixtureRequest) -> None:
    assert not {"server", "process"} & {mark.name for mark in request.node.iter_markers()}


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_parameter_names_a_server(request: pytest.FixtureRequest, kind: str) -> None:
    marks = {mark.name for mark in request.node.iter_markers()}
    assert ("server" in marks) == (kind == "postgresql")
