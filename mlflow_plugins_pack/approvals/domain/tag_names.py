"""Names of tags that mean something here: commands, projections and a prompt's content; pure."""

from __future__ import annotations

import re

from mlflow_plugins_pack.approvals.domain.matching import fold
from mlflow_plugins_pack.approvals.domain.targets import Target, parse_target

PROJECTION_PREFIX = "mlflow_approvals."
COMMAND_PREFIX = "approvals."
COMMANDS = (
    "request",
    "approve",
    "withdraw",
    "reject",
    "cancel",
    "comment",
    "comment.edit",
    "comment.delete",
    "break_glass",
    "break_glass.demote",
)

_REQUEST_ID = re.compile(r"[0-9a-f]{8,32}")

LONGEST_COMMAND = 5000
"""Longest value of a command tag: the target and the reason or comment."""

PROMPT_FLAG_TAG = "mlflow.prompt.is_prompt"
# What MLflow writes as a prompt's source, which must not be empty and leads nowhere.
PROMPT_SOURCES = frozenset({"dummy-source", "prompt-template"})
PROMPT_CONTENT_PREFIXES = ("mlflow.prompt.", "_mlflow_prompt_")
# MLflow itself appends to this one whenever a run uses the prompt; it is not content.
PROMPT_BOOKKEEPING_TAGS = frozenset({"mlflow.prompt.associatedRunIds"})


def parse_command(text: str) -> tuple[Target, str | None, str]:
    """Split the value of a command tag, ``TARGET: text`` or ``TARGET #REQUEST: text``.

    Returns:
        The target, the beginning of the request's id if it is given, and the text.

    Raises:
        ValueError: If the target is missing or malformed, or the text too long.
    """
    if len(text) > LONGEST_COMMAND:
        raise ValueError(f"it is longer than {LONGEST_COMMAND} characters")
    head, _, rest = text.partition(":")
    if head.strip() in ("alias", "stage"):
        name, _, rest = rest.partition(":")
        head = f"{head.strip()}:{name}"
    head, hash_, request = head.partition("#")
    if hash_ and not _REQUEST_ID.fullmatch(request := request.strip()):
        raise ValueError(f"{request!r} is not the id of a request")
    return parse_target(head), request or None, rest.strip()


def command_of(tag_key: str) -> str | None:
    """Return the command a tag's key stands for, or None."""
    folded = fold(tag_key)
    if folded.startswith(COMMAND_PREFIX) and folded[len(COMMAND_PREFIX) :] in COMMANDS:
        return folded[len(COMMAND_PREFIX) :]
    return None


def is_reserved_tag(tag_key: str) -> bool:
    """Return whether a tag's key belongs to this plugin."""
    return fold(tag_key).startswith(PROJECTION_PREFIX) or command_of(tag_key) is not None


def is_prompt_content(tag_key: str) -> bool:
    """Return whether a version tag is part of what loading a prompt returns."""
    folded = fold(tag_key)
    return folded.startswith(PROMPT_CONTENT_PREFIXES) and tag_key not in PROMPT_BOOKKEEPING_TAGS
