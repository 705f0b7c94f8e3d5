"""Signs a person in with a browser on this machine, or with a code on another device.

Both wait a bounded time and end with Ctrl-C. Nothing is stored until the whole answer has been
verified.
"""

from __future__ import annotations

import contextlib
import html
import secrets
import socketserver
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, urlsplit

from mlflow_plugins_pack.auth.credentials.claims import who_is
from mlflow_plugins_pack.auth.credentials.contracts import SourceError, import_extra
from mlflow_plugins_pack.auth.oidc.authorization import (
    AuthorizationRefusedError,
    AuthorizationRequest,
    ForeignRedirectError,
)
from mlflow_plugins_pack.auth.oidc.provider import Provider, TokenResponse
from mlflow_plugins_pack.auth.oidc.transport import OAuthError
from mlflow_plugins_pack.identity.errors import KeysUnavailableError, TokenRefusedError
from mlflow_plugins_pack.identity.jwt import verify
from mlflow_plugins_pack.identity.keys import KeyCache
from mlflow_plugins_pack.web_urls import check_secure_url

_PATH = "/callback"
_INTERVAL_SECONDS = 5.0

Show = Callable[[str], None]


def by_browser(
    provider: Provider, timeout_seconds: float, show: Show
) -> tuple[TokenResponse, str | None]:
    """Sign a person in with a browser on this machine.

    Args:
        provider: The provider of the profile.
        timeout_seconds: Seconds to wait.
        show: Called with the URL to open.

    Returns:
        The tokens, and the name of the user.

    Raises:
        SourceError: If the person did not sign in in time, or the answer is invalid.
    """
    question = AuthorizationRequest()
    issuer = provider.profile.issuer
    says_issuer = bool(provider.metadata().get("authorization_response_iss_parameter_supported"))

    def read(query: Mapping[str, list[str]]) -> str:
        return question.read_code(dict(query), issuer, says_issuer=says_issuer)

    with _listening(provider.profile.redirect_port, read) as listener:
        redirect_uri = f"http://127.0.0.1:{listener.port}{_PATH}"
        show(
            question.url(
                provider.endpoint("authorization_endpoint"),
                provider.profile.client_id,
                redirect_uri,
                provider.scope_and_audience(),
            )
        )
        code = listener.wait(timeout_seconds)
    answer = provider.exchange_code(code, question.verifier, redirect_uri)
    return answer, _who(provider, answer, question.nonce)


def by_device(
    provider: Provider,
    timeout_seconds: float,
    show: Callable[[str, str, str | None], None],
    sleep: Callable[[float], None] = time.sleep,
) -> tuple[TokenResponse, str | None]:
    """Sign a person in on any device, with a code (RFC 8628).

    Args:
        provider: The provider of the profile.
        timeout_seconds: Seconds to wait at most.
        show: Called with the URL, the code, and the URL that contains the code, if any.
        sleep: Waits for some seconds.

    Raises:
        SourceError: If the person did not sign in in time, or the answer is invalid.
    """
    started = provider.start_device()
    code, user_code = started.get("device_code"), started.get("user_code")
    address = started.get("verification_uri")
    whole = started.get("verification_uri_complete")
    if not all(isinstance(text, str) for text in (code, user_code, address)):
        raise SourceError("the provider's answer to the device request is incomplete")
    for url in (address, whole):
        if url is not None:
            _check_shown(url)
    show(str(address), str(user_code), whole)
    interval = _seconds(started.get("interval"), _INTERVAL_SECONDS)
    limit = min(timeout_seconds, _seconds(started.get("expires_in"), timeout_seconds))
    deadline = time.monotonic() + limit
    while time.monotonic() < deadline:
        sleep(min(interval, max(0.0, deadline - time.monotonic())))
        try:
            answer = provider.poll_device(str(code))
        except OAuthError as exc:
            if exc.code != "slow_down":
                raise
            interval += _INTERVAL_SECONDS  # RFC 8628, section 3.5
            continue
        if answer is not None:
            return answer, _who(provider, answer, None)
    raise SourceError(f"the sign-in was not finished within {limit:g} s; start it again")


