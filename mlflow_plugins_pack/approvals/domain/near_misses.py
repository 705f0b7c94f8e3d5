"""Finds tag names that someone may have mistaken for a command's; pure.

A misspelt command would be kept as an ordinary tag, and a reviewer would believe to have voted.
"""

from __future__ import annotations

import difflib
import re

from mlflow_plugins_pack.approvals.domain.matching import fold
from mlflow_plugins_pack.approvals.domain.tag_names import (
    COMMAND_PREFIX,
    COMMANDS,
    PROJECTION_PREFIX,
    is_reserved_tag,
)

_LONGEST = 64
"""Longer names are not typing errors, and comparing them would take long."""
_SIMILARITY = 0.75
"""Of `difflib.SequenceMatcher.ratio`: `aprove` (0.92) is near `approve`, `status` is near none."""
_SEPARATOR = re.compile(r"[.:/_\-\s]+")
_HEAD, _PROJECTION_HEAD = COMMAND_PREFIX.rstrip("."), PROJECTION_PREFIX.rstrip(".")
_PLAIN = {_SEPARATOR.sub("", command): command for command in COMMANDS}


def meant_command(tag_key: str) -> str | None:
    """Return the command tag that a tag's name is a misspelling of, or None.

    Args:
        tag_key: The name as it was written; a reserved name is not a misspelling.
    """
    if len(tag_key) > _LONGEST or is_reserved_tag(tag_key):
        return None
    name = fold(tag_key)
    whole = _SEPARATOR.sub("", name)
    head, *rest = _SEPARATOR.split(name, maxsplit=1)
    tail = _SEPARATOR.sub("", rest[0]) if rest else ""
    if not rest and whole.startswith(_HEAD) and whole != _HEAD:
        head, tail = _HEAD, whole.removeprefix(_HEAD)
    if not _is_near(head, _HEAD):
        return None
    # `approval_request_id` may be a tag of another tool, `approval_approve` is a mistake.
    is_dotted = head == _HEAD or name.startswith(f"{head}.")
    near = difflib.get_close_matches(tail, _PLAIN, n=1, cutoff=_SIMILARITY if is_dotted else 1.0)
    if near:
        return COMMAND_PREFIX + _PLAIN[near[0]]
    return COMMAND_PREFIX + "approve" if name.startswith(COMMAND_PREFIX) else None


def imitates_projection(tag_key: str) -> bool:
    """Return whether a tag's name could be taken for one that shows the state of approvals."""
    if len(tag_key) > _LONGEST or is_reserved_tag(tag_key):
        return False
    plain, wanted = _SEPARATOR.sub("", fold(tag_key)), _SEPARATOR.sub("", _PROJECTION_HEAD)
    return _is_near(plain[: len(wanted)], wanted)


def _is_near(found: str, wanted: str) -> bool:
    return bool(difflib.get_close_matches(found, [wanted], n=1, cutoff=0.85))
