"""Addresses of the review app's pages, as messages and webhooks name them; pure."""

from __future__ import annotations

from urllib.parse import urlencode

ROOT = "/approvals"


def request_page(base: str, request_id: str | None, workspace: str) -> str | None:
    """Return the address of a request's page.

    Args:
        base: The review app's address; empty: there is no review app.
        request_id: The request.
        workspace: The request's workspace.

    Returns:
        The address; None without an app or a request.
    """
    if not base or not request_id:
        return None
    query = "" if workspace == "default" else f"?{urlencode({'workspace': workspace})}"
    return f"{base.rstrip('/')}{ROOT}/requests/{request_id}{query}"
