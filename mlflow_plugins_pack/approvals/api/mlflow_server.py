"""Asks the MLflow server on behalf of a visitor, with the visitor's own credentials.

Thus MLflow's permissions decide what a visitor may read or change, whichever app checks them: the
review app copies no rule of them. The server is another process, or the app that this one wraps.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any

import httpx
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import (
    INTERNAL_ERROR,
    INVALID_PARAMETER_VALUE,
    PERMISSION_DENIED,
    RESOURCE_DOES_NOT_EXIST,
    TEMPORARILY_UNAVAILABLE,
    UNAUTHENTICATED,
    ErrorCode,
)

API = "/api/2.0/mlflow"
TIMEOUT_SECONDS = 60.0
_LARGEST = "largest_bytes"
"""The extension of a request by which `InProcessTransport` knows how much of the answer counts."""
_CODE_OF_STATUS = {
    401: UNAUTHENTICATED,
    403: PERMISSION_DENIED,
    404: RESOURCE_DOES_NOT_EXIST,
}


class MlflowServer:
    """The MLflow server that the review app belongs to.

    Args:
        url: Its address; with a transport that needs none, any.
        transport: How it is reached; None: over the network.
    """

    def __init__(self, url: str, transport: httpx.BaseTransport | None = None) -> None:
        self.transport = transport
        # No cookie of one visitor is kept for the next.
        no_cookies = CookieJar(DefaultCookiePolicy(allowed_domains=[]))
        self._client = httpx.Client(
            base_url=url,
            transport=transport,
            timeout=TIMEOUT_SECONDS,
            trust_env=False,
            cookies=no_cookies,
        )

    @property
    def is_in_process(self) -> bool:
        """Whether the server is part of this process, and checks the visitor's Host header."""
        return self.transport is not None

    def ask(
        self,
        method: str,
        path: str,
        credentials: Mapping[str, str],
        *,
        params: Mapping[str, Any] | None = None,
        json: Any = None,
    ) -> httpx.Response:
        """Send a request and return the answer, whatever its status.

        Raises:
            MlflowException: If the server cannot be reached.
        """
        try:
            return self._client.request(
                method, path, headers=_as_sent(credentials), params=params, json=json
            )
        except httpx.InvalidURL as exc:
            raise MlflowException(
                f"{path!r} is not an address. Nothing was changed.", INVALID_PARAMETER_VALUE
            ) from exc
        except httpx.HTTPError as exc:
            # Only a request that found no connection has certainly changed nothing.
            is_unchanged = method == "GET" or isinstance(
                exc, (httpx.ConnectError, httpx.PoolTimeout)
            )
            raise MlflowException(
                f"The MLflow server does not answer ({type(exc).__name__}). "
                + (
                    "Nothing was changed. Try again."
                    if is_unchanged
                    else "Whether the change was made is not known. Look at the request again."
                ),
                TEMPORARILY_UNAVAILABLE,
            ) from exc

    def call(
        self,
        method: str,
        path: str,
        credentials: Mapping[str, str],
        *,
        params: Mapping[str, Any] | None = None,
        json: Any = None,
    ) -> dict[str, Any]:
        """Send a request and return the JSON of the answer.

        Raises:
            MlflowException: The server's own refusal, with its code and message.
        """
        answer = self.ask(method, f"{API}/{path}", credentials, params=params, json=json)
        if answer.status_code != httpx.codes.OK:
            raise refusal_of(answer)
        found = answer.json()
        return found if isinstance(found, dict) else {}

    def text(
        self,
        path: str,
        credentials: Mapping[str, str],
        params: Mapping[str, Any],
        largest_bytes: int,
    ) -> str | None:
        """Return the text of a file; None if there is none, it is larger, or it is not UTF-8.

        Raises:
            MlflowException: If the server cannot be reached.
        """
        body = b""
        try:
            with self._client.stream(
                "GET",
                path,
                headers=_as_sent(credentials),
                params=params,
                extensions={_LARGEST: largest_bytes},
            ) as answer:
                if answer.status_code != httpx.codes.OK:
                    return None
                for part in answer.iter_bytes():
                    body += part
                    if len(body) > largest_bytes:
                        return None
        except httpx.HTTPError as exc:
            raise MlflowException(
                f"The MLflow server does not answer ({type(exc).__name__}). Nothing was changed. "
                "Try again.",
                TEMPORARILY_UNAVAILABLE,
            ) from exc
        try:
            return body.decode("utf-8")
        except UnicodeDecodeError:
            return None


def _as_sent(headers: Mapping[str, str]) -> dict[bytes, bytes]:
    """Return headers as the visitor sent them; httpx would take texts in ASCII only."""
    return {
        name.encode("ascii"): value.encode("latin-1", "replace") for name, value in headers.items()
    }


def refusal_of(answer: httpx.Response) -> MlflowException:
    """Return the error that an answer of MLflow stands for."""
    try:
        fields = answer.json()
        name, message = fields.pop("error_code"), fields.pop("message")
        return MlflowException(message, ErrorCode.Value(name), **fields)
    except (ValueError, KeyError, TypeError, AttributeError):
        # Its permission check answers with a line of plain text.
        code = _CODE_OF_STATUS.get(answer.status_code, INTERNAL_ERROR)
        return MlflowException(
            f"MLflow refused this: {answer.text[:200] or answer.reason_phrase}", code
        )


class InProcessTransport(httpx.BaseTransport):
    """Calls an ASGI app of the same process from a worker thread.

    Args:
        app: The app.

    Attributes:
        loop: The event loop that serves requests; set before the first one is answered.
    """

    def __init__(self, app: Any) -> None:
        self._app = app
        self.loop: asyncio.AbstractEventLoop | None = None

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request to the app."""
        if self.loop is None:
            raise AssertionError("the event loop is known when a request comes in")
        return asyncio.run_coroutine_threadsafe(self._send(request), self.loop).result()

    async def _send(self, request: httpx.Request) -> httpx.Response:
        largest = request.extensions.get(_LARGEST)
        app = self._app if largest is None else _cut_off(self._app, largest)
        transport = httpx.ASGITransport(app=app)
        outer = httpx.Request(
            request.method, request.url, headers=request.headers, content=request.read()
        )
        answer = await transport.handle_async_request(outer)
        content = await answer.aread()
        return httpx.Response(answer.status_code, headers=answer.headers, content=content)


def _cut_off(app: Any, largest_bytes: int) -> Any:
    """Return an app whose answers end soon after so many bytes: httpx keeps them in memory."""

    async def call(scope: Any, receive: Any, send: Any) -> None:
        sent = 0

        async def send_some(message: dict[str, Any]) -> None:
            nonlocal sent
            if sent > largest_bytes:
                message = {**message, "body": b""}
            sent += len(message.get("body", b""))
            await send(message)

        await app(scope, receive, send_some)

    return call
