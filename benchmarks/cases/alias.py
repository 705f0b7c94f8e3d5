"""What enforcing approvals costs an alias that no policy protects, on each database."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from benchmarks.frame import PACK, STOCK, Case, Figure, Options, Sample, interleave, stopwatch

WRITES = 60
POLICY = """\
version: 1
identity: {sources: [basic_auth]}
groups: {leads: [bob]}
policies:
  - name: production
    match: {models: ["guarded-*"]}
    targets: {aliases: [prod]}
    approvals: [{group: leads, count: 1}]
"""


@contextlib.contextmanager
def _databases(kind: str, folder: Path) -> Iterator[tuple[str, str]]:
    """Give the stock URIs of two empty databases of one kind."""
    from tests import servers

    if kind == "sqlite":
        yield f"sqlite:///{folder / 'stock.db'}", f"sqlite:///{folder / 'pack.db'}"
        return
    start = {"postgresql": servers.postgresql, "mariadb": servers.mariadb}[kind]
    with start() as server:
        yield server.new_database(), server.new_database()


def _side(uri: str, name: str, count: int) -> Sample:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri.removeprefix("approval-"), registry_uri=uri)
    with stopwatch() as watch:
        for index in range(count):
            client.set_registered_model_alias("free", "prod", str(1 + index % 2))
    return {name: watch.wall_seconds / count * 1000}


def _run(kind: str, options: Options, blocks: int) -> list[Figure]:
    from mlflow import MlflowClient

    figure = Figure(f"alias write, {kind}", "ms", goal="+1 ms", is_overhead=True)
    with (
        tempfile.TemporaryDirectory(dir=options.work, prefix="benchmark-") as name,
        _databases(kind, Path(name)) as (stock_uri, plain_uri),
    ):
        policy = Path(name) / "policy.yaml"
        policy.write_text(POLICY)
        os.environ["MLFLOW_PACK_APPROVALS_POLICY"] = str(policy)
        uris = {STOCK: stock_uri, PACK: f"approval-{plain_uri}"}
        for uri in uris.values():
            client = MlflowClient(tracking_uri=uri.removeprefix("approval-"), registry_uri=uri)
            client.create_registered_model("free")
            for _ in range(2):
                client.create_model_version("free", source="s3://bucket/model")
        count = options.count(WRITES)
        sides = {side: partial(_side, uri, figure.name, count) for side, uri in uris.items()}
        for warm_up in sides.values():
            warm_up()
        return interleave(sides, [figure], blocks, options.progress)


CASES = tuple(
    Case(f"alias-{kind}", f"alias of an unprotected model, {kind}", 20, partial(_run, kind))
    for kind in ("sqlite", "postgresql", "mariadb")
)
