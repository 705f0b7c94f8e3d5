"""`approvals show`, `list` and `comments` tell what the request's page tells."""

from __future__ import annotations

import html
import json
import re

import pytest
from click.testing import CliRunner, Result

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


def test_the_command_line_tells_what_the_page_tells(
    review: ReviewSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "told"
    version = review.new_version(name)
    body = {"model": name, "version": version, "target": "prod", "comment": "please"}
    request = review.json("alice", "POST", f"{API}/requests", body)["id"]
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
    for on_page, in_terminal in (
        ("asked by alice", "asked by alice"),
        ("1 of 2", "approvals: 1 of 2"),
        (
            ", ".join(details["may_approve"]),
            f"may still approve: {', '.join(details['may_approve'])}",
        ),
        (f"lacks {details['checks'][0]['check']}", f"lacks: {details['checks'][0]['check']}"),
        ("approved bob", "bob approve"),
        ("fine", '"fine"'),
        ("why so large?", '"why so large?"'),
        (details["digest"], f"bytes {details['digest']}"),
    ):
        assert on_page in page, page
        assert in_terminal in shown, shown
    in_json = json.loads(call(review, "show", model, "--json").output)
    assert in_json["requests"] == [details]
    said = call(review, "comments", model).output
    assert [line.partition(" ")[2] for line in said.splitlines()] == [
        'carol on prod: "why so large?"'
    ]
    assert name in call(review, "list").output
