"""`PackAuth`: called by `requests` with the final request, and again with each response.

Only this module adds credentials to a request, after an exact comparison of the final URL. It
removes them before a redirect leaves the profile's hosts: `requests` itself drops only
``Authorization`` and forwards every other secret header.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Mapping
from typing import Any

import requests
from requests.auth import AuthBase
from requests.utils import get_netrc_auth, rewind_body

from mlflow_plugins_pack.auth.credentials.contracts import SourceError
from mlflow_plugins_pack.auth.credentials.current import CurrentCredential
from mlflow_plugins_pack.auth.credentials.lifetime import Credential, Headers
from mlflow_plugins_pack.auth.credentials.secret import HeaderText
from mlflow_plugins_pack.auth.manager import get_manager
from mlflow_plugins_pack.auth.profiles.models import Profile
from mlflow_plugins_pack.auth.signing import cookies
from mlflow_plugins_pack.auth.signing.conflicts import check_conflicts, check_proxy, signs_in
from mlflow_plugins_pack.errors import (
    AuthConflictError,
    RedirectRefusedError,
    SignInPageError,
    UnnamedHostError,
)
from mlflow_plugins_pack.web_urls import shown

_logger = logging.getLogger(__name__)
_API_MARKS = ("/api/2.", "/api/3.", "/ajax-api/")
_ARTIFACT_MARK = "/mlflow-artifacts/"


class PackAuth(AuthBase):
    """Signs a request in if a profile names its URL.

    It holds no credential, so that it may be copied, pickled and printed.

    Attributes:
        strict: Refuse a request to any other URL, instead of leaving it as it is.
    """

    def __init__(self, *, strict: bool = False) -> None:
        self.strict = strict

    def __repr__(self) -> str:
        return f"PackAuth(strict={self.strict})"

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Sign the request in.

        Raises:
            AuthError: If that is not possible; the request is not sent.
        """
        manager = get_manager()
        url = request.url or ""
        current = manager.match(url)
        if current is None:
            if self.strict:
                raise UnnamedHostError(
                    f"No sign-in profile names {shown(url)}, and MLFLOW_TRACKING_AUTH="
                    f"plugins-pack demands one. The request was not sent. Add the address to a "
                    f"profile's hosts, or unset MLFLOW_TRACKING_AUTH: the profiles work without it."
                )
            return request
        credential = current.get()
        check_proxy(current, url)
        companions = _add_companions(current.profile, request)
        headers = _headers(current, credential, request)
        check_conflicts(manager, current, request, headers)
        cookies.separate(request)
        _put_on(request, headers)
        request.register_hook("response", _ResponseCheck(current, credential, headers, companions))  # type: ignore[no-untyped-call]
        return request


class _ResponseCheck:
    """Checks the responses to one signed-in request, redirects included."""

    def __init__(
        self,
        current: CurrentCredential,
        credential: Credential,
        headers: Headers,
        companions: list[str],
    ) -> None:
        self._current, self._credential, self._headers = current, credential, headers
        self._companions = companions
        self._retried = False

    def __reduce__(self) -> tuple[Any, ...]:
        # Responses are pickled with their requests and those with their hooks: the other process
        # gets the answer, which has been checked, and no credential.
        return _unchecked, ()

    def __copy__(self) -> _ResponseCheck:
        return self

    def __deepcopy__(self, memo: Any) -> _ResponseCheck:
        return self  # a copy of a signed-in request has the credential: it is checked as well

    def __call__(self, response: requests.Response, *args: Any, **kwargs: Any) -> requests.Response:
        request = response.request
        is_signed_in = self._is_signed_in(request)
        if not is_signed_in and not self._is_ours(request.url):
            return response  # a redirect led outside the profile; nothing of ours is on it
        cookies.keep(request, response)
        is_refused = response.status_code == requests.codes.unauthorized
        if is_refused and is_signed_in and not self._retried:
            response = self._retry(response, kwargs)
        # `requests` drops Authorization between two hosts of the profile, but neither the body nor
        # the certificate of mutual TLS: the second host's redirects are checked all the same.
        if response.is_redirect:
            self._guard_redirect(response, request, kwargs.get("proxies"))
        elif _is_sign_in_page(response):
            raise SignInPageError(
                f"{shown(request.url)} answered with a web page where MLflow's API should be: "
                f"mostly a proxy's sign-in page. Profile {self._current.name!r} was used and the "
                f"request did not reach MLflow. Check the profile's credential and the server's "
                f"address."
            )
        return response

    def _is_signed_in(self, request: requests.PreparedRequest) -> bool:
        return any(request.headers.get(header) == value.reveal() for header, value in self._headers)

    def _retry(self, response: requests.Response, kwargs: dict[str, Any]) -> requests.Response:
        """Send the request once more if the source has another credential by now.

        Send it a third time if that one was refused too and another process had it before.
        """
        self._retried = True
        original = response.request
        for _ in range(2):
            if not self._is_ours(original.url) or not _is_resendable(original):
                break
            replacement = self._current.replace_rejected(self._credential)
            if replacement is None:
                break
            response = self._send_again(response, original, replacement.credential, kwargs)
            if response.status_code != requests.codes.unauthorized or replacement.is_new:
                break
        return response

    def _send_again(
        self,
        response: requests.Response,
        original: requests.PreparedRequest,
        credential: Credential,
        kwargs: dict[str, Any],
    ) -> requests.Response:
        _ = response.content  # frees the connection for the next try
        response.close()
        # `requests` derives a redirect from the original, so that one is brought up to date.
        self._take_off(original)
        self._credential, self._headers = credential, _headers(self._current, credential, original)
        _put_on(original, self._headers)
        again = original.copy()
        if hasattr(again.body, "seek"):
            rewind_body(again)
        second: requests.Response = response.connection.send(again, **kwargs)
        cookies.keep(original, second)
        second.history.extend([*response.history, response])
        second.request = again
        return second

    def _guard_redirect(
        self,
        response: requests.Response,
        original: requests.PreparedRequest,
        proxies: Mapping[str, str] | None,
    ) -> None:
        source, name = response.url, self._current.name
        target = _redirect_target(response, original)
        if target is None:
            return
        if self._is_ours(target):
            check_proxy(self._current, target, proxies)
            # After a redirect `requests` would let ~/.netrc replace the profile's Authorization.
            if signs_in(self._headers) and get_netrc_auth(target) is not None:
                raise AuthConflictError(
                    f"{shown(source)} redirected to {shown(target)}, and there ~/.netrc would "
                    f"replace the credential of profile {name!r}. The redirect was not "
                    f"followed. Remove the host from ~/.netrc, or use the final address."
                )
            return
        keeps_body = response.status_code in (307, 308) and original.body is not None
        # Any server that asks for it would receive the certificate of mutual TLS.
        shows_certificate = self._current.profile.tls.cert is not None
        if keeps_body or shows_certificate or _is_api(original.url or ""):
            raise RedirectRefusedError(
                f"{shown(source)} redirected {original.method} to {shown(target)}, which profile "
                f"{name!r} does not name. Nothing was sent there. If this is a sign-in page, "
                f"the credential was refused; if the server has moved, correct the tracking URI "
                f"and add the new address to the profile's hosts."
            )
        self._take_off(original)
        for header in self._companions:  # names of this company's own, which say where it came from
            original.headers.pop(header, None)
        cookies.drop(original)

    def _is_ours(self, url: str | None) -> bool:
        current = get_manager().match(url or "")
        return current is not None and current.name == self._current.name

    def _take_off(self, request: requests.PreparedRequest) -> None:
        for header, _ in self._headers:
            request.headers.pop(header, None)


