"""An nginx of a test's own in front of MLflow and the review app."""

from __future__ import annotations

import contextlib
import getpass
from collections.abc import Iterator
from pathlib import Path

from tests.support import servers

_CONFIGURATION = """
user {user}; pid {folder}/pid; error_log {folder}/error.log; daemon off; worker_processes 1;
events {{ worker_connections 64; }}
http {{
  access_log off; default_type text/plain;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  server {{
    listen 127.0.0.1:{port}{tls};
    proxy_set_header Host $http_host;
    {settings}
    location / {{ proxy_pass {mlflow}; }}
    location /approvals/ {{ proxy_pass {review}; }}
  }}
}}
"""


@contextlib.contextmanager
def nginx(
    folder: Path,
    port: int,
    mlflow: str,
    review: str,
    settings: str,
    certificate: tuple[Path, Path] | None = None,
) -> Iterator[str]:
    """Start nginx and return its address.

    Args:
        folder: For its files.
        port: Where it listens.
        mlflow: The MLflow server's address.
        review: The review app's address.
        settings: Lines of its server's configuration.
        certificate: The files of a certificate and its key; None: without TLS.
    """
    program = servers.find_program("nginx", "nginx")
    tls = ""
    if certificate is not None:
        tls = " ssl"
        settings += f"\nssl_certificate {certificate[0]}; ssl_certificate_key {certificate[1]};"
    file = folder / "nginx.conf"
    file.write_text(
        _CONFIGURATION.format(
            folder=folder,
            user=getpass.getuser(),  # else its workers may not read the file of users
            port=port,
            tls=tls,
            settings=settings,
            mlflow=mlflow,
            review=review,
        )
    )
    with servers.running(
        [program, "-p", str(folder), "-c", str(file)],
        log=folder / "nginx.log",
        ready=lambda: servers.accepts_connections(port),
    ):
        yield f"{'https' if certificate else 'http'}://127.0.0.1:{port}"
