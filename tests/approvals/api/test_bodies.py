"""JSON bodies of any type, size and depth are refused with a reason, and change nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.approvals.support.review_sites import ReviewSite

API = "/approvals/api/v1"
DATABRICKS = "/api/2.0/mlflow"
JSON = {"Content-Type": "application/json"}
VALID: dict[str, Any] = {
    "name": "bodies",
    "model": "bodies",
    "version": 1,
    "target": "prod",
    "stage": "Production",
    "text": "x",
    "id": "0" * 32,
    "archive_existing_versions": False,
}
"""The fields that some endpoint requires."""
BODIES: dict[str, str | bytes] = {
    "empty": "",
    "not JSON": "{",
    "a list": "[]",
    "a text": '"approve"',
    "null": "null",
    "a number": "1",
    "a list of bodies": "[{}]",
    "not UTF-8": b'{"comment": "\xff", "text": "\xff"}',
    "deep lists": '{"comment": ' + "[" * 20_000,
    "deep objects": '{"text":' * 15_000,
    "deep and closed": '{"text":' + "[" * 5_000 + "]" * 5_000 + "}",
    "too large": json.dumps({"text": "x" * 140_000}),
    "a long text": json.dumps({**VALID, "text": "x" * 5_001, "comment": "x" * 5_001}),
    "many digits": '{"version": ' + "9" * 10_000 + "}",
    **{
        f"{value!r:.20} everywhere": json.dumps(dict.fromkeys((*VALID, "comment"), value))
        for value in (None, True, 1.5, 1e999, -1, [], {}, ["x"], {"x": "y"}, "\x00", "\ud800")
    },
}


@pytest.fixture(scope="module")
def request_id(review: ReviewSite) -> str:
    version = review.new_version("bodies")
    body = {"model": "bodies", "version": version, "target": "prod"}
    return str(review.json("alice", "POST", f"{API}/requests", body)["id"])


PATHS = (
    ("POST", f"{API}/requests"),
    ("POST", f"{API}/requests/ID/comments"),
    ("PATCH", f"{API}/comments/ID"),
    ("POST", f"{DATABRICKS}/transition-requests/create"),
    ("POST", f"{DATABRICKS}/transition-requests/approve"),
    ("POST", f"{DATABRICKS}/transition-requests/reject"),
    ("POST", f"{DATABRICKS}/comments/create"),
    ("PATCH", f"{DATABRICKS}/comments/update"),
)


@pytest.mark.parametrize(("method", "path"), PATHS)
def test_what_is_not_asked_for_is_refused(
    review: ReviewSite, request_id: str, method: str, path: str
) -> None:
    at = f"{API}/requests/{request_id}"
    before = review.json("bob", "GET", at)
    for name, body in BODIES.items():
        answer = review.call("bob", method, path.replace("ID", request_id), data=body, headers=JSON)
        assert answer.status_code in (400, 413), (name, answer.status_code, answer.text)
        assert answer.json()["message"], name
        assert "Nothing was changed." in answer.json()["message"], (name, answer.text)
    assert review.json("bob", "GET", at) == before


@pytest.mark.parametrize("action", ["approve", "reject", "break_glass"])
def test_a_vote_with_an_odd_comment_is_no_vote(
    review: ReviewSite, request_id: str, action: str
) -> None:
    at = f"{API}/requests/{request_id}"
    before = review.json("bob", "GET", at)
    for name, body in BODIES.items():
        if name in ("deep objects", "deep and closed", "many digits"):  # of fields it has not
            continue
        answer = review.call("bob", "POST", f"{at}/{action}", data=body, headers=JSON)
        assert answer.status_code in (400, 413), (name, answer.text)
    assert review.json("bob", "GET", at) == before


def test_of_a_field_that_comes_twice_the_last_counts(review: ReviewSite, request_id: str) -> None:
    """As everywhere in Python; the server in front of it may read the first."""
    body = '{"text": 1, "text": "first", "text": "last"}'
    at = f"{API}/requests/{request_id}/comments"
    found = review.call("bob", "POST", at, data=body, headers=JSON).json()
    assert [comment["text"] for comment in found] == ["last"]
