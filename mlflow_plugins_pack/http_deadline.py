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
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

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
    results: list[T] = []
    errors: list[BaseException] = []
    context = contextvars.copy_context()

    def work() -> None:
        try:
            results.append(context.run(call))
        except BaseException as exc:  # noqa: BLE001 - raised again by the caller
            errors.append(exc)

    worker = threading.Thread(target=work, name="mlflow-pack-http", daemon=True)
    try:
        worker.start()
    except RuntimeError:
        # Python 3.12 starts no thread once the interpreter is ending: only the limits of the
        # call's own reads are left.
        return call()
    is_late = True
    try:
        worker.join(seconds)
        is_late = worker.is_alive()
    finally:
        if is_late and watch is not None:
            watch.stop()
    if is_late:
        raise TimeoutError(f"no whole answer within {seconds:g} s")
    if errors:
        raise errors[0]
    return results[0]


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
