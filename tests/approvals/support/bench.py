"""A store with its users on any database; on SQLite with a clock that the test moves, too."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from mlflow.entities.model_registry import ModelVersionTag, RegisteredModelTag
from mlflow.exceptions import MlflowException
from mlflow.prompt.constants import IS_PROMPT_TAG_KEY, PROMPT_TEXT_TAG_KEY

from mlflow_plugins_pack import errors
from mlflow_plugins_pack.approvals.background import drift
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
    """Our store on one database, its users, and SQL that goes past it.

    Attributes:
        url: SQLAlchemy URL of the database.
        uri: Our store's URI of it.
        folder: For the files of versions.
    """

    def __init__(self, url: str, folder: Path) -> None:
        self.url, self.uri, self.folder = url, f"approval-{url}", folder
        self.store = build_store(self.uri)

    def version(self, name: str = "gov-a", *, prompt: bool = False) -> int:
        """Register a version with files of its own, of a model that need not exist."""
        if prompt:
            source, tags = "dummy-source", [ModelVersionTag(PROMPT_TEXT_TAG_KEY, "kind words")]
            flags = [RegisteredModelTag(IS_PROMPT_TAG_KEY, "true")]
        else:
            files = self.folder / f"files-{next(_numbers)}"
            files.mkdir()
            (files / "weights").write_text("weights")
            source, tags, flags = str(files), None, None
        with signed_in("alice"):
            with contextlib.suppress(MlflowException):
                self.store.create_registered_model(name, flags)
            return int(self.store.create_model_version(name, source, tags=tags).version)

    def say(
        self,
        user: str,
        command: str,
        version: int,
        value: str = "prod: ok",
        *,
        name: str = "gov-a",
    ) -> None:
        """Write a command as a tag."""
        with signed_in(user):
            tag = ModelVersionTag(f"approvals.{command}", value)
            self.store.set_model_version_tag(name, version, tag)

    def set_alias(self, version: int, *, name: str = "gov-a") -> None:
        with signed_in("erin"):
            self.store.set_registered_model_alias(name, "prod", version)

    def promote(self, name: str, version: int, target: str = "prod") -> None:
        """Request, approve and apply."""
        self.say("erin", "request", version, target, name=name)
        self.say("bob", "approve", version, target, name=name)
        if target == "prod":
            self.set_alias(version, name=name)
        else:
            with signed_in("erin"):
                self.store.transition_model_version_stage(name, version, "Production", False)

    def promoted(self, name: str, *, target: str = "prod", prompt: bool = False) -> int:
        """Return a new version that was approved and serves."""
        version = self.version(name, prompt=prompt)
        self.promote(name, version, target)
        return version

    def run(self, statement: str, **values: Any) -> None:
        """Run SQL past every store."""
        with self.store.engine.begin() as connection:
            connection.execute(sa.text(statement), values)

    def findings(self) -> list[drift.DriftFinding]:
        policy = self.store.governance.policy()
        found: list[drift.DriftFinding] = self.store._transactions.read(
            lambda s: drift.find(s, policy)
        )
        return found

    def close(self) -> None:
        self.store.engine.dispose()


class ClockBench(Bench):
    """On SQLite, under `POLICY` or what the test makes of it, with a clock that the test moves."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.file = folder / "policy.yaml"
        self.file.write_text(POLICY)
        monkeypatch.setenv("MLFLOW_PACK_APPROVALS_POLICY", str(self.file))
        monkeypatch.setattr(policy_source, "_LOOK_AGAIN_SECONDS", 0.0)
        super().__init__(f"sqlite:///{folder / 'mlflow.db'}", folder)
        self.now = 1_800_000_000_000
        monkeypatch.setattr(clock, "now_ms", lambda: self.now)

    def audit_is_intact(self) -> bool:
        with self.store.engine.connect() as connection:
            return audit_log.verify(connection).is_intact

    def edit(self, old: str, new: str) -> None:
        text = self.file.read_text()
        assert old in text
        self.file.write_text(text.replace(old, new))

    def holder(self) -> Any:
        return self.store.get_registered_model("gov-a").aliases.get("prod")

    def state(self, version: int, target: str = "prod") -> Any:
        return self.store.get_model_version("gov-a", version).tags.get(f"mlflow_approvals.{target}")


def refused(kind: type[errors.ApprovalError], call: Callable[[], None]) -> str:
    with pytest.raises(kind) as caught:
        call()
    return str(caught.value.message)
