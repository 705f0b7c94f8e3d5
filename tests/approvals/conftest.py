"""Fixtures of the approvals tests."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.approvals.support.databases import SITES
from tests.support import templates

if TYPE_CHECKING:
    from tests.approvals.support.bench import ClockBench
    from tests.approvals.support.review_sites import ReviewSite
    from tests.approvals.support.sites import Site


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with MLflow's tables, which take a second to make."""
    path = tmp_path_factory.mktemp("empty") / "mlflow.db"
    templates.sqlite_with_tables(path)
    return path


@pytest.fixture(scope="session", params=SITES)
def running_site(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    mlflow_database: Callable[[str, Path], str],
) -> Iterator[Site]:
    """A server on each database, with workspaces and without, for all tests that can share it."""
    from tests.approvals.support import sites

    kind, _, mode = request.param.partition("-")
    folder = tmp_path_factory.mktemp(request.param)
    database = mlflow_database(kind, folder)
    with sites.site_on(database, folder, with_workspaces=bool(mode)) as site:
        yield site


@pytest.fixture
def site(running_site: Site) -> Iterator[Site]:
    """The same, with this process configured as the server is, and in its workspace."""
    with running_site.entered():
        yield running_site


@pytest.fixture
def bench(tmp_path: Path, empty_database: Path, monkeypatch: pytest.MonkeyPatch) -> ClockBench:
    """A store of its own under `bench.POLICY`, with a clock that the test moves."""
    from tests.approvals.support.bench import ClockBench

    shutil.copy(empty_database, tmp_path / "mlflow.db")
    return ClockBench(tmp_path, monkeypatch)


@pytest.fixture(scope="session")
def review(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReviewSite]:
    """A stock server with the review app next to it, for all tests that can share it."""
    from tests.approvals.support.review_sites import review_site

    with review_site(tmp_path_factory.mktemp("review")) as found:
        yield found