def _unchecked() -> Any:
    """Return a hook that does nothing."""
    return _pass


def _pass(response: requests.Response, *args: Any, **kwargs: Any) -> None:
    pass


def _put_on(request: requests.PreparedRequest, headers: Headers) -> None:
    for header, value in headers:
        request.headers[header] = HeaderText(value.reveal())


def _redirect_target(response: requests.Response, original: requests.PreparedRequest) -> str | None:
    """Return the URL that `requests` will follow a redirect to; None if it follows none.

    `requests` resolves it itself: its reading of a Location such as ``////host/`` is its own.

    Raises:
        RedirectRefusedError: If `requests` cannot resolve it.
    """
    history = response.history
    try:
        with requests.Session() as session:
            session.trust_env = False
            following: Any = session.resolve_redirects(response, original, yield_requests=True)
            request = next(following, None)
            return None if request is None else str(request.url)
    except (ValueError, requests.RequestException):
        pass  # raised outside the handler: the error may hold the request
    finally:
        response.history = history
    raise RedirectRefusedError(
        f"{shown(response.url)} redirected to a malformed address. The redirect was not followed. "
        f"Report this to the administrator of the server."
    )


def _headers(
    current: CurrentCredential, credential: Credential, request: requests.PreparedRequest
) -> Headers:
    """Return the headers for this request."""
    try:
        return credential.headers_for(request)
    except SourceError as exc:
        problem = str(exc)
    raise current.error(problem)


def _add_companions(profile: Profile, request: requests.PreparedRequest) -> list[str]:
    """Add the headers that are not secret: the workspace, and an ID to find in the logs.

    Returns:
        The names of those that were not there before.
    """
    companions = {}
    if profile.workspace is not None:
        companions["X-MLFLOW-WORKSPACE"] = profile.workspace
    if profile.correlation_header is not None:
        companions[profile.correlation_header] = uuid.uuid4().hex
    added = [header for header in companions if header not in request.headers]
    for header in added:
        request.headers[header] = companions[header]
    if profile.correlation_header is not None:
        mark = request.headers[profile.correlation_header]
        _logger.debug("%s %s is %s", request.method, shown(request.url), mark)
    return added


def _is_resendable(request: requests.PreparedRequest) -> bool:
    body = request.body
    if body is None or isinstance(body, (str, bytes)):
        return True
    # `requests` notes the position of a file; of a stream that cannot be rewound, no number.
    return isinstance(request._body_position, int) and hasattr(body, "seek")


def _is_api(url: str) -> bool:
    """Return whether MLflow answers there with JSON; artifacts may have any content."""
    path = url.partition("?")[0]
    return any(mark in path for mark in _API_MARKS) and _ARTIFACT_MARK not in path


def _is_sign_in_page(response: requests.Response) -> bool:
    return (
        response.status_code == requests.codes.ok
        and response.headers.get("Content-Type", "").lower().startswith("text/html")
        and _is_api(response.url)
    )
