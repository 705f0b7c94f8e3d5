"""A real HTTP proxy that misbehaves as it is told: cuts, errors, delays, flipped bits."""

from __future__ import annotations

import contextlib
import http.client
import ssl
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.support import s3_alike

_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade"}
_SLOW_DOWN = (
    b'<?xml version="1.0"?><Error><Code>SlowDown</Code><Message>Please reduce your request rate.'
    b"</Message></Error>"
)
_BUSY = (
    b'<?xml version="1.0"?><Error><Code>ServerBusy</Code><Message>The server is busy.</Message>'
    b"</Error>"
)
_FAILED = (
    b'<?xml version="1.0"?><Error><Code>InternalError</Code><Message>We failed.</Message></Error>'
)
_DENIED = (
    b'<?xml version="1.0"?><Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>'
)
_EXPIRED = (
    b'<?xml version="1.0"?><Error><Code>ExpiredToken</Code><Message>The provided token has expired.'
    b"</Message></Error>"
)


@dataclass
class Fault:
    """What to do with the requests that match, and how often.

    Attributes:
        what: ``cut request`` (the server never sees it), ``cut answer`` (it does, the client gets
            half), ``no answer`` (it does, the client gets none), ``500``, ``slow down`` (503),
            ``busy`` (Azure's 503, which asks to wait for 2 s), ``401``, ``403``, ``429``, ``503``,
            ``expired``,
            ``short answer`` (half of it, announced as the whole), ``slow`` (a byte now and then),
            ``stall request``, ``stall answer`` (half of it, and then nothing more),
            ``flip answer``, ``flip request``.
        method: ``GET``, ``PUT``, ...
        part: Text that the path contains, such as ``/packs/``, or the beginning of a POST's body.
        times: How many requests; a negative number for all.
        after: How many are let through first.
    """

    what: str
    method: str
    part: str
    times: int = 1
    after: int = 0

    def applies(self, method: str, path: str) -> bool:
        return bool(self.times) and method == self.method and self.part in path


@dataclass
class FaultProxy:
    """The proxy's address, what it does wrong and what it has done.

    Attributes:
        url: Where clients connect.
        faults: To be done; each is used up.
        done: Path of every request that a fault hit.
        seconds_per_answer: For ``slow``.
        moved: Bytes of bodies that went through, by method.
        list_prefix: The credentials may list below this prefix only, as an AWS policy can say: then
            a key that does not exist answers 403, and so does any other listing.
        lacks: What the service lacks of S3, see tests/support/s3_alike.py.
        refused: Method and path of every request that was refused for it.
        hold_after: From so many bytes of packs on, requests for packs wait until it is None; then
            they are cut off.
    """

    url: str = ""
    faults: list[Fault] = field(default_factory=list)
    done: list[str] = field(default_factory=list)
    seconds_per_answer: float = 1
    moved: Counter[str] = field(default_factory=Counter)
    list_prefix: str | None = None
    lacks: frozenset[str] = frozenset()
    refused: list[str] = field(default_factory=list)
    hold_after: int | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _is_over: threading.Event = field(default_factory=threading.Event)

    def stall(self) -> None:
        self._is_over.wait(60)

    def wait_if_held(self, path: str) -> bool:
        """Wait while requests for packs are held; tell whether this one was."""
        if not self.is_holding() or "/packs/" not in path:
            return False
        while self.is_holding():
            time.sleep(0.02)
        return True

    def is_holding(self) -> bool:
        limit = self.hold_after
        return limit is not None and self.moved["GET"] + self.moved["PUT"] >= limit

    def count(self, method: str, length: int) -> None:
        with self._lock:
            self.moved[method] += length

    def denies(self, method: str, path: str, status: int) -> bool:
        """Return whether credentials with a `list_prefix` are refused a request."""
        if self.list_prefix is None or method not in ("GET", "HEAD"):
            return False
        query = parse_qs(urlsplit(path).query)
        if "list-type" in query:
            return not query.get("prefix", [""])[0].startswith(self.list_prefix)
        return status == 404

    def pick(self, method: str, path: str) -> str:
        with self._lock:
            for fault in self.faults:
                if fault.applies(method, path):
                    if fault.after:
                        fault.after -= 1
                        continue
                    fault.times -= 1
                    self.done.append(path)
                    return fault.what
        return ""


