"""One SQLite store under a policy that changes, and a clock that moves."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow.entities.model_registry import ModelVersionTag

from mlflow_plugins_pack import errors
from mlflow_plugins_pack.approvals.domain import clock
from mlflow_plugins_pack.approvals.ledger import audit_log
from mlflow_plugins_pack.approvals.plugin import build_store
from mlflow_plugins_pack.approvals.policy import source as policy_source
from tests.support.acting import signed_in

POLICY = """
version: 1
groups: {leads: [bob, carol], risk: [dave]}
defaults: {expires_after: 2h, approval_valid_for: 1h}
policies:
  - name: prod
    match: {models: ["gov-*"]}
    targets: {aliases: [prod], stages: [Production]}
    approvals: [{group: leads, count: 1}]
"""


HOUR = 3_600_000
_numbers = itertools.count(1)


class Bench:
    """A store, its policy file and its clock."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.file = folder / "policy.yaml"
        self.file.write_text(POLICY)
        monkeypatch.setenv("MLFLOW_PACK_APPROVALS_POLICY", str(self.file))
        monkeypatch.setattr(policy_source, "_LOOK_AGAIN_SECONDS", 0.0)
        self.uri = f"approval-sqlite:///{folder / 'mlflow.db'}"
        self.store = build_store(self.uri)
        self.now = 1_800_000_000_000
        monkeypatch.setattr(clock, "now_ms", lambda: self.now)

    def audit_is_intact(self) -> bool:
        with self.store.engine.connect() as connection:
            return audit_log.verify(connection).is_intact

    def edit(self, old: str, new: str) -> None:
        text = self.file.read_text()
        assert old in text
        self.file.write_text(text.replace(old, new))

    def version(self, name: str = "gov-a") -> int:
        source = self.folder / f"files-{next(_numbers)}"
        source.mkdir()
        (source / "weights").write_text("weights")
        with signed_in("alice"):
            if name not in [m.name for m in self.store.search_registered_models()]:
                self.store.create_registered_model(name)
            return int(self.store.create_model_version(name, str(source)).version)

    def say(self, user: str, command: str, version: int, value: str = "prod: ok") -> None:
        with signed_in(user):
            tag = ModelVersionTag(f"approvals.{command}", value)
            self.store.set_model_version_tag("gov-a", version, tag)

    def set_alias(self, version: int) -> None:
        with signed_in("erin"):
            self.store.set_registered_model_alias("gov-a", "prod", version)

    def holder(self) -> Any:
        return self.store.get_registered_model("gov-a").aliases.get("prod")

    def state(self, version: int, target: str = "prod") -> Any:
        return self.store.get_model_version("gov-a", version).tags.get(f"mlflow_approvals.{target}")


def refused(kind: type[errors.ApprovalError], call: Callable[[], None]) -> str:
    with pytest.raises(kind) as caught:
        call()
    return str(caught.value.message)
