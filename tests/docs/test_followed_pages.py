"""The form of the pages that tests/site follows, and what of them it cannot run."""

from __future__ import annotations

import re

from tests.site.support.blocks import RUN, blocks_of
from tests.site.support.pages import DOCS, all_pages, in_order
from tests.site.support.reader import skipped
from tests.support.paths import ROOT

# What a reader reads or saves, and does not run: output, files, drawings.
SHOWN = {"csv", "groovy", "ini", "json", "mermaid", "nginx", "text", "toml", "yaml"}
# Why a block of the pages cannot run in a test, and how many there are.
NOT_RUN = {
    "installs the pack": 7,
    "needs a cluster": 1,
    "needs a browser, and a person at the identity provider": 2,
    "needs a group of users": 1,
    "needs an account": 4,
    "needs an identity provider": 1,
    "needs Docker": 1,
    "needs storage that is reached directly": 1,
    "needs systemd and root": 1,
    "needs the other system": 3,
    "starts a server as the tutorials do": 3,
    "run by tests/cli/test_demo.py": 1,
    "starts processes that take a processor each": 1,
    "takes hours; tests/benchmarks runs each case in small": 1,
    "the store of the tests has lost neither": 1,
    "would change the Python environment of all other tests": 2,
}


def test_each_block_names_its_language() -> None:
    """What is in no language of `RUN` is not run, so a command must not stand in another one."""
    wrong = [
        f"{page.relative_to(ROOT)}:{block.line}: {block.kind or 'no language'}"
        for page in all_pages()
        for block in blocks_of(page.read_text())
        if block.kind not in {*RUN, *SHOWN, "stop", "as", "file"}
    ]
    assert not wrong


def test_each_program_that_a_reader_saves_is_run() -> None:
    for page in all_pages():
        blocks = list(blocks_of(page.read_text()))
        commands = "".join(block.text for block in blocks if block.is_run)
        saved = [block.title for block in blocks if block.kind in RUN and block.title]
        assert not [name for name in saved if not re.search(rf"\b{re.escape(name)}\b", commands)]


def test_what_is_not_run_is_known() -> None:
    found = skipped(all_pages())
    assert {reason: len(places) for reason, places in found.items()} == NOT_RUN, found


def test_each_how_to_page_ends_with_how_to_see_that_it_worked() -> None:
    pages = in_order("how-to")
    assert len(pages) > 25
    assert not [
        page for page in pages if "\n## How to see that it worked\n" not in page.read_text()
    ]


def test_each_page_is_in_the_navigation() -> None:
    named = {*in_order("how-to"), *in_order("tutorials")}
    pages = {*DOCS.glob("how-to/*/*.md"), *DOCS.glob("tutorials/*.md")}
    assert {page.name for page in pages - named} == {"README.md", "demo.md"}