@contextlib.contextmanager
def fault_proxy(target: str, certificate: tuple[Path, Path] | None = None) -> Iterator[FaultProxy]:
    """Forward requests to the target, with faults, until the block ends.

    Args:
        target: Where to.
        certificate: Files of a certificate and its key, to be reached over TLS.
    """
    host = urlsplit(target).netloc
    proxy = FaultProxy()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _forward(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            place = unquote(self.path)
            if self.command == "POST" and length:
                # Google's uploads name their object in the body.
                place += self.rfile.peek(2048)[:2048].decode("latin-1")  # type: ignore[attr-defined]
            what = proxy.pick(self.command, place)
            if self.headers.get("Expect", "").lower() == "100-continue":
                pass  # BaseHTTPRequestHandler has answered it already.
            if what in ("cut request", "stall request"):
                self.rfile.read(length // 2)
                if what == "stall request":
                    proxy.stall()
                self._hang_up()
                return
            body = self.rfile.read(length)
            if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
                body = _read_chunks(self.rfile)
            if proxy.wait_if_held(self.path):
                self._hang_up()  # who asked is gone: it must not count for who comes next
                return
            canned = {
                "500": (500, _FAILED),
                "slow down": (503, _SLOW_DOWN),
                "busy": (503, _BUSY),
                "401": (401, _DENIED),
                "403": (403, _DENIED),
                "429": (429, _SLOW_DOWN),
                "503": (503, _SLOW_DOWN),
                "expired": (400, _EXPIRED),
            }.get(what)
            if canned is not None:
                headers = [("Content-Type", "application/xml")]
                if what == "busy":
                    headers += [("Retry-After", "2"), ("x-ms-error-code", "ServerBusy")]
                self._answer(canned[0], headers, canned[1])
                return
            headers = {n: v for n, v in self.headers.items() if n.lower() not in _HOP_BY_HOP}
            request = s3_alike.Request(self.command, self.path, headers, body)
            if (refused := s3_alike.refusal(proxy.lacks, request)) is not None:
                status, code = refused
                proxy.refused.append(f"{self.command} {self.path}")
                error = f"<Error><Code>{code}</Code><Message>No.</Message></Error>".encode()
                self._answer(status, [("Content-Type", "application/xml")], error)
                return
            if what == "flip request" and body:
                body = _flipped(body)
            connection = http.client.HTTPConnection(host, timeout=120)
            connection.request(self.command, request.path, body or None, request.headers)
            answer = connection.getresponse()
            content = answer.read()
            connection.close()
            if what == "no answer":
                self._hang_up()
                return
            if proxy.denies(self.command, self.path, answer.status):
                self._answer(403, [("Content-Type", "application/xml")], _DENIED)
                return
            proxy.count(self.command, len(content) if self.command == "GET" else len(body))
            answered = [
                (n, v)
                for n, v in answer.getheaders()
                if n.lower() not in _HOP_BY_HOP | {"content-length", "date", "server"}
            ]
            answered = s3_alike.edit_headers(proxy.lacks, answered)
            if what == "short answer":
                # As a gateway does that gives up on a slow service: nothing shows that it is short.
                content = content[: len(content) // 2]
            if what == "flip answer" and content:
                content = _flipped(content)
            self._answer(answer.status, answered, content, what, answer.getheader("Content-Length"))

        def _answer(
            self,
            status: int,
            headers: list[tuple[str, str]],
            content: bytes,
            what: str = "",
            announced: str | None = None,
        ) -> None:
            self.send_response(status)
            for name, value in headers:
                self.send_header(name, value)
            is_head = self.command == "HEAD"
            self.send_header("Content-Length", announced or "0" if is_head else str(len(content)))
            self.end_headers()
            if is_head:
                return
            if what in ("cut answer", "stall answer"):
                self.wfile.write(content[: len(content) // 2])
                if what == "stall answer":
                    proxy.stall()
                self._hang_up()
            elif what == "slow":
                for start in range(0, len(content), max(1, len(content) // 10)):
                    time.sleep(proxy.seconds_per_answer / 10)
                    self.wfile.write(content[start : start + max(1, len(content) // 10)])
            else:
                self.wfile.write(content)

        def _hang_up(self) -> None:
            self.close_connection = True
            self.wfile.flush()
            with contextlib.suppress(OSError):
                self.connection.shutdown(2)

        do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = _forward  # noqa: N815

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            pass

        def handle(self) -> None:
            with contextlib.suppress(ConnectionError):
                super().handle()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    proxy.url = f"{'https' if certificate else 'http'}://127.0.0.1:{server.server_port}"
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        # The handshake happens in the connection's own thread.
        server.socket = context.wrap_socket(
            server.socket, server_side=True, do_handshake_on_connect=False
        )
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy._is_over.set()
        server.shutdown()
        server.server_close()
        thread.join()


def _flipped(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


def _read_chunks(stream: Any) -> bytes:
    parts = []
    while length := int(stream.readline().split(b";")[0], 16):
        parts.append(stream.read(length))
        stream.readline()
    while stream.readline().strip():
        pass
    return b"".join(parts)
