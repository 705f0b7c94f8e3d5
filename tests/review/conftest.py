"""Fixtures of the tests of the whole review app."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.approvals.support.review_sites import ReviewSite, review_site


@pytest.fixture(scope="session")
def review(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReviewSite]:
    """A stock server with the review app next to it, for all tests that can share it."""
    with review_site(tmp_path_factory.mktemp("review")) as found:
        yield found
