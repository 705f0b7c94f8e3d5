"""The form of the pages that tests/site follows, and what of them it cannot run."""

from __future__ import annotations

from tests.site.support.pages import DOCS, in_order
from tests.site.support.reader import skipped

# Why a block of the pages cannot run in a test, and how many there are.
NOT_RUN = {
    "installs the pack": 3,
    "needs a cluster": 1,
    "needs a browser, and a person at the identity provider": 2,
    "needs a group of users": 1,
    "needs an account": 4,
    "needs an identity provider": 1,
    "needs Docker": 1,
    "needs systemd and root": 1,
    "needs the other system": 3,
    "starts a server as the tutorials do": 5,
    "starts processes that take a processor each": 1,
    "the store of the tests has lost neither": 1,
    "would change the Python environment of all other tests": 2,
}


def test_what_is_not_run_is_known() -> None:
    found = skipped(sorted(DOCS.glob("**/*.md")))
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
