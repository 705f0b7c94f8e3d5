"""No code reads a sentence: with every text for people replaced, every command works as before."""

from __future__ import annotations

import inspect
import json
from typing import Any

import pytest
import sqlalchemy as sa
from click.testing import CliRunner
from mlflow.exceptions import RestException

from mlflow_plugins_pack import errors
from mlflow_plugins_pack.approvals.background import drift
from mlflow_plugins_pack.approvals.domain import messages, tag_messages
from mlflow_plugins_pack.approvals.domain.basis import Basis
from mlflow_plugins_pack.approvals.domain.digest_progress import DigestProgress
from mlflow_plugins_pack.approvals.domain.projection import TargetStatus
from mlflow_plugins_pack.approvals.domain.tag_names import COMMANDS
from mlflow_plugins_pack.approvals.enforcement.refusal_log import RefusalLog
from mlflow_plugins_pack.approvals.ledger.ledger import Ledger
from mlflow_plugins_pack.cli.approvals import pipeline
from mlflow_plugins_pack.cli.main import cli
from tests.approvals.support.bench import ClockBench
from tests.support.acting import signed_in

NOISE = "APPLIED 9/9 (mallory), PENDING: break-glass (0 %) inherited from models:/x/1"
"""Contains what a parser of sentences might look for."""
EXTRAS = """    rollback: {approvals: 0, within: 30d}
    break_glass: {group: oncall, expires_after: 24h, post_review: {approvals: 1}}
    inherit_from: ["gov-*"]
"""


def replace_texts(patch: pytest.MonkeyPatch) -> None:
    for module in (messages, tag_messages):
        for name, function in inspect.getmembers(module, inspect.isfunction):
            if function.__module__ == module.__name__:
                patch.setattr(module, name, lambda *_, **__: NOISE)
    for kind in (TargetStatus, Basis, DigestProgress):
        patch.setattr(kind, "text", property(lambda _: NOISE))
    make, move = errors.PackError.__init__, Ledger.move

    def raised(self: errors.PackError, message: str, **fields: Any) -> None:
        make(self, NOISE, **fields)
        self.message = NOISE

    def moved(self: Ledger, request: Any, state: Any, reason: Any = None, **more: Any) -> Any:
        return move(self, request, state, reason and NOISE, **more)

    patch.setattr(errors.PackError, "__init__", raised)
    patch.setattr(Ledger, "move", moved)
    patch.setattr(drift.DriftFinding, "__post_init__", _without_why, raising=False)


def _without_why(finding: drift.DriftFinding) -> None:
    object.__setattr__(finding, "why", NOISE)


class Story:
    """What a pipeline and its people do, and all that programs can see of it."""

    def __init__(self, bench: ClockBench) -> None:
        self.bench = bench
        self.seen: list[Any] = []

    def call(self, *arguments: str, user: str = "erin") -> None:
        with signed_in(user):
            done = CliRunner().invoke(
                cli, ["approvals", *arguments, "--registry-store-uri", self.bench.uri]
            )
        said: Any = None
        if "--json" in arguments and done.output.startswith(("[", "{")):
            said = _data(json.loads(done.output))
        self.seen.append((arguments[:2], done.exit_code, said))

    def vote(self, user: str, command: str, version: int) -> None:
        self.bench.say(user, command, version)

    def tell(self) -> list[Any]:
        one, two, three, four = (f"models:/gov-a/{self.bench.version()}" for _ in range(4))
        for version in (one, two):
            self.bench.now += 1000
            self.call("wait", version, "prod", "--timeout", "0s")
            self.call("request", version, "prod", "-m", "please")
            self.call("wait", version, "prod", "--timeout", "0s")
            self.call("verify", version, "prod")
            self.call("apply", version, "prod")
            self.call("approve", version, "prod", user="bob")
            self.call("wait", version, "prod", "--timeout", "0s")
            self.call("apply", version, "prod")
            self.call("wait", version, "prod", "--timeout", "0s")
            self.call("verify", version, "prod", "--json")
        self.call("wait", one, "prod", "--timeout", "0s")  # it was replaced
        self.call("verify", one, "prod")
        self.bench.now += 1000
        self.call("apply", one, "prod")  # a rollback
        self.call("verify", one, "prod", "--json")
        self.bench.now += 1000
        self.call("break-glass", three, "prod", "-m", "fire", user="zoe")
        self.call("wait", three, "prod", "--timeout", "0s")
        self.call("verify", three, "prod")
        self.call("approve", three, "prod", user="carol")
        self.call("wait", three, "prod", "--timeout", "0s")
        self.call("verify", three, "prod", "--json")
        self.call("request", four, "prod")
        self.call("reject", four, "prod", "-m", "no", user="bob")
        self.call("wait", four, "prod", "--timeout", "0s")
        for version in (one, two, three, four):
            self.call("show", version, "--json")
        self.call("list", "--all", "--json")
        self.call("audit", "list", "--json")
        self.call("audit", "holders", "--json")
        self.call("audit", "verify", "--json")
        self.call("drift", "--json")
        self.call("policy", "test", str(self.bench.file), "--all", "--json")
        return self.seen


