"""Each tutorial does what it says, followed from its first block to its last."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.site.support.pages import in_order, places, terminal
from tests.site.support.reader import Reader
from tests.support import servers


@pytest.mark.parametrize(
    "page",
    [page for page in in_order("tutorials") if page.stem != "team-server"],
    ids=lambda page: page.stem,
)
def test_the_tutorial_works(page: Path, tmp_path: Path) -> None:
    with Reader(tmp_path, places(servers.free_port()), terminal(tmp_path)) as reader:
        reader.follow(page)
        assert len(reader.outputs) > 3
