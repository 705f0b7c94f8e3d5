"""Finds out who visits the review app: by the policy's sources, or by asking MLflow."""

from __future__ import annotations

import base64
import hashlib
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cachetools import TTLCache
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import UNAUTHENTICATED
from starlette.requests import HTTPConnection

from mlflow_plugins_pack.approvals.api.mlflow_server import API, MlflowServer, refusal_of
from mlflow_plugins_pack.identity.resolvers import Caller, RefusedError, identify
from mlflow_plugins_pack.identity.settings import Identity

KEEP_SECONDS = 10.0
"""Time for which MLflow's answer about a visitor is used."""
WORKSPACE_HEADER = "X-MLFLOW-WORKSPACE"
_CREDENTIALS = ("Authorization", "Cookie")


class SignInNeededError(MlflowException):
    """The visitor is not signed in.

    Attributes:
        challenge: MLflow's header ``WWW-Authenticate``, for the browser; may be empty.
    """

    def __init__(self, message: str, challenge: str = "") -> None:
        super().__init__(message, UNAUTHENTICATED)
        self.challenge = challenge


@dataclass(frozen=True)
class Visitor:
    """A visitor and the credentials with which MLflow is asked in their place.

    Attributes:
        caller: The verified caller; None: the MLflow server signs no one in.
        is_admin: Whether they are an admin of MLflow.
        credentials: The headers by which MLflow knows them.
        workspace: The workspace that they are in.
    """

    caller: Caller | None
    is_admin: bool
    credentials: Mapping[str, str] = field(repr=False)
    workspace: str = "default"

    @property
    def user(self) -> str | None:
        """The user's name."""
        return None if self.caller is None else self.caller.user

    @property
    def key(self) -> str:
        """A name for their credentials, to cache by; it does not contain them."""
        parts = sorted(self.credentials.items())
        return hashlib.sha256(repr(parts).encode()).hexdigest()


@dataclass(frozen=True)
class _Known:
    user: str | None
    is_admin: bool


class Visitors:
    """Identifies visitors.

    Args:
        server: The MLflow server.
    """

    def __init__(self, server: MlflowServer) -> None:
        self._server = server
        self._known: TTLCache[str, _Known] = TTLCache(1024, KEEP_SECONDS)
        self._lock = threading.Lock()  # caches are not made for threads

    def identify(
        self, request: HTTPConnection, settings: Identity, workspace: str | None
    ) -> Visitor:
        """Return the visitor of a request.

        Args:
            request: The request.
            settings: The policy's sources of a caller's name.
            workspace: The workspace that the request is about; None: the server has none.

        Raises:
            SignInNeededError: If they must sign in first.
        """
        credentials = _credentials(request, settings)
        if workspace is not None:
            # The one that is read here, whatever else the request names, is the one that MLflow is
            # asked about.
            credentials[WORKSPACE_HEADER] = workspace
        about = workspace or Visitor.workspace
        if self._server.is_in_process and "Host" in request.headers:
            credentials["Host"] = request.headers["Host"]
        known: list[_Known] = []

        def ask_server() -> str | None:
            known.append(self._ask(Visitor(None, False, credentials, about)))
            return known[0].user

        try:
            caller = identify(settings, _environ(request), ask_server)
        except RefusedError as exc:
            raise SignInNeededError(f"The sign-in was refused: {exc}. Sign in again.") from exc
        if caller is None and not set(settings.sources) <= {"basic_auth", "oidc"}:
            raise SignInNeededError(
                "This page is for signed-in users, and the request names none. Come through the "
                "proxy that signs users in, or send a token."
            )
        is_admin = bool(known) and known[0].is_admin and caller is not None
        return Visitor(caller, is_admin, credentials, about)

    def _ask(self, visitor: Visitor) -> _Known:
        with self._lock:
            found = self._known.get(visitor.key)
        if found is not None:
            return found
        answer = self._server.ask("GET", f"{API}/users/current", visitor.credentials)
        if answer.status_code == 404 and (name := _basic_name(visitor.credentials)) is not None:
            # Older versions of MLflow tell users about themselves, once the password is right.
            params = {"username": name}
            answer = self._server.ask("GET", f"{API}/users/get", visitor.credentials, params=params)
        if answer.status_code == 404:  # a server without sign-in
            found = _Known(None, False)
        elif answer.status_code == 200:
            user = answer.json().get("user", {})
            found = _Known(str(user["username"]), bool(user.get("is_admin")))
        elif answer.status_code in (401, 403) or answer.is_redirect:
            challenge = answer.headers.get("WWW-Authenticate", "")
            raise SignInNeededError("Sign in to MLflow first.", challenge)
        else:
            raise refusal_of(answer)
        with self._lock:
            self._known[visitor.key] = found
        return found


def _credentials(request: HTTPConnection, settings: Identity) -> dict[str, str]:
    """Return the headers by which MLflow, or a proxy's header, identifies the visitor."""
    names = list(_CREDENTIALS)
    if settings.jwt is not None:
        names.append(settings.jwt.header)
    if (trusted := settings.trusted_header) is not None:
        names += [trusted.secret_header, trusted.user_header]
        names += [trusted.groups_header] if trusted.groups_header else []
    return {name: request.headers[name] for name in names if name in request.headers}


def _basic_name(credentials: Mapping[str, str]) -> str | None:
    """Return the user name of Basic credentials, which nothing has verified."""
    scheme, _, text = credentials.get("Authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        return base64.b64decode(text, validate=True).decode().partition(":")[0] or None
    except ValueError:
        return None


def _environ(request: HTTPConnection) -> dict[str, Any]:
    environ: dict[str, Any] = {}
    for name, value in request.headers.items():
        key = f"HTTP_{name.upper().replace('-', '_')}"
        # As WSGI servers do: a header that comes twice is joined, and so is not a single name.
        environ[key] = f"{environ[key]},{value}" if key in environ else value
    environ["REMOTE_ADDR"] = request.client.host if request.client is not None else ""
    return environ
