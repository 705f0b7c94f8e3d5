"""One time limit for a whole HTTP exchange: name lookup, connection, headers and body.

An exchange sends the credentials that its caller gives it and no others: ~/.netrc is not read.

The timeouts of `requests` limit each wait for the next byte only: a server that sends one byte now
and then, or interim responses (status 100) without end, holds its caller for ever.
"""

from __future__ import annotations

import contextlib
import contextvars
import socket
import threading
import zlib
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import HTTPError

from mlflow_plugins_pack.web_urls import parse_url

T = TypeVar("T")


class Watch:
    """The connections of one exchange, so that another thread can end them."""

    def __init__(self) -> None:
        self._connections: list[Any] = []
        self._is_over = False

    def add(self, connection: Any) -> None:
        """Note a connection, an object with the attribute ``sock``.

        Raises:
            TimeoutError: If the exchange has ended.
        """
        self._connections.append(connection)
        if self._is_over:
            raise TimeoutError

    def stop(self) -> None:
        """End the connections; reading from them, in any thread, ends at once."""
        self._is_over = True
        for connection in self._connections:
            with contextlib.suppress(OSError, TypeError):
                # The plain method: that of a TLS socket would drop the state that its reader uses.
                socket.socket.shutdown(connection.sock, socket.SHUT_RDWR)


class _Started(Generic[T]):
    """A call that runs in a thread of its own, with the caller's context variables.

    Raises:
        RuntimeError: If no thread can be started because the interpreter is ending (since Python
            3.12): the limits of the call's own reads are all that is left then.
        TimeoutError: If there are too many threads already.
    """

    def __init__(self, call: Callable[[], T]) -> None:
        self._results: list[T] = []
        self._errors: list[BaseException] = []
        self._has_ended = threading.Event()
        self._context = contextvars.copy_context()
        self._thread = threading.Thread(
            target=self._work, args=(call,), name="mlflow-pack-http", daemon=True
        )
        try:
            self._thread.start()
        except RuntimeError:
            if threading.main_thread().is_alive():
                raise TimeoutError("no thread can be started to keep the time") from None
            raise

    def _work(self, call: Callable[[], T]) -> None:
        try:
            self._results.append(self._context.run(call))
        except BaseException as exc:  # noqa: BLE001 - raised again by the caller
            self._errors.append(exc)
        finally:
            self._has_ended.set()

    def ends_within(self, seconds: float | None) -> bool:
        """Wait for the end; return whether it has come."""
        # Not by joining the thread: before Python 3.13 it is taken for ended once that was
        # interrupted (https://github.com/python/cpython/issues/90882).
        return self._has_ended.wait(seconds)

    def result(self) -> T:
        """Return what the call returned, or raise what it raised; it has ended."""
        if self._errors:
            raise self._errors[0]
        return self._results[0]


def within(seconds: float, call: Callable[[], T], watch: Watch | None = None) -> T:
    """Return the result of a call, or give it up when its time is over.

    Args:
        seconds: The limit.
        call: Uses the connections that the watch notes; runs in a thread of its own, with the
            caller's context variables.
        watch: Ends what the call is waiting for when it is given up. Without one the call's thread
            stays until it returns by itself, or the process ends.

    Raises:
        TimeoutError: If the call has not returned in time.
        Exception: Whatever the call raises.
    """
    try:
        started = _Started(call)
    except RuntimeError:
        return call()
    is_late = True
    try:
        is_late = not started.ends_within(seconds)
    finally:
        if is_late and watch is not None:
            watch.stop()
    if is_late:
        raise TimeoutError(f"no whole answer within {seconds:g} s")
    return started.result()


def uninterrupted(call: Callable[[], T]) -> T:
    """Return the result of a call that has a time limit of its own; Ctrl-C is heard when it ends.

    A second Ctrl-C is heard at once.

    Raises:
        KeyboardInterrupt: Once the call has ended.
        Exception: Whatever the call raises.
    """
    try:
        started = _Started(call)
    except (RuntimeError, TimeoutError):  # it keeps its own time
        return call()
    try:
        started.ends_within(None)
    except KeyboardInterrupt:
        started.ends_within(None)
        raise
    return started.result()


