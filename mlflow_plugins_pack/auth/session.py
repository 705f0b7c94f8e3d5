"""`PackAuth`: what `requests` calls with the finished request, and again with each answer.

It alone puts credentials on a request, after an exact comparison of the final URL, and it takes
them off before a redirect leaves the profile's hosts: `requests` by itself would drop only
``Authorization``, and forward every other secret header.
"""

from __future__ import annotations

import os
from typing import Any
from urllib.parse import urljoin

import requests
from requests.auth import AuthBase
from requests.utils import get_environ_proxies, get_netrc_auth, rewind_body

from mlflow_plugins_pack.auth.manager import get_manager
from mlflow_plugins_pack.auth.tokens import Credential
from mlflow_plugins_pack.errors import (
    AuthConflictError,
    AuthError,
    RedirectRefusedError,
    SignInPageError,
    UnnamedHostError,
)

_API_MARKS = ("/api/2.", "/api/3.", "/ajax-api/")
_ARTIFACT_MARK = "/mlflow-artifacts/"
_OTHER_SETTINGS = (
    "MLFLOW_TRACKING_TOKEN",
    "MLFLOW_TRACKING_USERNAME",
    "MLFLOW_TRACKING_PASSWORD",
)


class PackAuth(AuthBase):
    """Signs a request in if a profile names its URL.

    Holds no credential, so that it may be copied, pickled and shown.

    Attributes:
        strict: Refuse a request to any other URL, instead of leaving it as it is.
    """

    def __init__(self, *, strict: bool = False) -> None:
        self.strict = strict

    def __repr__(self) -> str:
        return f"PackAuth(strict={self.strict})"

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Put the headers on.

        Raises:
            AuthError: If that is not possible; the request does not leave.
        """
        manager = get_manager()
        url = request.url or ""
        name = manager.find(url)
        if name is None:
            if self.strict:
                raise UnnamedHostError(
                    f"No sign-in profile names {_shown(url)}, and MLFLOW_TRACKING_AUTH="
                    f"plugins-pack demands one. The request was not sent. Add the address to a "
                    f"profile's hosts, or unset MLFLOW_TRACKING_AUTH: the profiles work without it."
                )
            return request
        credential = manager.credential(name)
        _check_proxy(name, url)
        _check_conflicts(name, request, credential)
        for header, value in credential.headers:
            request.headers[header] = value.reveal()
        request.register_hook("response", _Follow(name, credential))  # type: ignore[no-untyped-call]
        return request


class _Follow:
    """Watches the answers to one signed-in request, redirects included."""

    def __init__(self, name: str, credential: Credential) -> None:
        self._name = name
        self._credential = credential
        self._retried = False

    def __call__(self, response: requests.Response, *args: Any, **kwargs: Any) -> requests.Response:
        request = response.request
        if not self._is_signed_in(request):
            return response  # a redirect led outside the profile; nothing of ours is on it
        if response.status_code == requests.codes.unauthorized and not self._retried:
            response = self._retry(response, kwargs)
        if response.is_redirect:
            self._guard_redirect(response, request)
        elif _is_sign_in_page(response):
            raise SignInPageError(
                f"{_shown(request.url)} answered with a web page where MLflow's API should be: "
                f"mostly a proxy's sign-in page. Profile {self._name!r} was used and the request "
                f"did not reach MLflow. Check the profile's credential and the server's address."
            )
        return response

    def _is_signed_in(self, request: requests.PreparedRequest) -> bool:
        return any(
            request.headers.get(header) == value.reveal()
            for header, value in self._credential.headers
        )

    def _retry(self, response: requests.Response, kwargs: dict[str, Any]) -> requests.Response:
        """Send the request once more if the source has another credential by now."""
        self._retried = True
        original = response.request
        if get_manager().find(original.url or "") != self._name or not _is_resendable(original):
            return response
        credential = get_manager().replace_rejected(self._name, self._credential)
        if credential is None:
            return response
        _ = response.content  # frees the connection for the second try
        response.close()
        # `requests` derives a redirect from the original, so that one is brought up to date.
        self._take_off(original)
        for header, value in credential.headers:
            original.headers[header] = value.reveal()
        self._credential = credential
        again = original.copy()
        if hasattr(again.body, "seek"):
            rewind_body(again)
        second: requests.Response = response.connection.send(again, **kwargs)
        second.history.append(response)
        second.request = again
        return second

    def _guard_redirect(
        self, response: requests.Response, original: requests.PreparedRequest
    ) -> None:
        source = response.url
        target = urljoin(source, response.headers["location"])
        if get_manager().find(target) == self._name:
            # After a redirect `requests` would let ~/.netrc replace the profile's Authorization.
            if self._has_authorization() and get_netrc_auth(target) is not None:
                raise AuthConflictError(
                    f"{_shown(source)} redirected to {_shown(target)}, and there ~/.netrc would "
                    f"replace the credential of profile {self._name!r}. The redirect was not "
                    f"followed. Remove the host from ~/.netrc, or use the final address."
                )
            return
        keeps_body = response.status_code in (307, 308) and original.body is not None
        if keeps_body or _is_api(original.url or ""):
            raise RedirectRefusedError(
                f"{_shown(source)} redirected {original.method} to {_shown(target)}, which profile "
                f"{self._name!r} does not name. Nothing was sent there. If this is a sign-in page, "
                f"the credential was refused; if the server has moved, correct the tracking URI "
                f"and add the new address to the profile's hosts."
            )
        self._take_off(original)

    def _has_authorization(self) -> bool:
        return any(header.lower() == "authorization" for header, _ in self._credential.headers)

    def _take_off(self, request: requests.PreparedRequest) -> None:
        for header, _ in self._credential.headers:
            request.headers.pop(header, None)


def _check_conflicts(name: str, request: requests.PreparedRequest, credential: Credential) -> None:
    """Let the profile win over other credentials, with one warning, or refuse."""
    taken = [header for header, _ in credential.headers if header in request.headers]
    signs_in = any(header.lower() == "authorization" for header, _ in credential.headers)
    reasons = []
    if taken:
        found = [setting for setting in _OTHER_SETTINGS if os.environ.get(setting)]
        origin = ", ".join(found) or "~/.mlflow/credentials or another header provider"
        reasons.append(f"{', '.join(taken)} is also set by {origin}")
    if signs_in and get_netrc_auth(request.url or "") is not None:
        reasons.append("~/.netrc has an entry for this host")
    if not reasons:
        return
    manager = get_manager()
    text = f"Sign-in profile {name!r}: {' and '.join(reasons)}."
    if manager.profile(name).on_conflict == "error":
        raise AuthConflictError(
            f'{text} The profile says on_conflict = "error": the request was not sent. Remove one '
            f"of the two."
        )
    manager.warn_once(name, "conflict", f"{text} The profile wins for its own hosts.")


def _check_proxy(name: str, url: str) -> None:
    """Refuse to hand a loopback server's credentials to a proxy in clear text."""
    if not url.lower().startswith("http://"):
        return  # https goes through a tunnel that the proxy cannot read
    proxies = get_environ_proxies(url)
    if proxies.get("http") or proxies.get("all"):
        raise AuthError(
            f"HTTP_PROXY (or ALL_PROXY) would carry the credential of profile {name!r} for "
            f"{_shown(url)} in clear text to another machine. The request was not sent. Set "
            f"NO_PROXY=localhost,127.0.0.1,::1."
        )


def _is_resendable(request: requests.PreparedRequest) -> bool:
    body = request.body
    if body is None or isinstance(body, (str, bytes)):
        return True
    # `requests` notes the position of a file; of a stream that cannot be rewound, no number.
    return isinstance(request._body_position, int) and hasattr(body, "seek")


def _is_api(url: str) -> bool:
    """Tell whether MLflow answers there with JSON; artifacts may be anything, anywhere."""
    path = url.partition("?")[0]
    return any(mark in path for mark in _API_MARKS) and _ARTIFACT_MARK not in path


def _is_sign_in_page(response: requests.Response) -> bool:
    return (
        response.status_code == requests.codes.ok
        and response.headers.get("Content-Type", "").lower().startswith("text/html")
        and _is_api(response.url)
    )


def _shown(url: str | None) -> str:
    """Return a URL without what may hold a secret: user information and query."""
    plain = (url or "").partition("?")[0].partition("#")[0]
    scheme, separator, rest = plain.partition("://")
    authority, slash, path = rest.partition("/")
    return f"{scheme}{separator}{authority.rpartition('@')[2]}{slash}{path}"
