"""What a client of a server waits for when it moves a protected alias whose approval is there.

Two real ``mlflow server`` with basic auth, stock and ours, each on a database of its own of the
same kind, and a stock client. What people do before the move, asking and voting, is outside the
clock.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersionTag
from mlflow.store.model_registry.rest_store import RestStore
from mlflow.utils.rest_utils import MlflowHostCreds

from benchmarks.cases.alias import POLICY, databases
from benchmarks.frame import PACK, STOCK, Case, Figure, Options, Sample, interleave, stopwatch
from tests.support import servers

WRITES = 30
PEOPLE = ("alice", "bob", "erin")


class _Server:
    """A server and a model whose prod alias moves between two versions, as its people see it."""

    def __init__(self, server: servers.MlflowServer, *, is_ours: bool) -> None:
        self._stores = {user: _store(server.url, user) for user in PEOPLE}
        self._is_ours = is_ours
        self._next = 1
        with servers.credentials("alice", servers.PASSWORD):
            client = MlflowClient(server.url, server.url)
            client.create_registered_model("guarded-a")
            for version in ("1", "2"):
                run = client.create_run("0")
                client.log_text(run.info.run_id, version, "model/weights")
                source = f"{run.info.artifact_uri}/model"
                client.create_model_version("guarded-a", source, run.info.run_id)

    def move(self, name: str, count: int) -> Sample:
        """Time the moves alone."""
        seconds = 0.0
        for _ in range(count):
            if self._is_ours:
                for user, command in (("erin", "request"), ("bob", "approve")):
                    tag = ModelVersionTag(f"approvals.{command}", "prod: fine")
                    self._stores[user].set_model_version_tag("guarded-a", str(self._next), tag)
            with stopwatch() as watch:
                self._stores["erin"].set_registered_model_alias(
                    "guarded-a", "prod", str(self._next)
                )
            seconds += watch.wall_seconds
            self._next = 3 - self._next
        return {name: seconds / count * 1000}


def _store(url: str, user: str) -> RestStore:
    # What the stock client talks through; unlike it, each has credentials of its own.
    creds = MlflowHostCreds(url, username=user, password=servers.PASSWORD)
    return RestStore(lambda: creds)


def _run(kind: str, options: Options, blocks: int) -> list[Figure]:
    figure = Figure(f"approved alias write over HTTP, {kind}", "ms")
    with contextlib.ExitStack() as stack:
        folder = Path(
            stack.enter_context(tempfile.TemporaryDirectory(dir=options.work, prefix="benchmark-"))
        )
        uris = dict(zip((STOCK, PACK), stack.enter_context(databases(kind, folder)), strict=True))
        (folder / "policy.yaml").write_text(POLICY)
        count = options.count(WRITES)
        sides: dict[str, Callable[[], Sample]] = {}
        for side, uri in uris.items():
            is_ours = side == PACK
            server = stack.enter_context(
                servers.mlflow_server(
                    folder / side,
                    backend=uri,
                    registry=f"approval-{uri}" if is_ours else None,
                    app_name="basic-auth",
                    MLFLOW_PACK_APPROVALS_POLICY=str(folder / "policy.yaml"),
                )
            )
            for user in PEOPLE:
                servers.create_user(server, user, servers.PASSWORD)
            # Hashing passwords takes a server longer than all else, and would hide the rest.
            servers.make_sign_in_cheap(folder / side)
            sides[side] = partial(_Server(server, is_ours=is_ours).move, figure.name, count)
        for warm_up in sides.values():
            warm_up()
        return interleave(sides, [figure], blocks, options.progress)


CASES = tuple(
    Case(
        f"approved-http-{kind}",
        f"the same through a server with basic auth, {kind}",
        12,
        partial(_run, kind),
    )
    for kind in ("sqlite", "postgresql", "mariadb")
)
