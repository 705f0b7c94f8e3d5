"""Endpoints of requests: a reviewer with READ votes, and no one does more than they may."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from mlflow_plugins_pack.cli.main import cli
from tests.approvals.support.review_sites import ReviewSite

API = "/approvals/api/v1"


def ask(review: ReviewSite, name: str, version: int, target: str = "prod") -> str:
    body = {"model": name, "version": version, "target": target, "comment": "please"}
    return str(review.json("alice", "POST", f"{API}/requests", body)["id"])


def test_reviewers_with_read_approve_and_the_owner_applies(review: ReviewSite) -> None:
    version = review.new_version("fraud-1")
    review.tested("fraud-1", version)
    request = ask(review, "fraud-1", version)
    at = f"{API}/requests/{request}"

    first = review.json("bob", "POST", f"{at}/approve", {"comment": "metrics hold"})
    assert (first["state"], first["approvals"], first["approvals_needed"]) == ("PENDING", 1, 2)
    assert first["may_approve"] == ["dave"]
    second = review.json("dave", "POST", f"{at}/approve", {})
    assert second["state"] == "APPROVED"
    assert second["checks"] == [
        {"check": "tag: tests, equals: passed, writers: group:ci", "problems": []}
    ]

    refused = review.call("bob", "PUT", f"{at}/applied", json={})
    assert refused.status_code == 403  # READ is enough to vote and not to change the alias
    assert review.json("alice", "PUT", f"{at}/applied", {})["state"] == "APPLIED"
    with review.signed_in("alice") as client:
        assert client.get_model_version_by_alias("fraud-1", "prod").version == str(version)


def test_the_app_refuses_as_the_store_does(review: ReviewSite) -> None:
    version = review.new_version("fraud-2")
    request = ask(review, "fraud-2", version)
    at = f"{API}/requests/{request}"
    for user, action, status, code in (
        ("alice", "approve", 403, "NOT_AN_APPROVER"),
        ("erin", "reject", 403, "NOT_AN_APPROVER"),
        ("bob", "withdraw", 404, "NO_OPEN_REQUEST"),
        ("bob", "cancel", 403, "NOT_AN_APPROVER"),
        ("alice", "break_glass", 403, "NOT_AN_APPROVER"),
        ("bob", "break_glass", 403, None),  # MLflow's own check: it changes the alias
    ):
        answer = review.call(user, "POST", f"{at}/{action}", json={})
        assert (answer.status_code, answer.json().get("pack_code")) == (status, code), action
    assert review.json("bob", "GET", at)["state"] == "PENDING"


def test_asking_needs_edit_in_mlflow(review: ReviewSite) -> None:
    version = review.new_version("fraud-3")
    body = {"model": "fraud-3", "version": version, "target": "prod"}
    assert review.call("bob", "POST", f"{API}/requests", json=body).status_code == 403
    assert review.call("mallory", "POST", f"{API}/requests", json=body).status_code == 404


def test_a_vote_counts_for_the_request_that_was_seen(review: ReviewSite) -> None:
    version = review.new_version("fraud-4")
    seen = ask(review, "fraud-4", version)
    review.json("alice", "POST", f"{API}/requests/{seen}/cancel", {})
    other = ask(review, "fraud-4", version)
    answer = review.call("bob", "POST", f"{API}/requests/{seen}/approve", json={})
    assert (answer.status_code, answer.json().get("pack_code")) == (404, "NO_OPEN_REQUEST")
    assert review.json("bob", "GET", f"{API}/requests/{other}")["votes"] == []


@pytest.mark.parametrize("user", ["mallory", None])
def test_what_a_visitor_may_not_read_does_not_exist(review: ReviewSite, user: str | None) -> None:
    version = review.new_version("fraud-5")
    request = ask(review, "fraud-5", version)
    comment = review.json("bob", "POST", f"{API}/requests/{request}/comments", {"text": "hm"})[0]
    unknown = f"{API}/requests/{'0' * 32}"
    for method, path, body in (
        ("GET", f"{API}/requests/{request}", None),
        ("POST", f"{API}/requests/{request}/approve", {}),
        ("PUT", f"{API}/requests/{request}/applied", {}),
        ("GET", f"{API}/requests/{request}/comments", None),
        ("POST", f"{API}/requests/{request}/comments", {"text": "hi"}),
        ("PATCH", f"{API}/comments/{comment['id']}", {"text": "hi"}),
        ("DELETE", f"{API}/comments/{comment['id']}", None),
        ("GET", unknown, None),
    ):
        answer = review.call(user, method, path, json=body)
        assert answer.status_code == (404 if user else 401), (method, path, answer.text)
        assert "fraud-5" not in answer.text
    listed = review.call(user, "GET", f"{API}/requests?view=open")
    if user:
        assert listed.json() == {"requests": [], "next_page_token": ""}
    else:
        assert listed.status_code == 401
        assert listed.headers["WWW-Authenticate"].startswith("Basic")


def test_lists_and_comments(review: ReviewSite) -> None:
    version = review.new_version("fraud-6")
    request = ask(review, "fraud-6", version)

    def ids(user: str, view: str) -> list[str]:
        path = f"{API}/requests?view={view}&model=fraud-6"
        return [row["id"] for row in review.json(user, "GET", path)["requests"]]

    assert ids("bob", "waiting") == ids("alice", "mine") == ids("erin", "open") == [request]
    assert ids("erin", "waiting") == ids("bob", "mine") == ids("bob", "history") == []
    at = f"{API}/requests/{request}/comments"
    [comment] = review.json("bob", "POST", at, {"text": "why **this** depth?"})
    review.json("bob", "PATCH", f"{API}/comments/{comment['id']}", {"text": "why?"})
    answer = review.call("carol", "PATCH", f"{API}/comments/{comment['id']}", json={"text": "x"})
    assert answer.status_code == 404
    [found] = review.json("dave", "GET", at)
    assert (found["author"], found["text"], found["edited_at"] is None) == ("bob", "why?", False)
    review.json("bob", "POST", f"{API}/requests/{request}/approve", {})
    assert ids("bob", "waiting") == ids("carol", "waiting") == []
    assert ids("dave", "waiting") == [request]
    review.json("carol", "POST", f"{API}/requests/{request}/reject", {"comment": "no"})
    assert ids("bob", "history") == [request]


def test_files_that_changed_since_show_and_get_no_vote(review: ReviewSite) -> None:
    version = review.new_version("fraud-changed")
    request = ask(review, "fraud-changed", version)
    at = f"{API}/requests/{request}"
    assert review.json("bob", "GET", at)["files_changed"] is False
    with review.signed_in("alice") as client:
        run = client.get_model_version("fraud-changed", str(version)).run_id
        client.log_text(run, "evil", "model/weights.txt")

    assert review.json("bob", "GET", at)["files_changed"] is True
    page = review.call("bob", "GET", f"/approvals/requests/{request}")
    assert "files were written since the request was made" in page.text
    with review.signed_in("bob"), pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_PACK_REVIEW_URL", review.url)
        arguments = ["approvals", "show", f"models:/fraud-changed/{version}"]
        shown = CliRunner().invoke(cli, [*arguments, "--tracking-uri", review.mlflow.url])
    assert "its files were written since" in shown.output, shown.output

    answer = review.call("bob", "POST", f"{at}/approve", json={"comment": "looks benign"})
    assert (answer.status_code, answer.json()["pack_code"]) == (403, "STALE_APPROVAL")
    after = review.json("bob", "GET", at)
    assert (after["state"], after["votes"]) == ("STALE", [])
