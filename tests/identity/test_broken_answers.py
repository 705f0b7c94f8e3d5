"""An issuer whose answers break off is an issuer that is down: the keys at hand go on to serve."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from mlflow_plugins_pack.identity.errors import KeysUnavailableError
from mlflow_plugins_pack.identity.keys import (
    FAILED_PAUSE_SECONDS,
    KEEP_SECONDS,
    KeyCache,
    fetch_json,
)

_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
BROKEN = [
    _HEAD + b'Content-Length: 500\r\n\r\n{"keys":',
    _HEAD + b"Content-Encoding: gzip\r\nContent-Length: 5\r\n\r\nhello",
    _HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nhello",
]


@pytest.fixture(params=BROKEN, ids=["cut", "gzip", "chunk"])
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(65536)
                    connection.sendall(request.param)

        threading.Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}/jwks"


def test_it_is_down(url: str) -> None:
    with pytest.raises(KeysUnavailableError, match="does not answer"):
        fetch_json(url, 5)


def test_stale_keys_serve(url: str) -> None:
    now, answers = [0.0], [{"keys": [{"kid": "a"}]}]
    cache = KeyCache(lambda: answers.pop() if answers else fetch_json(url, 5), lambda: now[0])
    cache.find("a")
    now[0] = KEEP_SECONDS + 1
    assert cache.find("a") == [{"kid": "a"}]


def test_the_pause_counts_from_the_end_of_a_slow_try() -> None:
    now, asked = [0.0], [0]

    def fetch() -> dict[str, object]:
        asked[0] += 1
        now[0] += FAILED_PAUSE_SECONDS
        raise KeysUnavailableError("slow")

    cache = KeyCache(fetch, lambda: now[0])
    for _ in range(3):
        with pytest.raises(KeysUnavailableError):
            cache.find("a")
    assert asked == [1]