class WatchedAdapter(HTTPAdapter):
    """Notes every connection of a session with a watch."""

    connection_classes: tuple[type[HTTPConnection], type[HTTPSConnection]] = (
        HTTPConnection,
        HTTPSConnection,
    )

    def __init__(self, watch: Watch) -> None:
        self._pools = {
            scheme: _watched(pool, connection, watch)
            for scheme, pool, connection in zip(
                ("http", "https"),
                (HTTPConnectionPool, HTTPSConnectionPool),
                self.connection_classes,
                strict=True,
            )
        }
        super().__init__()

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Create the pools of watched connections."""
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = self._pools

    def proxy_manager_for(self, proxy: str, **proxy_kwargs: Any) -> Any:
        """Return a proxy manager with watched connections."""
        manager = super().proxy_manager_for(proxy, **proxy_kwargs)
        manager.pool_classes_by_scheme = self._pools
        return manager


def _watched(pool: type[Any], connection: type[Any], watch: Watch) -> type[Any]:
    def connect(self: Any) -> None:
        watch.add(self)
        connection.connect(self)
        watch.add(self)  # the time may have ended during a TLS handshake, on another socket object

    watched = type("WatchedConnection", (connection,), {"connect": connect})
    return type("WatchedPool", (pool,), {"ConnectionCls": watched})


@contextlib.contextmanager
def watched_session(
    watch: Watch, adapter: type[WatchedAdapter] = WatchedAdapter
) -> Iterator[requests.Session]:
    """Open a session whose connections a watch ends, and whose only credentials are its caller's.

    Args:
        watch: Notes the connections.
        adapter: The adapter for both schemes.
    """
    with _Session() as session:
        for scheme in ("http://", "https://"):
            session.mount(scheme, adapter(watch))
        yield session


class _Session(requests.Session):
    """A session that takes no password from ~/.netrc."""

    def __init__(self) -> None:
        super().__init__()
        self.headers["Accept-Encoding"] = "gzip"  # what `read_body` unpacks
        # Any `auth` keeps `requests` from ~/.netrc.
        self.auth = lambda request: request

    def merge_environment_settings(self, url: Any, proxies: Any, *others: Any) -> Any:
        """Let no proxy of the environment read or answer what goes to this machine in clear."""
        own = dict(proxies or {})
        settings = super().merge_environment_settings(url, proxies, *others)
        parsed = parse_url(url)
        if parsed is not None and parsed.scheme == "http" and parsed.is_local:
            settings["proxies"] = own
        return settings

    def rebuild_auth(self, prepared_request: Any, response: Any) -> None:
        """Let no password follow a redirect, nor one be looked up for where it leads."""
        prepared_request.headers.pop("Authorization", None)


def read_body(answer: requests.Response, largest_bytes: int) -> bytes:
    """Read the body of a response whose server may be hostile, and close it.

    A few bytes can be made to unpack to gigabytes, the more so where one encoding is packed in
    another: only gzip is unpacked, once, and no further than the limit.

    Args:
        answer: A response that was asked for with ``stream=True``.
        largest_bytes: The limit, before and after unpacking.

    Raises:
        OSError: If the body is larger, broken off, or in another encoding.
    """
    with answer:
        return _read_body(answer, largest_bytes)


def _read_body(answer: requests.Response, largest_bytes: int) -> bytes:
    body = bytearray()
    encoding = answer.headers.get("Content-Encoding", "").strip().lower()
    if encoding not in ("", "identity", "gzip", "x-gzip"):
        raise OSError("the answer is in an encoding that was not asked for")
    try:
        while part := answer.raw.read(16 * 1024, decode_content=False):
            body += part
            if len(body) > largest_bytes:
                break
        plain, is_whole = bytes(body), True
        if encoding.endswith("gzip"):
            unpacker = zlib.decompressobj(zlib.MAX_WBITS | 16)
            plain = unpacker.decompress(body, largest_bytes + 1)
            is_whole = unpacker.eof
    except (HTTPError, zlib.error) as exc:
        raise OSError(f"the answer is broken ({type(exc).__name__})") from None
    if max(len(body), len(plain)) > largest_bytes:
        raise OSError("the answer is too large")
    if not is_whole:
        raise OSError("the answer is broken off")
    return plain


def exchange(
    seconds: float,
    ask: Callable[[requests.Session], T],
    adapter: type[WatchedAdapter] = WatchedAdapter,
) -> T:
    """Run one exchange in a session of its own.

    Args:
        seconds: The limit of the whole exchange.
        ask: Sends the request and reads all that it needs of the response.
        adapter: The adapter for both schemes.

    Returns:
        What `ask` returns.

    Raises:
        TimeoutError: If that took longer.
        Exception: Whatever `ask` raises.
    """
    watch = Watch()
    with watched_session(watch, adapter) as session:
        return within(seconds, lambda: ask(session), watch)
