"""Finds other credentials for a request, and proxies that would read ours."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

import requests
from requests.utils import get_environ_proxies, get_netrc_auth, select_proxy

from mlflow_plugins_pack.auth.credentials.current import CurrentCredential
from mlflow_plugins_pack.auth.credentials.lifetime import Headers
from mlflow_plugins_pack.auth.manager import Manager
from mlflow_plugins_pack.errors import AuthConflictError, AuthError
from mlflow_plugins_pack.web_urls import shown

_OTHER_SETTINGS = (
    "MLFLOW_TRACKING_TOKEN",
    "MLFLOW_TRACKING_USERNAME",
    "MLFLOW_TRACKING_PASSWORD",
)


def check_conflicts(
    manager: Manager,
    current: CurrentCredential,
    request: requests.PreparedRequest,
    headers: Headers,
) -> None:
    """Warn once if the profile replaces other credentials.

    Raises:
        AuthConflictError: If the profile says to refuse the request.
    """
    taken = [header for header, _ in headers if header in request.headers]
    if current.profile.on_conflict == "error" and "Authorization" in request.headers:
        # Next to other headers of the profile it may be meant to go along: a proxy wants those and
        # the server behind it this one. Only a profile that says so excludes it.
        taken = taken or ["Authorization"]
    reasons = []
    if taken:
        found = [setting for setting in _OTHER_SETTINGS if os.environ.get(setting)]
        origin = ", ".join(found) or "~/.mlflow/credentials or another header provider"
        reasons.append(f"{', '.join(taken)} is also set by {origin}")
    if signs_in(headers) and get_netrc_auth(request.url or "") is not None:
        reasons.append("~/.netrc has an entry for this host")
    if not reasons:
        return
    text = f"Sign-in profile {current.name!r}: {' and '.join(reasons)}."
    if current.profile.on_conflict == "error":
        raise AuthConflictError(
            f'{text} The profile says on_conflict = "error": the request was not sent. Remove one '
            f"of the two."
        )
    manager.warn_once(current.name, "conflict", f"{text} The profile wins for its own hosts.")


def check_proxy(
    current: CurrentCredential, url: str, kept: Mapping[str, str] | None = None
) -> None:
    """Check that no proxy receives the credentials of a loopback server in clear text.

    Args:
        current: The credential.
        url: Where the request goes.
        kept: The proxies of the request that was redirected there, which `requests` keeps.

    Raises:
        AuthError: If a proxy would carry the request; https goes through a tunnel that the
            proxy cannot read, and passes.
    """
    if not url.lower().startswith("http://") or not may_have_proxy():
        return
    proxies = get_environ_proxies(url)
    if current.profile.proxy is None:
        proxies.update(kept or {})
    if select_proxy(url, proxies):  # also that of a variable such as http://127.0.0.1_proxy
        raise AuthError(
            f"HTTP_PROXY (or ALL_PROXY) would carry the credential of profile {current.name!r} for "
            f"{shown(url)} in clear text to another machine. The request was not sent. Set "
            f"NO_PROXY=localhost,127.0.0.1,::1."
        )


def may_have_proxy() -> bool:
    """Return cheaply whether a proxy could apply; macOS and Windows have system settings."""
    return sys.platform != "linux" or any(
        name[-6:].lower() == "_proxy"
        for name in os.environ  # `requests` takes any spelling
    )


def signs_in(headers: Headers) -> bool:
    """Return whether the headers include the one that ~/.netrc would set."""
    return any(header.lower() == "authorization" for header, _ in headers)
