"""A version's description has links to its open requests where it is read, and never stored."""

from __future__ import annotations

import time

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from mlflow_plugins_pack.approvals.domain import description_links
from tests.approvals.support.bench import ClockBench

BASE = "https://mlflow.example.com"


def stored(bench: ClockBench) -> list[str | None]:
    with bench.store.engine.connect() as connection:
        query = sa.text("SELECT description FROM model_versions ORDER BY version")
        return list(connection.execute(query).scalars())


def test_a_link_is_there_while_a_request_is_open(
    bench: ClockBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = bench.version()
    bench.store.update_model_version("gov-a", version, "What people wrote.\n")
    bench.say("erin", "request", version)

    def read() -> str:
        return str(bench.store.get_model_version("gov-a", version).description)

    assert read() == "What people wrote.\n"  # without a review app there is no page to link to
    monkeypatch.setenv("MLFLOW_PACK_REVIEW_URL", BASE)
    with bench.store.engine.connect() as connection:
        request = connection.execute(sa.text("SELECT id FROM mpp_request")).scalar_one()
    page = f"{BASE}/approvals/requests/{request}"
    link = f'[Approval of `prod` is requested]({page} "mlflow-approvals")'
    assert read() == f"What people wrote.\n\n\n{link}"
    # Someone edits the text that they read, while the request is closed.
    edited = read().replace("people wrote", "alice wrote")
    bench.say("erin", "cancel", version)
    assert read() == "What people wrote.\n"
    bench.store.update_model_version("gov-a", version, edited)
    assert stored(bench) == [read()] == ["What alice wrote.\n"]
    # A copy, as the stock client makes one, is a version of its own.
    bench.store.create_model_version("gov-a", f"models:/gov-a/{version}", description=edited)
    assert stored(bench) == ["What alice wrote.\n"] * 2


STATUS = '{"state":"PENDING","request_id":"' + "a" * 32 + '"}'
TAGS = {f"mlflow_approvals.{name}.request": STATUS for name in ("prod", "stage:Production")}


@given(st.text())
def test_taking_the_links_off_leaves_what_was_there(text: str) -> None:
    shown = description_links.added(text, TAGS, BASE, "a b")
    assert shown is not None
    assert shown.count("/approvals/requests/") == 2
    assert description_links.removed(shown) == text


def test_links_are_taken_off_wherever_they_were_moved() -> None:
    line = description_links.added(None, {"mlflow_approvals.p.request": STATUS}, BASE, "default")
    for shown, text in (
        (f"{line}\n\nabove", "above"),
        (f"a\n\n{line}\n\nb", "a\n\nb"),
        (f"a\r\n\r\n{line}", "a"),
        (f"a\n{line}\nb", "a\nb"),
        (f"a [link](https://example.com) {line}", f"a [link](https://example.com) {line}"),
    ):
        assert description_links.removed(shown) == text
    for broken in ("{", '{"state":"APPLIED"}', '{"state":"PENDING"}'):
        tags = {"mlflow_approvals.p.request": broken}
        assert description_links.added("a", tags, BASE, "default") == "a"


@pytest.mark.parametrize(
    "part", ["](", '](a "mlflow-approvals"', "\n\n[](", "\n[", "[", '[](a "mlflow-approvals")x']
)
def test_a_hostile_description_takes_linear_time(part: str) -> None:
    text = "[" + part * (1_000_000 // len(part))
    before = time.process_time()
    assert description_links.removed(text) == text
    assert time.process_time() - before < 2
