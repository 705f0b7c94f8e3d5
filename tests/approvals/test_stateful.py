"""Users make any call in any order, and the log alone must prove every holder right.

The machine drives one store as random people: versions, requests, votes, changed files, edited
policies, a clock that jumps, calls that die half way. It knows nothing of how the store decides.
After each step it reads the audit log as an auditor would, and checks each application against the
votes, the policy of that moment and the bytes that lay there.

``MLFLOW_PACK_STATEFUL=500`` runs so many examples instead of a few.
"""

from __future__ import annotations

import collections
import contextlib
import hashlib
import itertools
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import hypothesis
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)
from mlflow.entities.model_registry import ModelVersionTag
from mlflow.exceptions import MlflowException

from mlflow_plugins_pack import errors
from mlflow_plugins_pack.approvals.background import drift, unbacked_tags
from mlflow_plugins_pack.approvals.domain import clock
from mlflow_plugins_pack.approvals.ledger import audit_log
from mlflow_plugins_pack.approvals.plugin import build_store
from mlflow_plugins_pack.approvals.policy import source as policy_source
from mlflow_plugins_pack.approvals.reports import listings
from tests.support.acting import signed_in

# Read here: tests run without any setting of ours.
EXAMPLES = int(os.environ.get("MLFLOW_PACK_STATEFUL", "12"))
HOUR = 3_600_000
NAME = "gov-a"
PEOPLE = ("alice", "bob", "carol", "dave", "erin", "zoe", None)
TARGETS = ("prod", "stage:Production")
COMMANDS = ("request", "approve", "approve", "approve", "reject", "cancel", "withdraw", "comment")
COMMANDS += ("break_glass",)
CONTENTS = ("one", "two", "three")

_LEADS = {1: ["bob", "carol", "dave"], 2: ["bob", "carol"], 3: ["dave", "erin"]}
_numbers = itertools.count(1)


def policy_text(members: int, count: int, extras: tuple[str, ...], apply: str) -> str:
    lines = [
        "version: 1",
        f"groups: {{leads: [{', '.join(_LEADS[members])}], ci: [alice], oncall: [zoe]}}",
        f"defaults: {{expires_after: 6h, approval_valid_for: 3h, apply: {apply}}}",
        "policies:",
        "  - name: prod",
        '    match: {models: ["gov-*"]}',
        "    targets: {aliases: [prod], stages: [Production]}",
        f"    approvals: [{{group: leads, count: {count}}}]",
        *(f"    {line}" for line in extras),
    ]
    return "\n".join(lines) + "\n"


EXTRAS = (
    "rollback: {approvals: 0, within: 8h}",
    'checks: [{tag: tests, equals: passed, writers: ["group:ci"], max_age: 5h}]',
    "break_glass: {group: oncall, expires_after: 4h}",
    "demote: {approvals: 1}",
    'freeze: [{cron: "* 3 * * *"}]',
)


def digest_of(content: str) -> str:
    """The formula of a digest over one file, written again."""
    sha = hashlib.sha256(content.encode()).hexdigest()
    return "sha256:" + hashlib.sha256(f"weights\0{len(content)}\0{sha}\n".encode()).hexdigest()


class PowerCutError(MlflowException):
    """The process dies here."""


