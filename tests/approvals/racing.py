"""One of several processes that race on one registry: ``python -m tests.approvals.racing``.

Takes a database URL, a seed, a number of threads and of rounds; prints what every call came to as
JSON. It stands for a server's worker: it has a store of its own and threads that call it.
"""

from __future__ import annotations

import collections
import json
import random
import sys
import threading
import time
import traceback
from typing import Any

from mlflow.entities.model_registry import ModelVersionTag
from mlflow.exceptions import MlflowException

from mlflow_plugins_pack.approvals.plugin import build_store
from tests.approvals.acting import signed_in

MODELS = ("gov-a", "gov-b")
VERSIONS = (1, 2)
POLICY = """
version: 1
groups: {leads: [bob, carol], risk: [dave]}
policies:
  - name: prod
    match: {models: ["gov-*"]}
    targets: {aliases: [prod], stages: [Production]}
    approvals: [{group: leads}, {group: risk}]
    demote: {approvals: 0}
"""
# The more often a step is named, the more often it is taken.
STEPS = (
    *(("bob", "approve"), ("carol", "approve"), ("dave", "approve")) * 2,
    *(("erin", "request"), ("zoe", "request")),
    ("erin", "cancel"),
    ("carol", "reject"),
    *(("erin", "set"), ("zoe", "set")) * 3,
    ("erin", "unset"),
    ("zoe", "stage"),
    ("zoe", "unstage"),
)


class Racer:
    """Makes random calls and remembers what came of them."""

    def __init__(self, store: Any) -> None:
        self.store = store
        self.outcomes: collections.Counter[str] = collections.Counter()
        self.voted: set[tuple[str, str, int]] = set()
        self.broken: list[str] = []

    def call(self, user: str, step: str, name: str, version: int) -> None:
        store = self.store
        with signed_in(user):
            if step == "set":
                store.set_registered_model_alias(name, "prod", version)
            elif step == "unset":
                store.delete_registered_model_alias(name, "prod")
            elif step in ("stage", "unstage"):
                stage = "Production" if step == "stage" else "Archived"
                store.transition_model_version_stage(name, version, stage, step == "stage")
            else:
                tag = ModelVersionTag(f"approvals.{step}", "prod: race")
                store.set_model_version_tag(name, version, tag)

    def run(self, seed: int, rounds: int) -> None:
        luck = random.Random(seed)
        for _ in range(rounds):
            user, step = luck.choice(STEPS)
            name, version = luck.choice(MODELS), luck.choice(VERSIONS)
            try:
                self.call(user, step, name, version)
            except MlflowException as exc:
                if exc.get_http_status_code() >= 500:
                    self.broken.append(f"{user} {step} {name}/{version}: {exc.message}")
                self.outcomes[f"{step}: {exc.message.split(':')[0]}"] += 1
            except Exception:
                self.broken.append(traceback.format_exc())
            else:
                self.outcomes[f"{step}: done"] += 1
                if step == "approve":
                    self.voted.add((user, name, version))


def main(url: str, seed: int, threads: int, rounds: int, start_at: float) -> None:
    racer = Racer(build_store(f"approval-{url}"))
    workers = [
        threading.Thread(target=racer.run, args=(seed * 1000 + index, rounds))
        for index in range(threads)
    ]
    time.sleep(max(0.0, start_at - time.time()))  # all processes at once, as far as that goes
    began = time.monotonic()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    found = {
        "outcomes": racer.outcomes,
        "voted": sorted(racer.voted),
        "broken": racer.broken,
        "seconds": time.monotonic() - began,
    }
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:5]), float(sys.argv[5]))
