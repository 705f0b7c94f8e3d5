"""Headers of answers, and of requests: nothing private is kept, framed or taken on trust."""

from __future__ import annotations

from typing import Any

import pytest

from tests.approvals.support.review_sites import ReviewSite

API = "/approvals/api/v1"
UNKNOWN = "0" * 32
FORGED = {
    "Forwarded": "for=127.0.0.1;by=alice",
    "Remote-User": "alice",
    "X-Authenticated-User": "alice",
    "X-Auth-Request-User": "alice",
    "X-Forwarded-Email": "alice",
    "X-Forwarded-For": "127.0.0.1",
    "X-Forwarded-Preferred-Username": "alice",
    "X-Forwarded-User": "alice",
    "X-MLFLOW-USER": "alice",
    "X-Remote-User": "alice",
    "X-User": "alice",
}
PAGES = ("/", "/?view=open", "/models", "/audit", "/policy", "/lineage", "/health", "/none")
ANSWERS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    *(("GET", f"/approvals{path}", {}) for path in PAGES),
    ("GET", "/approvals", {}),
    ("GET", "/approvals/models/model?name=headers", {}),
    ("GET", "/approvals/requests/ID", {}),
    ("GET", f"/approvals/requests/{UNKNOWN}", {}),
    ("GET", "/approvals/lineage?target=models:/headers/1", {}),
    ("GET", "/approvals/audit.jsonl?model=headers", {}),
    ("GET", "/approvals/?page_token=x", {}),
    ("GET", "/approvals/?text=%00", {}),
    ("GET", f"{API}/requests", {}),
    ("GET", f"{API}/requests/ID", {}),
    ("GET", f"{API}/requests/ID/comments", {}),
    ("GET", f"{API}/requests/{UNKNOWN}", {}),
    ("GET", f"{API}/audit?model=headers", {}),
    ("GET", f"{API}/lineage?target=models:/headers/1", {}),
    ("GET", "/api/2.0/mlflow/transition-requests/list?name=headers&version=1", {}),
    ("POST", f"{API}/requests", {"json": {}}),
    ("POST", f"{API}/requests", {"data": b"x" * 200_000}),
    ("POST", f"{API}/requests", {"json": {}, "headers": {"Origin": "https://evil.example"}}),
    ("POST", "/approvals/requests/ID", {"data": {"action": "approve"}}),
    ("PUT", "/approvals/", {}),
)


@pytest.fixture(scope="module")
def request_id(review: ReviewSite) -> str:
    version = review.new_version("headers")
    body = {"model": "headers", "version": version, "target": "prod"}
    return str(review.json("alice", "POST", f"{API}/requests", body)["id"])


@pytest.mark.parametrize("user", ["bob", "mallory", None])
def test_no_answer_is_kept_or_framed(review: ReviewSite, request_id: str, user: str | None) -> None:
    for method, path, options in ANSWERS:
        answer = review.call(user, method, path.replace("ID", request_id), **options)
        about = (method, path, answer.status_code)
        assert answer.status_code < 500, about
        assert answer.headers["Cache-Control"] == "no-store", about
        assert answer.headers["X-Frame-Options"] == "DENY", about
        assert answer.headers["X-Content-Type-Options"] == "nosniff", about
        assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"], about
        assert "Access-Control-Allow-Origin" not in answer.headers, about
        if user != "bob" and answer.status_code == 200:
            assert "train headers" not in answer.text, about
            assert request_id not in answer.text, about


def test_no_header_makes_a_visitor_another_user(review: ReviewSite, request_id: str) -> None:
    at = f"{API}/requests/{request_id}"
    for headers in ({name: value} for name, value in FORGED.items()):
        assert review.call(None, "GET", "/approvals/", headers=headers).status_code == 401
        page = review.call("mallory", "GET", "/approvals/", headers=headers)
        assert "Signed in as <strong>mallory</strong>" in page.text
        assert review.call("mallory", "GET", at, headers=headers).status_code == 404
        vote = review.call("erin", "POST", f"{at}/approve", json={}, headers=headers)
        assert vote.json()["pack_code"] == "NOT_AN_APPROVER"
    assert review.json("bob", "GET", at)["votes"] == []


def test_no_redirect_leads_elsewhere(review: ReviewSite) -> None:
    evil = {"Host": "evil.example", "X-Forwarded-Host": "evil.example"}
    evil["X-Forwarded-Prefix"] = "//evil.example"
    for place in (
        "/approvals",
        "//evil.example/approvals",
        "/approvals//evil.example",
        "/approvals/%2F%2Fevil.example",
        "/approvals/\\evil.example",
        "/approvals?next=https://evil.example",
        "/approvals/?done=https://evil.example&return=//evil.example",
    ):
        for headers in ({}, evil):
            answer = review.call("bob", "GET", place, headers=headers)
            assert answer.status_code < 500, place
            assert "evil.example" not in answer.headers.get("Location", ""), place
