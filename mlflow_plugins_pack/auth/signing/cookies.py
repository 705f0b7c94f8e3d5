"""Cookies of signed-in requests: each serves the redirects of its own request, and nothing else.

MLflow sends all requests of a process through one `requests` session, whose jar knows neither
profiles nor ports: a session cookie that a server gives to one user would go to each other user's
requests, and to other servers of the same name.
"""

from __future__ import annotations

import copy
from typing import Any

import requests
from requests.cookies import RequestsCookieJar, extract_cookies_to_jar, get_cookie_header


class OwnCookies(RequestsCookieJar):
    """The cookies of one request and its redirects."""

    def update(self, other: Any) -> None:  # type: ignore[override]
        """Take nothing: before each redirect `requests` adds the cookies of its session."""

    def copy(self) -> OwnCookies:
        """Return a jar with the same cookies, for the next redirect."""
        jar = OwnCookies()
        jar.set_policy(self.get_policy())
        for cookie in self:
            jar.set_cookie(copy.copy(cookie))
        return jar


def separate(request: requests.PreparedRequest) -> None:
    """Take the session's cookies off a request, and give it a jar of its own.

    A Cookie header that the caller or a plugin has set stays.
    """
    header = request.headers.get("Cookie")
    if header is not None:
        bare = request.copy()
        del bare.headers["Cookie"]
        if header == get_cookie_header(_jar(request), bare):  # type: ignore[no-untyped-call]
            del request.headers["Cookie"]
    drop(request)


def keep(request: requests.PreparedRequest, response: requests.Response) -> None:
    """Move the cookies of a response into the jar of its request, out of the session's reach."""
    extract_cookies_to_jar(_jar(request), request, response.raw)  # type: ignore[no-untyped-call]
    message = getattr(getattr(response.raw, "_original_response", None), "msg", None)
    for name in ("Set-Cookie", "Set-Cookie2"):
        if message is not None:
            del message[name]


def drop(request: requests.PreparedRequest) -> None:
    """Empty the jar of a request."""
    request._cookies = OwnCookies()  # type: ignore[attr-defined]


def _jar(request: Any) -> Any:
    return request._cookies
