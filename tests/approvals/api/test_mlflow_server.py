"""What the review app says of an MLflow server that does not answer."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest
from mlflow.exceptions import MlflowException

from mlflow_plugins_pack.approvals.api.mlflow_server import InProcessTransport, MlflowServer


@pytest.mark.parametrize(
    ("method", "told"), [("GET", "Nothing was changed"), ("POST", "is not known")]
)
def test_a_server_that_ends_before_it_answers(method: str, told: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def hang_up() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)

        thread = threading.Thread(target=hang_up)
        thread.start()
        server = MlflowServer(f"http://127.0.0.1:{listener.getsockname()[1]}")
        with pytest.raises(MlflowException, match=told):
            server.ask(method, "/x", {})
        thread.join()


def test_a_server_that_is_not_there_has_changed_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(MlflowException, match="Nothing was changed"):
        MlflowServer(f"http://127.0.0.1:{port}").ask("POST", "/x", {})


CHUNK, CHUNKS = b"x" * 65536, 1600
"""A file of 100 MiB."""


@contextlib.contextmanager
def over_the_network(sent: list[int]) -> Iterator[MlflowServer]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            with contextlib.suppress(OSError):
                for _ in range(CHUNKS):
                    self.wfile.write(CHUNK)
                    sent.append(len(CHUNK))

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield MlflowServer(f"http://127.0.0.1:{http.server_port}")
        http.shutdown()


@contextlib.contextmanager
def in_this_process(sent: list[int]) -> Iterator[MlflowServer]:
    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for number in range(CHUNKS):
            more = number < CHUNKS - 1
            await send({"type": "http.response.body", "body": CHUNK, "more_body": more})

    class Counted(InProcessTransport):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            answer = super().handle_request(request)
            sent.append(len(answer.content))
            return answer

    transport, loop = Counted(app), asyncio.new_event_loop()
    transport.loop = loop
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield MlflowServer("http://inside", transport)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@pytest.mark.parametrize("served", [over_the_network, in_this_process])
def test_a_file_that_is_too_large_is_not_read_whole(served: Any) -> None:
    """Users log files of any size, and each view of a page asks for some of them."""
    sent: list[int] = []
    with served(sent) as server:
        assert server.text("/get-artifact", {}, {"path": "MLmodel"}, 1 << 20) is None
        assert sum(sent) < 20 << 20  # what a socket takes before its reader goes away
