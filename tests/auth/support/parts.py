"""Servers and files that the auth tests share."""

from __future__ import annotations

import contextlib
import json
import os
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests
from mlflow.utils.rest_utils import MlflowHostCreds, http_request

JSON = {"Content-Type": "application/json"}
SECRET = "planted-secret-4711"
PEOPLE = ("alice", "bob")
API = "/api/2.0/mlflow/runs/get"
ARTIFACT = "/api/2.0/mlflow-artifacts/artifacts/1/a.bin"
Profiles = Callable[[str], Path]


@dataclass(frozen=True)
class Seen:
    """One request as a server received it."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    def has(self, secret: str) -> bool:
        return secret in json.dumps([self.path, self.headers, self.body.decode("latin-1")])


Answer = tuple[int, dict[str, str], bytes]
Rule = Callable[[Seen], Answer]


def ok(seen: Seen) -> Answer:
    """Answer as an MLflow server with nothing in it would, more or less."""
    return 200, JSON, b"{}"


@dataclass
class Recorder:
    """A server that records all it receives and answers by a rule."""

    port: int
    scheme: str = "http"
    rule: Rule = ok
    dates: Callable[[], str] | None = None
    seen: list[Seen] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"


@contextlib.contextmanager
def recording(
    certificate: tuple[Path, Path] | None = None, clients: Path | None = None
) -> Iterator[Recorder]:
    """Run a recorder.

    Args:
        certificate: Files of its certificate and key, to speak TLS.
        clients: The authority whose certificates it asks its clients for.
    """

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _any(self) -> None:
            body = self._body()
            seen = Seen(self.command, self.path, dict(self.headers.items()), body)
            recorder.seen.append(seen)
            status, headers, content = recorder.rule(seen)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def _body(self) -> bytes:
            if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
                parts = []
                while size := int(self.rfile.readline().strip(), 16):
                    parts.append(self.rfile.read(size))
                    self.rfile.readline()
                self.rfile.readline()
                return b"".join(parts)
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))

        def date_time_string(self, timestamp: float | None = None) -> str:
            return recorder.dates() if recorder.dates else super().date_time_string(timestamp)

        def log_message(self, *args: object) -> None:
            pass

    for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "CONNECT"):
        setattr(Handler, f"do_{method}", Handler._any)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    recorder = Recorder(server.server_port, "https" if certificate else "http")
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        if clients is not None:
            context.load_verify_locations(clients)
            context.verify_mode = ssl.CERT_REQUIRED
        # The handshake happens in the connection's own thread.
        server.socket = context.wrap_socket(
            server.socket, server_side=True, do_handshake_on_connect=False
        )
        server.handle_error = lambda request, address: None  # type: ignore[method-assign]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield recorder
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def write_profiles(path: Path, text: str) -> Path:
    """Write a profiles file as the person's own."""
    path.write_text(text)
    path.chmod(0o600)
    # The mark of a file must change even when two writes fall into one tick of the clock.
    write_profiles.tick += 1_000_000  # type: ignore[attr-defined]
    stamp = path.stat().st_mtime_ns + write_profiles.tick  # type: ignore[attr-defined]
    os.utime(path, ns=(stamp, stamp))
    return path


write_profiles.tick = 0  # type: ignore[attr-defined]


def redirect_to(target: str, status: int) -> Rule:
    """Make the rule of a server that sends its clients elsewhere."""
    return lambda seen: (status, {"Location": target}, b"")


def conflict_netrc(monkeypatch: pytest.MonkeyPatch, home: Path, url: str) -> dict[str, Any]:
    """Let ~/.netrc have an entry for the loopback host."""
    path = home / "netrc"
    path.write_text("machine 127.0.0.1 login other password other-password\n")
    path.chmod(0o600)
    monkeypatch.setenv("NETRC", str(path))
    return {}


def env_profile(url: str, extra: str = "") -> str:
    return f'[profile.prod]\nhosts = ["{url}"]\nsource = "env"\nenv = "TOKEN"\n{extra}'


def get(url: str, path: str = API, **kwargs: object) -> requests.Response:
    return http_request(MlflowHostCreds(url), path, "GET", **kwargs)
