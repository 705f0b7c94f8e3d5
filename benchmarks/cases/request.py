"""What signing a request in costs the client: processor time per stock request.

Three processes send the same stock request to a server that answers at once: stock, and the pack
with a profile for that server. Processor time, since the network's share would hide the rest.
"""

from __future__ import annotations

import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from benchmarks.frame import PACK, STOCK, Case, Figure, Options, Sample, interleave, stopwatch

REQUESTS = 300


@contextmanager
def _answering_server() -> Iterator[str]:
    """Run a server that answers every request as an MLflow server answers about an experiment."""
    answer = b'{"experiment": {"experiment_id": "1", "name": "e", "lifecycle_stage": "active"}}'

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            body = b"3.17.2" if self.path.endswith("/version") else answer
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n"
            self.wfile.write(head.encode() + b"Content-Type: application/json\r\n\r\n" + body)

        do_POST = do_GET  # noqa: N815 - the base class's name

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def _run(options: Options, blocks: int) -> list[Figure]:
    from benchmarks.worker import worker

    count = str(options.count(REQUESTS))
    with _answering_server() as url, tempfile.TemporaryDirectory() as name:
        config = Path(name) / "auth.toml"
        config.write_text(
            f'[profile.benchmark]\nhosts = ["{url}"]\nsource = "env"\nenv = "BENCHMARK_TOKEN"\n'
        )
        config.chmod(0o600)
        with (
            worker("benchmarks.cases.request", url, count, pack=False) as stock,
            worker(
                "benchmarks.cases.request",
                url,
                count,
                pack=True,
                MLFLOW_PACK_AUTH_CONFIG=str(config),
                BENCHMARK_TOKEN="not-a-secret",
                # It looks at each request too, and has a case of its own.
                MLFLOW_PACK_LINEAGE_ENABLED="false",
            ) as pack,
        ):
            return interleave(
                {STOCK: stock, PACK: pack},
                [Figure("processor time per request", "ms", goal="+0.15 ms", is_overhead=True)],
                blocks,
                options.progress,
            )


CASE = Case("request", "client processor time per request, signed in by a profile", 30, _run)


def main() -> None:
    """Be a worker: send requests, measure."""
    import mlflow

    from benchmarks.worker import serve

    url, count = sys.argv[1], int(sys.argv[2])
    client = mlflow.MlflowClient(tracking_uri=url)
    client.get_experiment("1")

    def measure() -> Sample:
        with stopwatch() as watch:
            for _ in range(count):
                client.get_experiment("1")
        return {"processor time per request": watch.cpu_seconds / count * 1000}

    serve(measure)


if __name__ == "__main__":
    main()
