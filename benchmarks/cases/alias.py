"""What enforcing approvals costs an alias, free or protected and approved, on each database."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from mlflow.entities.model_registry import ModelVersionTag

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
def databases(kind: str, folder: Path) -> Iterator[tuple[str, str]]:
    """Return the stock URIs of two empty databases of one kind."""
    from tests.support import servers

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
        databases(kind, Path(name)) as (stock_uri, plain_uri),
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


class _Guarded:
    """A store and a model whose prod alias moves between two versions, each move approved."""

    def __init__(self, uri: str, folder: Path) -> None:
        from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore

        from mlflow_plugins_pack.approvals.plugin import build_store

        self.is_ours = uri.startswith("approval-")
        self.store = build_store(uri) if self.is_ours else SqlAlchemyStore(uri)
        self.store.create_registered_model("guarded-a")
        for version in ("1", "2"):
            source = folder / f"{'pack' if self.is_ours else 'stock'}-{version}"
            source.mkdir()
            (source / "weights").write_text(version)
            self.store.create_model_version("guarded-a", str(source))
        self.next = 1

    def move(self, name: str, count: int) -> Sample:
        """Time the moves alone: what people do before them takes them hours."""
        from tests.support.acting import signed_in

        seconds = 0.0
        for _ in range(count):
            if self.is_ours:
                for user, command in (("erin", "request"), ("bob", "approve")):
                    with signed_in(user):
                        tag = ModelVersionTag(f"approvals.{command}", "prod: fine")
                        self.store.set_model_version_tag("guarded-a", self.next, tag)
            with signed_in("erin"), stopwatch() as watch:
                self.store.set_registered_model_alias("guarded-a", "prod", self.next)
            seconds += watch.wall_seconds
            self.next = 3 - self.next
        return {name: seconds / count * 1000}


def _run_protected(kind: str, guards: bool, options: Options, blocks: int) -> list[Figure]:
    figure = Figure(f"approved alias write, {kind}", "ms", goal=">= 0.5x")
    with (
        tempfile.TemporaryDirectory(dir=options.work, prefix="benchmark-") as name,
        databases(kind, Path(name)) as (stock_uri, plain_uri),
    ):
        policy = Path(name) / "policy.yaml"
        policy.write_text(POLICY)
        os.environ["MLFLOW_PACK_APPROVALS_POLICY"] = str(policy)
        stock = _Guarded(stock_uri, Path(name))
        pack = _Guarded(f"approval-{plain_uri}", Path(name))
        if guards:
            from mlflow_plugins_pack.approvals.guards.install import install
            from mlflow_plugins_pack.approvals.policy.source import read_policy

            figure.name += ", guards on"
            install(pack.store.engine, read_policy(policy), 1)
        count = options.count(WRITES // 2)
        sides = {
            side: partial(guarded.move, figure.name, count)
            for side, guarded in ((STOCK, stock), (PACK, pack))
        }
        for warm_up in sides.values():
            warm_up()
        return interleave(sides, [figure], blocks, options.progress)


_KINDS = ("sqlite", "postgresql", "mariadb")
CASES = (
    *(
        Case(f"alias-{kind}", f"alias of an unprotected model, {kind}", 20, partial(_run, kind))
        for kind in _KINDS
    ),
    *(
        Case(
            f"approved-{kind}",
            f"protected alias with an approval that is there, {kind}",
            12,
            partial(_run_protected, kind, False),
        )
        for kind in _KINDS
    ),
    *(
        Case(
            f"guarded-{kind}",
            f"the same with database guards, {kind}",
            12,
            partial(_run_protected, kind, True),
        )
        for kind in _KINDS
    ),
)
