"""Asks the review app's endpoints as a person, for what a version's tags do not say.

The app is where MLFLOW_PACK_REVIEW_URL says, or part of the server itself. Without one, nothing is
found, and the commands show what the tags say.
"""

from __future__ import annotations

from typing import Any

from mlflow_plugins_pack.settings import REVIEW_URL

_REQUESTS = "/approvals/api/v1/requests"
_PAGE_SIZE = 200
_TIMEOUT_SECONDS = 30


def details_of(server: str, name: str, version: int) -> list[dict[str, Any]] | None:
    """Return the requests of a version as their pages show them, newest first.

    Args:
        server: The MLflow server's address.
        name: The model or prompt.
        version: The version's number.

    Returns:
        The requests; None if there is no review app, or it does not know the caller.
    """
    about = {"model": name, "version": version, "page_size": _PAGE_SIZE}
    found: list[dict[str, Any]] = []
    for view in ("open", "history"):
        answer = _get(server, _REQUESTS, view=view, **about)
        if answer is None:
            return None
        found += answer["requests"]
    found.sort(key=lambda request: -int(request["created_at"]))
    details = [_get(server, f"{_REQUESTS}/{request['id']}") for request in found]
    return [each for each in details if each is not None]


def _get(server: str, path: str, **params: Any) -> Any:
    """Return the JSON of an answer; None if there is none."""
    from mlflow.exceptions import MlflowException
    from mlflow.tracking._tracking_service.utils import get_default_host_creds
    from mlflow.utils.rest_utils import http_request

    creds = get_default_host_creds(REVIEW_URL.get().rstrip("/") or server)
    try:
        answer = http_request(
            creds, path, "GET", max_retries=1, timeout=_TIMEOUT_SECONDS, params=params
        )
    except MlflowException:
        return None
    is_json = answer.headers.get("Content-Type", "").startswith("application/json")
    return answer.json() if answer.status_code == 200 and is_json else None
