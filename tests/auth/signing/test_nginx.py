"""A stock server behind nginx that asks for a bearer token, while the token is rotated."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import mlflow
import psutil

from tests.auth.support.parts import Recorder
from tests.support import servers

CONFIGURATION = """
pid {folder}/pid; error_log {folder}/error.log; daemon off; worker_processes 1;
events {{ worker_connections 64; }}
http {{
  access_log {folder}/access.log; client_max_body_size 0; default_type text/plain;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  map $http_authorization $denied {{ default 1; "Bearer {token}" 0; }}
  server {{
    listen 127.0.0.1:{port};
    if ($denied) {{ return 401; }}
    location / {{ proxy_pass {upstream}; proxy_request_buffering off; proxy_http_version 1.1; }}
  }}
}}
"""


class Nginx:
    def __init__(self, program: str, folder: Path, upstream: str) -> None:
        self._program, self._folder, self._upstream = program, folder, upstream
        self.port = servers.free_port()
        self.url = f"http://127.0.0.1:{self.port}"

    @property
    def command(self) -> list[str]:
        return [self._program, "-p", str(self._folder), "-c", str(self._folder / "nginx.conf")]

    def accept(self, token: str) -> None:
        text = CONFIGURATION.format(
            folder=self._folder, token=token, port=self.port, upstream=self._upstream
        )
        (self._folder / "nginx.conf").write_text(text)

    def reload(self) -> None:
        """Make the configuration last written the only one that serves."""
        old = self._workers()
        subprocess.run([*self.command, "-s", "reload"], check=True, timeout=30)
        # Until they are gone the old workers accept connections as well as the new ones.
        servers.wait_until(lambda: old.isdisjoint(self._workers()), "the new configuration")

    def _workers(self) -> set[int]:
        master = psutil.Process(int((self._folder / "pid").read_text()))
        return {worker.pid for worker in master.children()}


@contextlib.contextmanager
def nginx(folder: Path, upstream: str, token: str) -> Iterator[Nginx]:
    proxy = Nginx(servers.find_program("nginx", "nginx"), folder, upstream)
    proxy.accept(token)
    with servers.running(
        proxy.command,
        log=folder / "log",
        ready=lambda: servers.accepts_connections(proxy.port),
    ):
        yield proxy


def status(url: str, token: str) -> int:
    import requests

    headers = {"Authorization": f"Bearer {token}"}
    return requests.get(url, headers=headers, timeout=10).status_code


def test_uploads_go_on_while_the_token_is_rotated(
    tmp_path: Path, profiles: Callable[[str], Path]
) -> None:
    token, data = tmp_path / "token", tmp_path / "data.bin"
    token.write_text("token-1\n")
    data.write_bytes(bytes(range(256)) * 4096)
    with (
        servers.mlflow_server(tmp_path / "server") as server,
        nginx(tmp_path, server.url, "token-1") as proxy,
    ):
        profiles(f'[profile.p]\nhosts = ["{proxy.url}"]\nsource = "file"\nfile = "{token}"\n')
        mlflow.set_tracking_uri(proxy.url)
        try:
            with mlflow.start_run() as run:
                mlflow.log_artifact(str(data), "first")
                proxy.accept("token-22")
                proxy.reload()
                assert status(proxy.url, "token-1") == 401
                token.write_text("token-22\n")
                mlflow.log_artifact(str(data), "second")
                mlflow.log_metric("m", 1)
            for folder in ("first", "second"):
                path = mlflow.artifacts.download_artifacts(
                    run_id=run.info.run_id, artifact_path=f"{folder}/data.bin"
                )
                assert Path(path).read_bytes() == data.read_bytes()
        finally:
            mlflow.set_tracking_uri(None)
    assert "token-" not in (tmp_path / "access.log").read_text()


def test_a_streamed_upload_is_rewound_when_nginx_answers_401(
    tmp_path: Path, profiles: Callable[[str], Path], named: Recorder
) -> None:
    """The command gives a stale token first, so that the first answer is nginx's 401."""
    data, count = tmp_path / "data.bin", tmp_path / "count"
    data.write_bytes(bytes(range(256)) * 4096)
    with nginx(tmp_path, named.url, "token-2") as proxy:
        profiles(
            f'[profile.p]\nhosts = ["{proxy.url}"]\nsource = "command"\n'
            f'command = ["sh", "-c", "echo x >> {count}; echo token-$(wc -l < {count})"]\n'
        )
        from mlflow.utils.rest_utils import MlflowHostCreds, http_request

        with data.open("rb") as file:
            answer = http_request(
                MlflowHostCreds(proxy.url),
                "/api/2.0/mlflow-artifacts/artifacts/x",
                "PUT",
                data=file,
            )
    assert answer.status_code == 200
    assert [response.status_code for response in answer.history] == [401]
    assert [seen.body for seen in named.seen] == [data.read_bytes()]
