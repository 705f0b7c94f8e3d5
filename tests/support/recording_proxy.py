"""A real HTTP server that forwards everything to another one and remembers what it forwarded."""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade"}


@dataclass(frozen=True)
class Request:
    """One forwarded request, as it arrived.

    Attributes:
        method: HTTP method.
        path: Path and query.
        headers: Names as sent, with values, in order.
        body: The whole body.
        status: What the server answered.
    """

    method: str
    path: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    status: int

    def json(self) -> Any:
        """Return the body's JSON, or None if the body is not JSON."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None


@dataclass
class Recording:
    """The proxy's address and what went through it.

    Attributes:
        url: Where clients connect.
        requests: In the order in which they were answered.
    """

    url: str
    requests: list[Request] = field(default_factory=list)


@contextlib.contextmanager
def recording_proxy(target: str) -> Iterator[Recording]:
    """Forward requests to the target and record them until the block ends."""
    host = urlsplit(target).netloc
    recording = Recording("")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _body(self) -> bytes:
            if "chunked" in self.headers.get("Transfer-Encoding", ""):
                parts = []
                while size := int(self.rfile.readline().split(b";")[0], 16):
                    parts.append(self.rfile.read(size))
                    self.rfile.readline()
                self.rfile.readline()
                return b"".join(parts)
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))

        def _forward(self) -> None:
            body = self._body()
            sent = {
                name: value
                for name, value in self.headers.items()
                if name.lower() not in _HOP_BY_HOP | {"host"}
            }
            connection = http.client.HTTPConnection(host, timeout=120)
            connection.request(self.command, self.path, body or None, {**sent, "Host": host})
            answer = connection.getresponse()
            content = answer.read()
            connection.close()
            headers = tuple(self.headers.items())
            recording.requests.append(
                Request(self.command, self.path, headers, body, answer.status)
            )
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in _HOP_BY_HOP | {"content-length", "date", "server"}:
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = do_OPTIONS = _forward  # noqa: N815

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    recording.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield recording
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