class Registry(RuleBasedStateMachine):
    """One model under a policy, and everybody who can reach it."""

    came_to: ClassVar[collections.Counter[str]]
    empty: Path

    def __init__(self) -> None:
        super().__init__()
        self.stack = contextlib.ExitStack()
        self.folder = Path(self.stack.enter_context(tempfile.TemporaryDirectory()))
        shutil.copy(self.empty, self.folder / "mlflow.db")
        patch = self.stack.enter_context(pytest.MonkeyPatch.context())
        self.file = self.folder / "policy.yaml"
        self.policies: dict[str, dict[str, Any]] = {}
        self.write_policy(1, 1, (), "on_set")
        patch.setenv("MLFLOW_PACK_APPROVALS_POLICY", str(self.file))
        patch.setattr(policy_source, "_LOOK_AGAIN_SECONDS", 0.0)
        self.store = build_store(f"approval-sqlite:///{self.folder / 'mlflow.db'}")
        self.stack.callback(self.store.engine.dispose)
        self.now = 1_800_000_000_000
        patch.setattr(clock, "now_ms", lambda: self.now)
        self.is_acting = False
        self.cut_after: int | None = None
        real = audit_log.append

        def append(session: Any, **values: Any) -> None:
            real(session, **values)
            # An auditor's look is not cut off; it, too, may put an edited policy into force.
            if self.cut_after is not None and self.is_acting:
                self.cut_after -= 1
                if self.cut_after < 0:
                    raise PowerCutError("the power went out")

        patch.setattr(audit_log, "append", append)
        self.content: dict[int, str] = {}
        self.sources: dict[int, Path] = {}
        self.seen = 0
        self.log: list[dict[str, Any]] = []
        self.applied: list[dict[str, Any]] = []
        with signed_in("alice"):
            self.store.create_registered_model(NAME)

    def teardown(self) -> None:
        with self.store.engine.connect() as connection:
            assert audit_log.verify(connection).is_intact
        self.stack.close()

    # --- what people do -----------------------------------------------------------------------

    def act(self, user: str | None, call: Callable[[], Any]) -> None:
        """Do something that may be refused, but may not fail."""
        self.is_acting = True
        try:
            with signed_in(user):
                call()
        except errors.ApprovalError as refusal:
            if refusal.get_http_status_code() >= 500:
                raise
            self.came_to["refused"] += 1
        except PowerCutError:
            self.came_to["cut off"] += 1
        finally:
            self.is_acting, self.cut_after = False, None

    def versions(self) -> list[int]:
        return sorted(self.content)

    @initialize(
        content=st.sampled_from(CONTENTS), meanwhile=st.sampled_from(["nothing", "cut off"])
    )
    def begin(self, content: str, meanwhile: str) -> None:
        """Let each story have a version that was approved: by luck alone few would."""
        self.register("alice", content)
        self._go_the_right_way(1, "prod", "frank", meanwhile)

    @rule(user=st.sampled_from(PEOPLE), content=st.sampled_from(CONTENTS))
    def register(self, user: str | None, content: str) -> None:
        if len(self.sources) >= 5:
            return
        source = self.folder / f"files-{next(_numbers)}"
        source.mkdir()
        (source / "weights").write_text(content)
        with signed_in(user):
            number = int(self.store.create_model_version(NAME, str(source)).version)
        self.content[number], self.sources[number] = content, source

    @precondition(lambda self: self.content)
    @rule(data=st.data(), content=st.sampled_from(CONTENTS))
    def overwrite(self, data: st.DataObject, content: str) -> None:
        self.put(data.draw(st.sampled_from(self.versions())), content)

    def put(self, number: int, content: str) -> None:
        (self.sources[number] / "weights").write_text(content)
        self.content[number] = content

    @precondition(lambda self: self.content)
    @rule(
        data=st.data(),
        user=st.sampled_from(PEOPLE),
        aim=st.sampled_from(TARGETS),
        command=st.sampled_from(COMMANDS),
    )
    def say(self, data: st.DataObject, user: str | None, aim: str, command: str) -> None:
        number = data.draw(st.sampled_from(self.versions()))
        tag = ModelVersionTag(f"approvals.{command}", f"{aim}: because")
        self.act(user, lambda: self.store.set_model_version_tag(NAME, number, tag))

    @precondition(lambda self: self.content)
    @rule(data=st.data(), user=st.sampled_from(PEOPLE), value=st.sampled_from(["passed", "failed"]))
    def test(self, data: st.DataObject, user: str | None, value: str) -> None:
        number = data.draw(st.sampled_from(self.versions()))
        tag = ModelVersionTag("tests", value)
        self.act(user, lambda: self.store.set_model_version_tag(NAME, number, tag))

    @precondition(lambda self: self.content)
    @rule(
        data=st.data(),
        user=st.sampled_from(PEOPLE),
        alias=st.sampled_from(["prod", "prod", "Prod"]),
    )
    def set_alias(self, data: st.DataObject, user: str | None, alias: str) -> None:
        number = data.draw(st.sampled_from(self.versions()))
        self.act(user, lambda: self.store.set_registered_model_alias(NAME, alias, number))

    @rule(user=st.sampled_from(PEOPLE))
    def delete_alias(self, user: str | None) -> None:
        self.act(user, lambda: self.store.delete_registered_model_alias(NAME, "prod"))

    @precondition(lambda self: self.content)
    @rule(
        data=st.data(),
        user=st.sampled_from(PEOPLE),
        stage=st.sampled_from(["Production", "Staging", "Archived"]),
        archive=st.booleans(),
    )
    def move(self, data: st.DataObject, user: str | None, stage: str, archive: bool) -> None:
        number = data.draw(st.sampled_from(self.versions()))
        archive = archive and stage != "Archived"  # stock MLflow refuses that
        self.act(
            user,
            lambda: self.store.transition_model_version_stage(NAME, number, stage, archive),
        )

    @precondition(lambda self: self.content)
    @rule(data=st.data(), user=st.sampled_from(PEOPLE))
    def delete(self, data: st.DataObject, user: str | None) -> None:
        number = data.draw(st.sampled_from(self.versions()))
        self.act(user, lambda: self.store.delete_model_version(NAME, number))
        with contextlib.suppress(MlflowException):
            self.store.get_model_version(NAME, number)
            return
        del self.content[number]

    @precondition(lambda self: self.content)
    @rule(
        data=st.data(),
        aim=st.sampled_from(TARGETS),
        asker=st.sampled_from(["frank", "bob", "dave"]),
        meanwhile=st.sampled_from(
            ["nothing", "overwritten", "overwritten", "own", "stricter", "later", "cut off"]
        ),
    )
    def go_the_right_way(self, data: st.DataObject, aim: str, asker: str, meanwhile: str) -> None:
        """Random people rarely agree; these do, where the policy of the moment lets them."""
        number = data.draw(st.sampled_from(self.versions()))
        self._go_the_right_way(number, aim, asker, meanwhile)

    def _go_the_right_way(self, number: int, aim: str, asker: str, meanwhile: str) -> None:
        if meanwhile == "overwritten":
            self.write_policy(1, 1, (), "on_set")
        elif meanwhile == "own":
            asker = "bob"
            self.write_policy(2, 2, (), "on_set")  # everybody's vote is needed, the asker's too
        self.act("alice", lambda: self._tag(number, "tests", "passed"))
        self.act(asker, lambda: self._tag(number, "approvals.request", f"{aim}: please"))
        for user in ("bob", "carol", "dave", "erin"):
            self.act(user, lambda: self._tag(number, "approvals.approve", f"{aim}: yes"))
        if meanwhile == "overwritten":
            self.put(number, CONTENTS[CONTENTS.index(self.content[number]) - 1])
        elif meanwhile == "stricter":
            self.write_policy(2, 2, EXTRAS[1:2], "on_set")
        elif meanwhile == "later":
            self.now += 4 * HOUR
        elif meanwhile == "cut off":
            self.cut_after = 0
        if aim == "prod":
            self.act("frank", lambda: self.store.set_registered_model_alias(NAME, "prod", number))
        else:
            self.act(
                "frank",
                lambda: self.store.transition_model_version_stage(
                    NAME, number, "Production", False
                ),
            )

    def _tag(self, number: int, key: str, value: str) -> None:
        self.store.set_model_version_tag(NAME, number, ModelVersionTag(key, value))

    # --- what else happens --------------------------------------------------------------------

    @rule(
        members=st.sampled_from(sorted(_LEADS)),
        count=st.sampled_from([1, 1, 2]),
        extras=st.sets(st.sampled_from(EXTRAS)),
        apply=st.sampled_from(["on_set", "auto"]),
    )
    def edit_policy(self, members: int, count: int, extras: set[str], apply: str) -> None:
        self.write_policy(members, count, tuple(sorted(extras)), apply)

    def write_policy(self, members: int, count: int, extras: tuple[str, ...], apply: str) -> None:
        text = policy_text(members, count, extras, apply)
        self.file.write_text(text)
        sha = hashlib.sha256(text.encode()).hexdigest()
        self.policies[sha] = {"leads": _LEADS[members], "count": count, "extras": " ".join(extras)}

    @rule(hours=st.integers(1, 5))
    def wait(self, hours: int) -> None:
        self.now += hours * HOUR

    @rule(entries=st.integers(0, 4))
    def cut_the_power_soon(self, entries: int) -> None:
        """The next call dies after so many entries of the log, if it gets that far."""
        self.cut_after = entries

    # --- what an auditor checks ---------------------------------------------------------------

    @invariant()
    def every_application_is_right(self) -> None:
        for entry in self._new_entries():
            if entry["action"] == "APPLIED":
                self._check_application(entry)
                self.applied.append(entry)
                self.came_to[f"applied by {entry['after']['basis']['kind']}"] += 1
            self.log.append(entry)

    def _new_entries(self) -> Iterator[dict[str, Any]]:
        with self.store.engine.connect() as connection:
            rows = listings.audit_entries(connection, 100_000)
        for row in rows:
            if row["seq"] > self.seen:
                row["after"] = json.loads(row["after"] or "{}")
                yield row
        self.seen = rows[-1]["seq"] if rows else 0

    def _check_application(self, entry: dict[str, Any]) -> None:
        request_id, after = entry["request_id"], entry["after"]
        about = [e for e in self.log if e["request_id"] == request_id]
        assert all(e["action"] != "APPLIED" for e in about), "applied twice"
        (asked,) = [e for e in about if e["action"] == "REQUESTED"]
        assert (asked["version"], asked["target"]) == (entry["version"], entry["target"])
        assert entry["actor"] is not None
        policy = self.policies[entry["policy_sha256"]]
        if after["action"] == "promote":
            assert after["digest"] == asked["after"]["digest"]
            assert after["digest"] == digest_of(self.content[entry["version"]])
        if after["basis"]["kind"] == "rollback":
            assert "rollback" in policy["extras"]
            assert any(
                e["after"]["digest"] == after["digest"]
                and (e["version"], e["target"]) == (entry["version"], entry["target"])
                and entry["created_at"] - e["created_at"] >= 0
                for e in self.applied
            )
            return
        if after["basis"]["kind"] == "break_glass":
            assert "break_glass" in policy["extras"]
            assert entry["actor"] == "zoe"
            return
        assert after["basis"] == {"kind": "votes"}
        votes: set[str] = set()
        for e in about:
            if e["action"] == "VOTED" and e["after"]["verdict"] == "approve":
                votes.add(e["actor"])
            elif e["action"] in ("VOTED", "VOTE_WITHDRAWN"):
                votes.discard(e["actor"])
        votes -= {asked["actor"], self._creator(entry["version"])}
        needed = policy["count"]
        if after["action"] == "demote" and "demote" in policy["extras"]:
            needed = 1
        assert len(votes & set(policy["leads"])) >= needed
        if after["action"] == "promote" and "checks" in policy["extras"]:
            assert self._last_test(entry["version"]) == ("passed", "alice")
        assert not ("freeze" in policy["extras"] and (entry["created_at"] // HOUR) % 24 == 3)

    def _creator(self, number: int) -> str | None:
        with self.store.engine.connect() as connection:
            rows = connection.exec_driver_sql(
                "SELECT creator FROM mpp_version_creator WHERE version = ?", (number,)
            ).all()
        return rows[0][0] if rows else None

    def _last_test(self, number: int) -> tuple[str | None, str | None]:
        written = [e for e in self.log if e["action"] == "CHECK_TAG_SET" and e["version"] == number]
        return (written[-1]["after"]["value"], written[-1]["actor"]) if written else (None, None)

    @invariant()
    def whoever_holds_a_target_was_put_there_last(self) -> None:
        aliases = self.store.get_registered_model(NAME).aliases
        assert set(aliases) <= {"prod"}
        ours = [e for e in self.applied if e["target"] == "alias:prod"]
        last = ours[-1]["after"]["holder"] if ours else None
        assert (int(aliases["prod"]) if "prod" in aliases else None) == last
        stages = {
            int(v.version): v.current_stage
            for v in self.store.search_model_versions(f"name = '{NAME}'")
        }
        for number, stage in stages.items():
            moves = [
                e
                for e in self.applied
                if e["target"] == "stage:Production" and e["version"] == number
            ]
            if stage == "Production":
                assert moves[-1]["after"]["action"] == "promote"

    @invariant()
    def every_tag_is_backed_by_the_ledger(self) -> None:
        assert self.store._transactions.read(unbacked_tags.find) == []

    @invariant()
    def nothing_drifts_but_unreviewed_break_glass(self) -> None:
        policy = self.store.governance.policy()
        found = self.store._transactions.read(lambda s: drift.find(s, policy, self.now))
        broken = {
            e["version"] for e in self.applied if e["after"]["basis"]["kind"] == "break_glass"
        }
        assert {finding.version for finding in found} <= broken


@pytest.fixture
def machine(empty_database: Path) -> type[Registry]:
    Registry.empty = empty_database
    Registry.came_to = collections.Counter()
    return Registry


@pytest.mark.timeout(0 if "MLFLOW_PACK_STATEFUL" in os.environ else 300)
def test_anybody_does_anything(machine: type[Registry]) -> None:
    hypothesis.stateful.run_state_machine_as_test(  # type: ignore[attr-defined]
        machine,
        settings=hypothesis.settings(
            max_examples=EXAMPLES,
            stateful_step_count=30,
            deadline=None,
            # A sequence that fails is short enough to read; shrinking it takes minutes.
            phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
            derandomize=EXAMPLES == 12,
            suppress_health_check=list(hypothesis.HealthCheck),
        ),
    )
    # Else the stories would not show what they are for.
    came_to = machine.came_to
    assert min(came_to["refused"], came_to["cut off"], came_to["applied by votes"]) > 0, came_to
