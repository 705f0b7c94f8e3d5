"""Asks the servers of a profile which user they see."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from mlflow_plugins_pack.auth.credentials.secret import redact
from mlflow_plugins_pack.auth.manager import Manager
from mlflow_plugins_pack.errors import AuthError

_CURRENT_USER = "/api/2.0/mlflow/users/current"
_LONGEST_REASON = 2000
_ANYTHING = "/api/2.0/mlflow/experiments/get?experiment_id=0"
_SECONDS = 10.0
"""Limit of all that is asked of one server."""


@dataclass(frozen=True)
class ServerAnswer:
    """The answer of one server.

    Attributes:
        host: The profile's host.
        accepted: Whether the server accepted the credential.
        said: The answer in words.
    """

    host: str
    accepted: bool
    said: str


def ask_servers(manager: Manager, name: str) -> list[ServerAnswer]:
    """Send each of a profile's hosts two small requests, signed in."""
    return [ask_server(host.rstrip("/")) for host in manager.profile(name).hosts]


def ask_server(host: str) -> ServerAnswer:
    """Ask one server, within `_SECONDS` in all."""
    from mlflow_plugins_pack.http_deadline import within

    try:
        return within(_SECONDS, lambda: _ask(host))
    except TimeoutError as exc:
        return ServerAnswer(host, False, f"could not be asked: {exc}")


def _ask(host: str) -> ServerAnswer:
    from mlflow.exceptions import MlflowException
    from mlflow.utils.rest_utils import MlflowHostCreds, http_request

    def get(path: str) -> Any:
        # Through MLflow's own function, so that it goes the way that every request goes.
        return http_request(MlflowHostCreds(host), path, "GET", max_retries=0, timeout=_SECONDS)

    try:
        answer = get(_CURRENT_USER)
        if answer.status_code == 200:
            return ServerAnswer(host, True, f"takes us for {_user(answer)!r}")
        if answer.status_code == 404:
            answer = get(_ANYTHING)
    except (MlflowException, AuthError) as exc:
        return ServerAnswer(host, False, f"could not be asked: {exc.message}")
    if answer.status_code in (401, 403):
        return ServerAnswer(host, False, f"refuses us ({answer.status_code}{_reason(answer)})")
    if answer.status_code >= 500:
        return ServerAnswer(host, False, f"is out of order ({answer.status_code})")
    return ServerAnswer(host, True, "lets us in, and does not say as whom")


def _reason(answer: Any) -> str:
    """Return the server's own words, without what may be a secret."""
    text = str(answer.text)[:_LONGEST_REASON]
    try:
        text = str(json.loads(text)["message"])
    except (ValueError, KeyError, TypeError):
        if "<" in text:
            return ""  # a page
    words = redact(" ".join(text.split()))
    return f": {words}" if words else ""


def _user(answer: Any) -> str:
    try:
        return str(answer.json()["user"]["username"])
    except (ValueError, KeyError, TypeError):
        return "?"
