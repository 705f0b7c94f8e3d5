"""Servers that answer without end: a byte now and then, or interim responses."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
FAULTS = {
    "status line": (b"", b"H"),
    "header": (HEAD + b"X-Long: ", b"a"),
    "headers": (HEAD, b"X-More: a\r\n"),
    "body": (HEAD + b"Content-Length: 1000000\r\n\r\n", b" "),
    "interim responses": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
}
"""What is sent at first, and then again and again."""


@contextlib.contextmanager
def dripping(fault: str, certificate: tuple[Path, Path] | None = None) -> Iterator[str]:
    """Run such a server, and return its URL."""
    first, again = FAULTS[fault]
    is_over = threading.Event()
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(0.1)
    context = None
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)

    def answer(connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            stream = context.wrap_socket(connection, server_side=True) if context else connection
            with stream:
                stream.recv(65536)
                stream.sendall(first)
                while not is_over.wait(0.05):
                    stream.sendall(again)

    def serve() -> None:
        while not is_over.is_set():
            with contextlib.suppress(TimeoutError):
                thread = threading.Thread(target=answer, args=(listener.accept()[0],))
                thread.start()
                threads.append(thread)

    threads: list[threading.Thread] = []
    server = threading.Thread(target=serve)
    server.start()
    try:
        scheme = "https" if certificate else "http"
        yield f"{scheme}://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        is_over.set()
        server.join()
        for thread in threads:
            thread.join()
        listener.close()
