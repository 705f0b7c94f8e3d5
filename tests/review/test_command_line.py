"""`approvals show`, `list` and `comments` tell what the request's page tells, field by field."""

from __future__ import annotations

import html
import json
import re
from typing import Any

import pytest
from click.testing import CliRunner, Result

from mlflow_plugins_pack.approvals.api.requests import RequestDetailsRow
from mlflow_plugins_pack.approvals.domain.messages import moment
from mlflow_plugins_pack.approvals.web.rendering import time
from mlflow_plugins_pack.cli.main import cli
from tests.approvals.support.review_sites import ReviewSite

API = "/approvals/api/v1"


def call(review: ReviewSite, *arguments: str) -> Result:
    with review.signed_in("bob"):
        return CliRunner().invoke(
            cli, ["approvals", *arguments, "--tracking-uri", review.mlflow.url]
        )


def words_of(page: str) -> str:
    """Return the text of a page, without its markup."""
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", page)).split())


def told_of(details: dict[str, Any]) -> dict[str, list[tuple[str, str]]]:
    """Return how the page and the terminal tell each field of a request; no pair: it needs none."""
    when = {name: details[name] for name in ("created_at", "expires_at")}
    vote, comment, check = details["votes"][0], details["comments"][0], details["checks"][0]
    said = (f'"{comment["text"]}"', comment["text"])
    return {
        "id": [(details["id"],) * 2],
        "workspace": [],  # the one that was asked about
        "model": [(details["model"],) * 2],
        "version": [(f"version {details['version']}", f"/{details['version']} to prod")],
        "target": [(f"to alias {details['target']}", f"to {details['target']}")],
        "action": [("Promote", "promote models:/")],
        "state": [("PENDING".lower(), ": PENDING")],
        "reason": [],  # of a closed request
        "requester": [("asked by alice", "asked by alice")],
        "comment": [("please", '"please"')],
        "digest": [(details["digest"], f"bytes {details['digest']}")],
        "policy": [("production", "policy: production")],
        "created_at": [(words_of(time(when["created_at"])), moment(when["created_at"]))],
        "updated_at": [],  # the newest of the times of votes and comments
        "expires_at": [
            (
                f"waits until {words_of(time(when['expires_at']))}",
                f"waits until {moment(when['expires_at'])}",
            )
        ],
        "votes": [
            (f"approved {vote['approver']}", f"{vote['approver']} approve"),
            ("fine", '"fine"'),
            (words_of(time(vote["decided_at"])), moment(vote["decided_at"])),
        ],
        "approvals": [("1 of 2", "approvals: 1 of 2")],
        "approvals_needed": [("1 of 2", "approvals: 1 of 2")],
        "waits_for_me": [],  # the actions tell it
        "holder": [("Version 1 now", "version 1 is prod now")],
        "needs": [
            ("1 of leads 1/1", "needs 1 of leads: bob, carol"),
            ("1 of risk 0/1", "needs 1 of risk: dave"),
        ],
        "may_approve": [("May still approve: dave", "may still approve: dave")],
        "basis": [],  # votes, which are counted
        "checks": [
            (f"lacks {check['check']}", f"lacks: {check['check']}"),
            (f"Requires {check['problems'][0]}.", f"requires {check['problems'][0]}"),
        ],
        "frozen_until": [],  # it is not
        "policy_changed": [],  # it has not
        "files_changed": [],  # they have not; test_requests changes some
        "comments": [
            (f"{comment['author']} {words_of(time(comment['created_at']))}", said[0]),
            (said[1], moment(comment["created_at"])),
        ],
        "available_actions": [
            ("Reject Withdraw my approval", "you may: comment, reject, withdraw")
        ],
    }


def test_the_command_line_tells_what_the_page_tells(
    review: ReviewSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "told"
    first = review.new_version(name)
    review.tested(name, first)
    body = {"model": name, "version": first, "target": "prod", "comment": "please"}
    held = review.json("alice", "POST", f"{API}/requests", body)["id"]
    for user in ("bob", "dave"):
        review.json(user, "POST", f"{API}/requests/{held}/approve", {})
    review.json("alice", "PUT", f"{API}/requests/{held}/applied", {})
    version = review.new_version(name)
    request = review.json("alice", "POST", f"{API}/requests", body | {"version": version})["id"]
    review.json("bob", "POST", f"{API}/requests/{request}/approve", {"comment": "fine"})
    review.json("carol", "POST", f"{API}/requests/{request}/comments", {"text": "why so large?"})
    model = f"models:/{name}/{version}"
    # The stock server alone has the tags of the version, and no comments.
    assert "PENDING 1/2 (bob)" in call(review, "show", model).output
    assert "through the review app" in str(call(review, "comments", model).exception)

    monkeypatch.setenv("MLFLOW_PACK_REVIEW_URL", review.url)
    page = words_of(review.call("bob", "GET", f"/approvals/requests/{request}").text)
    shown = call(review, "show", model).output
    details = review.json("bob", "GET", f"{API}/requests/{request}")
    told = told_of(details)
    assert told.keys() == RequestDetailsRow.model_fields.keys()
    for field, pairs in told.items():
        for on_page, in_terminal in pairs:
            assert on_page in page, (field, page)
            assert in_terminal in shown, (field, shown)
    in_json = json.loads(call(review, "show", model, "--json").output)
    assert in_json["requests"] == [details]

    said = call(review, "comments", model).output
    assert [line.partition(" ")[2] for line in said.splitlines()] == [
        'carol on prod: "why so large?"'
    ]
    in_json = json.loads(call(review, "comments", model, "--json").output)
    assert in_json == details["comments"]

    rows = json.loads(call(review, "list", "--json").output)
    [listed] = [row for row in rows if row["model"] == name]
    inbox = words_of(review.call("bob", "GET", f"/approvals/?view=open&text={name}").text)
    for field in ("model", "version", "target"):
        assert listed[field] == details[field]
        assert str(listed[field]) in inbox
    assert (listed["state"], listed["votes"], listed["votes_needed"]) == ("PENDING", 1, 2)
    assert "1 of 2" in inbox