def _who(provider: Provider, answer: TokenResponse, nonce: str | None) -> str | None:
    """Verify the ID token and return the user that it names; None without an ID token."""
    if answer.id_token is None:
        return None
    import_extra("joserfc", "oidc")

    def fetch() -> Mapping[str, Any]:
        try:
            return provider.transport.get(provider.endpoint("jwks_uri"))
        except SourceError as exc:
            raise KeysUnavailableError(str(exc)) from None

    problem = ""
    try:
        claims = verify(
            answer.id_token.reveal(),
            KeyCache(fetch),
            issuer=provider.profile.issuer,
            audience=provider.profile.client_id,
        )
    except (TokenRefusedError, KeysUnavailableError) as exc:
        problem = str(exc)
    else:
        said = str(claims.get("nonce", ""))
        if nonce is not None and not secrets.compare_digest(said.encode(), nonce.encode()):
            problem = "it answers another sign-in than this one (nonce)"
    if problem:
        if answer.refresh_token is not None:  # nothing could use it, or revoke it later
            with contextlib.suppress(SourceError):
                provider.revoke(answer.refresh_token.reveal())
        raise SourceError(f"the provider's ID token was refused: {problem}. Nothing was kept")
    return who_is(claims)


def _check_shown(url: object) -> None:
    """Raise SourceError if the URL is not secure: a person types a password there."""
    try:
        check_secure_url(str(url), may_have_query=True)
    except ValueError as exc:
        problem = str(exc)
    else:
        return
    raise SourceError(f"the provider sends people to an address that is not safe: {problem}")


def _seconds(value: object, default: float) -> float:
    return float(value) if isinstance(value, (int, float)) and 0 < value < 1e6 else default


class _Listener(socketserver.ThreadingTCPServer):
    """Waits on loopback for the browser to come back."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, port: int, read: Callable[[Mapping[str, list[str]]], str]) -> None:
        super().__init__(("127.0.0.1", port), _Page)
        self.read = read
        self.code = ""
        self.problem = ""
        self.came = threading.Event()

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def wait(self, timeout_seconds: float) -> str:
        """Return the code.

        Raises:
            SourceError: If it did not come in time, or the provider refused.
        """
        deadline = time.monotonic() + timeout_seconds
        # In short turns, so that Ctrl-C is heard everywhere.
        while not self.came.wait(0.2):
            if time.monotonic() > deadline:
                raise SourceError(
                    f"the sign-in was not finished within {timeout_seconds:g} s; start it again"
                )
        if self.problem:
            raise SourceError(self.problem)
        return self.code

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore the error: browsers close connections early."""


@contextlib.contextmanager
def _listening(port: int, read: Callable[[Mapping[str, list[str]]], str]) -> Iterator[_Listener]:
    problem = ""
    try:
        listener = _Listener(port, read)
    except OSError as exc:
        problem = exc.strerror or str(exc)
    if problem:
        raise SourceError(
            f"cannot listen on 127.0.0.1:{port} for the browser ({problem}); change redirect_port, "
            f"or sign in with --device"
        )
    thread = threading.Thread(
        target=listener.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True
    )
    thread.start()
    try:
        yield listener
    finally:
        listener.shutdown()
        listener.server_close()
        thread.join()


class _Page(BaseHTTPRequestHandler):
    """Answers the browser when it comes back."""

    server: _Listener
    timeout = 10

    def do_GET(self) -> None:
        split = urlsplit(self.path)
        if split.path != _PATH:
            self._answer(404, "This page does not exist.")
            return
        if self.server.came.is_set():
            self._answer(200, "This sign-in has ended. You may close this page.")
            return
        try:
            code = self.server.read(parse_qs(split.query, keep_blank_values=True))
        except ForeignRedirectError as exc:
            # Any web page may send a browser here; that must not end the sign-in.
            self._answer(400, f"Not accepted: {exc}.")
        except AuthorizationRefusedError as exc:
            self.server.problem = str(exc)
            self._answer(400, f"Not signed in: {exc}.")
            self.server.came.set()
        else:
            self.server.code = code
            self._answer(
                200, "The browser's part is done. You may close this page; see the terminal."
            )
            self.server.came.set()

    def _answer(self, status: int, text: str) -> None:
        body = _TEMPLATE.format(text=html.escape(text)).encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        # The address holds the code: it goes nowhere from here.
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("Cache-Control", "no-store")
        self.send_header("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Log nothing: the path contains the code."""


_TEMPLATE = """<!doctype html><html lang="en"><head><meta charset="utf-8">
<title>mlflow-pack</title><style>body{{font:16px system-ui,sans-serif;max-width:32em;
margin:20vh auto;padding:0 1em;color:#222}}h1{{font-size:1.2em}}</style></head>
<body><h1>mlflow-pack</h1><p>{text}</p></body></html>
"""
