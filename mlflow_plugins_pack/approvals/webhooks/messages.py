"""Writes messages to people about events, as Slack, Teams and e-mail show them; pure.

What users wrote is never read as markup: no link, mention or address of theirs becomes active.
Formats: https://docs.slack.dev/reference/block-kit/blocks and https://adaptivecards.io.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from mlflow_plugins_pack.approvals.domain.messages import moment
from mlflow_plugins_pack.approvals.domain.review_pages import request_page
from mlflow_plugins_pack.approvals.domain.targets import parse_target
from mlflow_plugins_pack.approvals.policy.webhooks import Event

_LONGEST_TITLE = 200
_LONGEST_TEXT = 1000
_LINK = "Open the request"

_TITLES: Mapping[Event, str] = {
    "request.created": "{actor} asks for approval: {change}",
    "request.approved": "Approved: {change}",
    "request.rejected": "{actor} rejected: {change}",
    "request.cancelled": "Cancelled: {change}",
    "request.expiring": "Expires at {expires}: {change}",
    "request.expired": "Expired: {change}",
    "request.stale": "Approval no longer valid: {change}",
    "request.superseded": "Superseded by another request: {change}",
    "request.applied": "Done: {change}",
    "break_glass": "{actor} used break-glass: {change}",
    "drift": "Changed without approval: {target} of {model}",
}


def body(kind: str, event: Event, entry: Mapping[str, Any], review_url: str = "") -> str:
    """Return what a notification is sent: the JSON of a chat message, or an e-mail's parts.

    Args:
        kind: ``slack``, ``teams`` or ``email``.
        event: The event.
        entry: The audit entry.
        review_url: The review app's address; with it the message has the request's link.
    """
    title, text = _title(event, entry), _text(entry)
    page = request_page(review_url, entry["request_id"], entry["workspace"] or "default")
    return json.dumps(_BODIES[kind](title, text, page), ensure_ascii=False)


def _title(event: Event, entry: Mapping[str, Any]) -> str:
    after = _fields(entry, "after")
    target = parse_target(entry["target"]).tag if entry["target"] else "?"
    model = entry["name"] or "?"
    version = f"{model} version {entry['version']}"
    changes = {
        "promote": f"{version} becomes {target}",
        "demote": f"{version} loses {target}",
        "review": f"review of the emergency change of {version} and {target}",
    }
    title = _TITLES[event].format(
        actor=entry["actor"] or "The server",
        change=changes.get(str(after.get("action")), f"{version} for {target}"),
        target=target,
        model=model,
        expires=moment(after["expires_at"]) if "expires_at" in after else "?",
    )
    return _plain(title)[:_LONGEST_TITLE]


def _text(entry: Mapping[str, Any]) -> str:
    """Return what the user wrote, or why it happened."""
    after = _fields(entry, "after")
    found = after.get("comment") or after.get("reason") or after.get("why") or ""
    text = str(found)
    return text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT]}..."


def _fields(entry: Mapping[str, Any], column: str) -> dict[str, Any]:
    found = json.loads(entry[column] or "null")
    return found if isinstance(found, dict) else {}


def _plain(text: str) -> str:
    """Return a text on one line, without characters that would start another header."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _slack(title: str, text: str, page: str | None) -> dict[str, Any]:
    def section(kind: str, value: str) -> dict[str, Any]:
        return {"type": "section", "text": {"type": kind, "text": value}}

    blocks = [section("plain_text", _escaped(part)) for part in (title, text) if part]
    if page is not None:
        blocks.append(section("mrkdwn", f"<{page}|{_LINK}>"))
    return {"text": _escaped(title), "blocks": blocks}


def _escaped(text: str) -> str:
    """Escape Slack's three control characters: links and mentions begin with one of them."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _teams(title: str, text: str, page: str | None) -> dict[str, Any]:
    def paragraph(value: str, **style: str) -> dict[str, Any]:
        # The text of a TextBlock is Markdown; that of a TextRun is not.
        run = {"type": "TextRun", "text": value, **style}
        return {"type": "RichTextBlock", "inlines": [run]}

    card: dict[str, Any] = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "body": [paragraph(title, weight="Bolder")],
    }
    if text:
        card["body"].append(paragraph(text))
    if page is not None:
        card["actions"] = [{"type": "Action.OpenUrl", "title": _LINK, "url": page}]
    content = {"contentType": "application/vnd.microsoft.card.adaptive", "content": card}
    return {"type": "message", "attachments": [content]}


def _email(title: str, text: str, page: str | None) -> dict[str, Any]:
    parts = [title, text, f"{_LINK}: {page}" if page is not None else ""]
    return {"subject": title, "text": "\n\n".join(part for part in parts if part) + "\n"}


_BODIES = {"slack": _slack, "teams": _teams, "email": _email}
