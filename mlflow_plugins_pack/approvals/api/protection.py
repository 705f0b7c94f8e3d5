"""ASGI middleware that protects every answer of the review app: headers, sizes, origins."""

from __future__ import annotations

import hmac
import re
import secrets
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_BODY_BYTES = 128 * 1024
"""Largest body of a request; the longest comment has 5,000 characters."""
CSRF_FIELD = "csrf_token"
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_SAME_SITE = frozenset({"same-origin", "none"})
_TOKEN_BYTES = 32
_LENGTH = re.compile(r"[0-9]{1,18}")

# https://owasp.org/www-project-secure-headers/; nothing of other origins is loaded or frames us.
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; font-src 'self'; "
        "connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
_PRIVATE = "no-store"


class SecurityHeaders:
    """Adds the security headers; what has no Cache-Control of its own is not stored anywhere."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("Cache-Control", _PRIVATE)
            await send(message)

        await self._app(scope, receive, send_with_headers)


class BodyLimit:
    """Reads the body before the app does, and refuses one that is too large."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        length = Headers(scope=scope).get("content-length", "0")
        if not _LENGTH.fullmatch(length) or int(length) > MAX_BODY_BYTES:
            await _too_large(scope, receive, send)
            return
        messages: list[Message] = []
        size, is_whole = 0, False
        while not is_whole:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            messages.append(message)
            size += len(message.get("body", b""))
            is_whole = not message.get("more_body", False)
            if size > MAX_BODY_BYTES:
                await _too_large(scope, receive, send)
                return

        async def replay() -> Message:
            return messages.pop(0) if messages else await receive()

        await self._app(scope, replay, send)


class TextsOnly:
    """Refuses addresses with the character NUL, which some databases cannot ask about."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] == "http" and ("\x00" in scope["path"] or b"%00" in scope["query_string"]):
            message = "The address has the character NUL. Nothing was changed. Leave it out."
            fields = {"error_code": "INVALID_PARAMETER_VALUE", "message": message}
            await JSONResponse(fields, 400)(scope, receive, send)
            return
        await self._app(scope, receive, send)


class SameOrigin:
    """Refuses requests of other sites' pages that would change something.

    Browsers send Basic credentials by themselves. They also say where a request comes from
    (``Sec-Fetch-Site``, and before that ``Origin``), which no page can change. Programs send
    neither, and no page can make a browser leave both out.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if (
            scope["type"] == "http"
            and scope["method"] not in _SAFE_METHODS
            and not _is_same_origin(Headers(scope=scope))
        ):
            message = (
                "This request comes from a page of another site, or through a proxy that does not "
                "pass on the Host header. Nothing was changed. Send it from the review app's page."
            )
            answer = JSONResponse({"error_code": "PERMISSION_DENIED", "message": message}, 403)
            await answer(scope, receive, send)
            return
        await self._app(scope, receive, send)


def _is_same_origin(headers: Headers) -> bool:
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site in _SAME_SITE
    origin = headers.get("origin")
    try:
        return origin is None or urlsplit(origin).netloc == headers.get("host")
    except ValueError:  # no address
        return False


async def _too_large(scope: Scope, receive: Receive, send: Send) -> None:
    message = (
        f"The body is larger than {MAX_BODY_BYTES} bytes. Nothing was changed. Send less text."
    )
    answer = JSONResponse({"error_code": "INVALID_PARAMETER_VALUE", "message": message}, 413)
    await answer(scope, receive, send)


def new_csrf_token() -> str:
    """Return a token for the cookie of a browser."""
    return secrets.token_urlsafe(_TOKEN_BYTES)


def is_csrf_token(cookie: str | None, field: str | None) -> bool:
    """Return whether a form was sent by a page of ours: its token is that of the cookie.

    A page of another site can neither read nor set the cookie (double-submit cookie).
    """
    # As bytes: texts with letters beyond ASCII cannot be compared in constant time.
    return bool(cookie and field) and hmac.compare_digest(
        str(cookie).encode("utf-8", "replace"), str(field).encode("utf-8", "replace")
    )
