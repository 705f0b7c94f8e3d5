"""A web server whose answers are odd."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.fuzz.support.odd_inputs import Odd


class OddServer:
    """Answers every request with the same odd bytes."""

    def __init__(self) -> None:
        self.status, self.headers, self.body = 200, {}, b""
        self.url = ""

    @contextlib.contextmanager
    def served(self) -> Iterator[None]:
        told = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                with contextlib.suppress(OSError):
                    self.rfile.read(int(self.headers.get("Content-Length", 0)))
                    self.send_response(told.status)
                    for name, value in told.headers.items():
                        self.send_header(name, value)
                    self.send_header("Content-Length", str(len(told.body)))
                    self.end_headers()
                    self.wfile.write(told.body)

            def do_POST(self) -> None:
                self.do_GET()

            def log_message(self, *_: Any) -> None:
                pass

        with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            self.url = f"http://127.0.0.1:{server.server_port}"
            threading.Thread(target=server.serve_forever, daemon=True).start()
            yield
            server.shutdown()

    def answer(self, odd: Odd, valid: dict[str, Any]) -> None:
        """Answer oddly from now on, sometimes one that is nearly right."""
        self.status = odd.pick((200, 200, 200, 400, 429, 500, 302))
        late = odd.pick(("7", "9" * 400, "-1", "Fri, 31 Dec 99999 99:99:99 GMT", "x"))
        self.headers = {"Retry-After": late, "Location": "/x", "Content-Type": "application/json"}
        right = odd.chance.random() < 0.7
        self.body = odd.json(valid).encode("utf-8", "replace") if right else odd.data()