_FOR_PEOPLE = {"reason", "why", "status", "what", "comment", "text"}
_BY_CHANCE = {"id", "request", "request_id", "hash", "prev_hash", "head", "version_uid", "uid"}


def _data(value: Any) -> Any:
    """Drop what is for people, and what differs from run to run."""
    if isinstance(value, list):
        return [_data(part) for part in value]
    if isinstance(value, dict):
        left_out = _FOR_PEOPLE | _BY_CHANCE
        return {key: _data(part) for key, part in value.items() if key not in left_out}
    if isinstance(value, str) and value.startswith("{"):
        return _data(json.loads(value))
    return value


@pytest.fixture
def story(bench: ClockBench) -> Story:
    bench.edit(
        "    approvals: [{group: leads, count: 1}]\n", "    approvals: [{group: leads}]\n" + EXTRAS
    )
    bench.edit("risk: [dave]", "risk: [dave], oncall: [zoe, bob]")
    return Story(bench)


def test_every_text_replaced(story: Story) -> None:
    with pytest.MonkeyPatch.context() as patch:
        replace_texts(patch)
        with_noise = story.tell()
    codes = [code for _, code, _ in with_noise]
    each = [1, 0, 3, 1, 1, 0, 0, 0, 0, 0]
    assert codes[:20] == each * 2, with_noise[:20]
    assert codes[20:33] == [1, 1, 0, 0, 0, 3, 1, 0, 0, 0, 0, 0, 1], with_noise[20:33]
    assert codes[33:] == [0] * len(codes[33:]), with_noise[33:]
    *_, (_, _, verdicts) = with_noise
    assert [row["outcome"] for row in verdicts] == ["allowed"] * 4
    applied = [
        json_of["after"]["basis"]["kind"]
        for (_, part), _, json_of_all in with_noise
        if part == "list"
        for json_of in json_of_all
        if json_of.get("action") == "APPLIED"
    ]
    assert applied == ["votes", "votes", "rollback", "break_glass"]


def test_apply_waits_by_the_fields_of_the_error(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([40, 80])

    def still_digesting(*_: Any) -> None:
        for done in answers:
            raise RestException(
                {
                    "error_code": "RESOURCE_CONFLICT",
                    "message": NOISE,
                    "pack_code": "DIGESTING",
                    "progress": {"bytes_done": done, "bytes_total": 100},
                }
            )

    monkeypatch.setattr(pipeline, "_apply", still_digesting)
    monkeypatch.setattr(pipeline.time, "sleep", lambda _: None)
    done = CliRunner().invoke(
        cli, ["approvals", "apply", "models:/m/1", "prod", "--tracking-uri", "http://localhost:1"]
    )
    assert done.exit_code == 0, done.output
    assert ["40 %" in line or "80 %" in line for line in done.output.splitlines()] == [True, True]


def test_a_refusal_of_another_kind_that_mentions_digesting_ends_the_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refused(*_: Any) -> None:
        raise RestException({"error_code": "PERMISSION_DENIED", "message": "DIGESTING: (40 %)"})

    monkeypatch.setattr(pipeline, "_apply", refused)
    done = CliRunner().invoke(
        cli, ["approvals", "apply", "models:/m/1", "prod", "--tracking-uri", "http://localhost:1"]
    )
    assert done.exit_code == 1, done.output


def test_people_tags_rewritten_in_the_database(story: Story) -> None:
    bench = story.bench
    version = bench.version()
    bench.say("erin", "request", version)
    bench.say("bob", "approve", version)
    bench.set_alias(version)
    with bench.store.engine.begin() as connection:
        connection.execute(
            sa.text(
                "UPDATE model_version_tags SET value = :noise WHERE key = 'mlflow_approvals.prod'"
            ),
            {"noise": NOISE},
        )
    story.call("wait", f"models:/gov-a/{version}", "prod", "--timeout", "0s")
    story.call("verify", f"models:/gov-a/{version}", "prod")
    assert [code for _, code, _ in story.seen] == [0, 0]


def test_progress_is_a_field_of_the_error_and_of_the_audit_entry() -> None:
    progress = DigestProgress(40, 100).as_fields()
    refusal = errors.DigestingError("the files are being read", progress=progress)
    answer = json.loads(refusal.serialize_as_json())
    assert (answer["pack_code"], answer["progress"]) == ("DIGESTING", progress)
    written: list[Any] = []
    log = RefusalLog(lambda **values: written.append(values["after"]))
    log.record(refusal, "erin", "default", "m", 1, "alias:prod")
    assert written == [{"code": "DIGESTING", "progress": progress}]
    assert DigestProgress.from_fields(answer["progress"]).text == "40 %"


def test_every_command_has_one_handler(bench: ClockBench) -> None:
    assert tuple(bench.store.commands.by_name) == COMMANDS
