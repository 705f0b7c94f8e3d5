"""Puts links to open requests under a version's description, and takes them off again; pure.

The description is the one place where stock MLflow's page renders a link. The links are added when
a version is read and taken off when a description is saved: the database has what people wrote and
nothing else, edits cannot race with them, and a request that is closed leaves nothing behind.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from mlflow_plugins_pack.approvals.domain.projection import REQUEST_SUFFIX, TargetStatus
from mlflow_plugins_pack.approvals.domain.review_pages import request_page
from mlflow_plugins_pack.approvals.domain.tag_names import PROJECTION_PREFIX

_TITLE = "mlflow-approvals"
# The title of the link is what makes it ours; people write none like it. No brackets in its text:
# with them, the time for a hostile description would grow with the square of its length.
_LINE = rf'\[[^\r\n\[\]]*\]\([^\s)]+ "{_TITLE}"\)$'
# With the empty line in front of it, or after it at the beginning.
_LINES = re.compile(
    rf"(?:\n\n|\r\n\r\n){_LINE}|\A{_LINE}(?:\n\n|\r\n\r\n)?|^{_LINE}\n?", re.MULTILINE
)


def added(text: str | None, tags: Mapping[str, str], base: str, workspace: str) -> str | None:
    """Return a description with a line for each open request of its version.

    Args:
        text: What people wrote.
        tags: The version's tags, which name its requests.
        base: The review app's address; empty: there is no review app, and no line.
        workspace: The version's workspace.
    """
    lines = []
    for key, value in sorted(tags.items() if base else ()):
        if key.startswith(PROJECTION_PREFIX) and key.endswith(REQUEST_SUFFIX):
            target = key[len(PROJECTION_PREFIX) : -len(REQUEST_SUFFIX)]
            page = _page_of_open(value, base, workspace)
            if page is not None:
                lines.append(f'[Approval of `{target}` is requested]({page} "{_TITLE}")')
    if not lines:
        return text
    return "\n\n".join(([text] if text else []) + lines)


def _page_of_open(value: str, base: str, workspace: str) -> str | None:
    try:
        status = TargetStatus.from_json(value)
    except ValueError:
        return None
    return request_page(base, status.request_id, workspace) if status.state.is_open else None


def removed(text: str | None) -> str | None:
    """Return a description without the lines that `added` adds."""
    return None if text is None else _LINES.sub("", text)
