"""Every attempt to change what production serves without approval, through every interface.

The interfaces: a stock client over REST, MLflow's own pages (``/ajax-api``), the prompt API, a
client that opens the database itself with an ``approval-`` URI, as job processes do, and a stock
client of the database, which meets the guards. Each attack is made on a model of its own, on three
databases, with workspaces and without; it must be refused with the right code and words, must
change nothing, and must be in the audit log. docs/approvals-attacks.md lists the tests of each
attempt and interface.

Last, many clients race at several workers of the server. ``RACE_SIZE=4x16x40 pytest -s -k race``
has 4 workers, 16 clients for each, 40 calls from each, and prints what they came to.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from mlflow.entities.model_registry import ModelVersionTag

from mlflow_plugins_pack.approvals.background import unbacked_tags
from mlflow_plugins_pack.approvals.domain.projection import (
    HolderApproval,
    TargetState,
    TargetStatus,
)
from mlflow_plugins_pack.approvals.ledger import audit_log
from mlflow_plugins_pack.approvals.plugin import build_store
from mlflow_plugins_pack.cli.main import cli
from mlflow_plugins_pack.errors import ApprovalRequiredError
from tests.approvals.support import racing
from tests.approvals.support.attacks import (
    ATTACKS,
    REQUIRED,
    TEXT,
    Attack,
    a_holder,
    a_requested_prompt,
    alias_call,
    requested,
)
from tests.approvals.support.databases import DATABASES
from tests.approvals.support.sites import (
    CLIENTS,
    NO_WARNING,
    POLICY,
    ROUNDS,
    WORKERS,
    Site,
    by_client,
    new_name,
)
from tests.support.acting import signed_in

pytestmark = NO_WARNING
without_workspaces = pytest.mark.parametrize("running_site", DATABASES, indirect=True)
"""Of a test whose outcome workspaces cannot change; all others run on all of `SITES`."""


def _named(value: Any, name: str) -> Any:
    if isinstance(value, str):
        return value.replace("NAME", name)
    if isinstance(value, dict):
        return {key: _named(part, name) for key, part in value.items()}
    return tuple(_named(part, name) for part in value) if isinstance(value, tuple) else value


STATUS = {"IDENTITY_REQUIRED": 401, "SOURCE_NOT_PINNED": 409, "SOURCE_NOT_ALLOWED": 409}


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda a: f"row {a.row}: {a.what}")
def test_attack(site: Site, attack: Attack) -> None:
    name = new_name(attack.prefix)
    attack.prepare(site, name)
    before = site.snapshot(name)
    answers: dict[str, tuple[int, str]] = {}
    if attack.prompt_api is None:
        call = _named(attack.client, name)
        answers["client"] = by_client(site, site.client, attack.user, call)
    if attack.prompt_api is not None:
        # The stock client's other methods do not see prompts.
        call = _named(attack.prompt_api, name)
        answers["prompt API"] = by_client(site, site.client, attack.user, call)
    answers["direct"] = by_client(site, site.direct, None, call)
    said = site.ajax(attack.user, *_named(attack.ajax, name))
    answers["ajax"] = said.status_code, said.json()["message"]
    assert site.snapshot(name) == before
    for interface, (status, text) in answers.items():
        code = attack.unsigned if interface == "direct" else attack.code
        assert f"{code}: " in text, (interface, text)
        assert status == STATUS.get(code, 403), (interface, text)
        if code == attack.code:
            assert attack.says.replace("NAME", name) in text, (interface, text)
        assert "changed" in text, (interface, text)
    refused = {
        (row["actor"], row["after"])
        for row in site.audited(name)
        if row["action"] in ("REFUSED", "REQUESTED")
    }
    assert (None, f'{{"code":"{attack.unsigned}"}}') in refused
    filed = [row for row in site.audited(name) if row["actor"] == attack.user]
    assert any(row["action"] in ("REFUSED", "REQUESTED") for row in filed), refused
    _attack_the_database(site, attack, name, call)


def _attack_the_database(site: Site, attack: Attack, name: str, call: Any) -> None:
    """Make a call as a stock client of the database: refused, or worth nothing."""
    before = site.snapshot(name)
    method, *arguments = call
    # As a number: with psycopg 3 stock fails on a text where it archives the others.
    arguments = [int(a) if isinstance(a, str) and a.isdigit() else a for a in arguments]
    if attack.database == "refused":
        status, text = by_client(site, site.raw, None, (method, *arguments))
        # Stock itself cannot look for letters beyond the database's own in MariaDB.
        cannot = "Illegal mix of collations" in text and attack.what == "full-width alias"
        assert cannot or (status, "mpp_guard: " in text) == (400, True), text
        assert site.snapshot(name) == before
        return
    getattr(site.raw, method)(*arguments)
    newest = str(max(before["versions"]))
    said = site.ajax("erin", *_named(alias_call("prod", newest)["ajax"], name))
    codes = (REQUIRED, "STALE_APPROVAL", attack.code)
    assert said.status_code in (403, 409), said.text
    assert any(f"{code}: " in said.text for code in codes), said.text
    after = site.snapshot(name)
    assert after["aliases"] == before["aliases"]
    assert _stages(after) == _stages(before)


def _stages(snapshot: dict[str, Any]) -> dict[int, str]:
    return {number: version[0] for number, version in snapshot["versions"].items()}


# --- attempts that are more than one call -----------------------------------------------------


def test_rows_9_and_10_copies_and_new_versions_are_unapproved(site: Site) -> None:
    name, other = new_name(), new_name()
    a_holder(site, name)
    with site.as_user("erin"):
        copy = site.client.copy_model_version(f"models:/{name}/1", other)
    assert copy.tags == {}
    source = site.stock.get_model_version(name, 1).source
    with signed_in("erin"):
        same = site.store.create_model_version(
            other, source, tags=[ModelVersionTag("mlflow_approvals.prod", "APPLIED 2/2")]
        )
    assert same.tags == {}
    for version in ("1", same.version):
        call = ("set_registered_model_alias", other, "prod", version)
        _, text = by_client(site, site.client, "erin", call)
        assert f"Version {version} has 0 of 2 approvals" in text
    assert site.snapshot(other)["aliases"] == {}


def test_row_7_a_model_made_again_starts_with_nothing(site: Site) -> None:
    name = new_name()
    site.version(name)
    site.approve(name, 1, "prod")
    with site.as_user("erin"):
        site.client.delete_registered_model(name)
    site.version(name)
    _, text = by_client(
        site, site.client, "erin", ("set_registered_model_alias", name, "prod", "1")
    )
    assert "Version 1 has 0 of 2 approvals" in text
    actions = [row["action"] for row in site.audited(name)]
    assert actions[-3:] == ["STALE", "MODEL_DELETED", "REQUESTED"]


def test_row_11_a_check_tag_changed_after_approval_makes_it_stale(site: Site) -> None:
    name = new_name()
    site.version(name)
    site.approve(name, 1, "prod")
    with site.as_user("svc-ci"):
        site.client.set_model_version_tag(name, "1", "tests", "failed")
        site.client.set_model_version_tag(name, "1", "tests", "passed")
    _, text = by_client(
        site, site.client, "erin", ("set_registered_model_alias", name, "prod", "1")
    )
    assert "Version 1 has 0 of 2 approvals" in text
    assert "STALE" in [row["action"] for row in site.audited(name)]


def test_row_12_text_rewritten_behind_the_registry_is_stale(site: Site) -> None:
    name = new_name("say")
    a_requested_prompt(site, name)
    site.approve(name, 1, "prod")
    site.raw.set_prompt_version_tag(name, 1, TEXT, "Be evil.")
    _, text = by_client(site, site.client, "erin", ("set_prompt_alias", name, "prod", 1))
    assert "STALE_APPROVAL: " in text
    assert "STALE" in [row["action"] for row in site.audited(name)]
    assert site.snapshot(name)["aliases"] == {}


def test_row_14_descriptions_are_free(site: Site) -> None:
    name = new_name()
    a_holder(site, name)
    with site.as_user("erin"):
        site.client.update_model_version(name, "1", "what it does")
        site.client.update_registered_model(name, "what it is for")
        site.client.set_model_version_tag(name, "1", "owner", "erin")
    assert site.stock.get_model_version(name, 1).description == "what it does"


def test_row_5_archiving_is_approved_and_recorded_as_such(site: Site) -> None:
    name = new_name()
    a_holder(site, name)
    call = ("transition_model_version_stage", name, "2", "Production", True)
    by_client(site, site.client, "erin", call)
    site.tag("svc-ci", name, 2, "tests", "passed")
    for user in ("bob", "dave"):
        site.say(user, "approve", name, 2, "stage:Production: fine")
    with site.as_user("erin"):
        getattr(site.client, call[0])(*call[1:])
    versions = site.snapshot(name)["versions"]
    assert [versions[number][0] for number in (1, 2)] == ["Archived", "Production"]
    (moved,) = [r for r in site.audited(name) if r["action"] == "SYSTEM_TRANSITION"]
    assert (moved["version"], moved["target"]) == (1, "stage:Production")


def test_row_25_no_event_without_the_act(site: Site) -> None:
    """What stock webhooks report is fired after the store returned, and it did not."""
    name = new_name()
    a_holder(site, name)
    said = site.ajax("erin", *_named(alias_call("prod")["ajax"], name))
    assert said.status_code == 403
    assert said.json()["error_code"] == "PERMISSION_DENIED"


# --- attempts of the wild, through every interface that has them ---------------------------------


def by_command(site: Site, user: str, *arguments: str) -> tuple[int, str]:
    """Run a command of `mlflow-pack approvals` against the server."""
    with site.as_user(user):
        done = CliRunner().invoke(cli, ["approvals", *arguments, "--tracking-uri", site.server.url])
    return done.exit_code, done.output + str(done.exception or "")


def test_row_16_files_changed_after_the_approval_are_not_applied(site: Site) -> None:
    """Few files, and so many that they are read in a thread: no earlier digest counts."""
    for count in (1, 40):
        name = new_name()
        site.version(name)
        source = Path(site.stock.get_model_version(name, 1).source)
        for number in range(count):
            (source / f"part-{number}").write_text("approved")
        site.approve(name, 1, "prod")
        (source / "part-0").write_text("evil")
        call = ("set_registered_model_alias", name, "prod", "1")
        _, text = by_client(site, site.client, "erin", call)
        assert "STALE_APPROVAL: " in text
        assert site.snapshot(name)["aliases"] == {}


def test_row_35_a_forged_approval_is_shown_by_no_interface(site: Site) -> None:
    name = new_name()
    requested(site, name)
    status = TargetStatus(TargetState.APPLIED, request_id="f" * 32, votes=2, votes_needed=2)
    forged = {
        "mlflow_approvals.prod": status.text,
        "mlflow_approvals.prod.request": status.to_json(),
        "mlflow_approvals.prod.approval": HolderApproval("f" * 32, "sha256:0").to_json(),
    }
    for key, value in forged.items():
        site.raw.set_model_version_tag(name, "1", key, value)
    with site.as_user("erin"):
        seen = [site.client.get_model_version(name, "1")]
        seen += site.client.search_model_versions(f"name = '{name}'")
    with signed_in("erin"):
        seen += [site.store.get_model_version(name, 1), *site.store.get_latest_versions(name)]
    said = site.ajax("erin", "GET", f"model-versions/get?name={name}&version=1", {})
    assert "APPLIED" not in said.text
    assert not any(key.startswith("mlflow_approvals") for found in seen for key in found.tags)
    for command in ("wait", "verify"):
        more = ["--timeout", "0s"] if command == "wait" else []
        assert by_command(site, "erin", command, f"models:/{name}/1", "prod", *more)[0] == 1
    policy = site.store.governance.policy()
    unbacked_tags.remove(site.store._transactions, policy)  # if the server has not yet
    assert not forged.keys() & site.raw.get_model_version(name, "1").tags.keys()
    assert by_command(site, "erin", "list")[0] == 0


def test_row_36_a_second_server_with_a_weaker_file_decides_by_the_first(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = new_name()
    site.version(name)
    weak = tmp_path / "weak.yaml"
    weak.write_text(POLICY.replace("aliases: [prod]", "aliases: [other]"))
    monkeypatch.setenv("MLFLOW_PACK_APPROVALS_POLICY", str(weak))
    second = build_store(site.uri)
    try:
        with signed_in("erin"), pytest.raises(ApprovalRequiredError):
            second.set_registered_model_alias(name, "prod", 1)
    finally:
        second.engine.dispose()
    _attack_the_guards(site, name)
    assert site.snapshot(name)["aliases"] == {}


def _attack_the_guards(site: Site, name: str) -> None:
    """Check that the guards still have the first server's policy."""
    call = ("set_registered_model_alias", name, "prod", 1)
    assert "mpp_guard: " in by_client(site, site.raw, None, call)[1]


def test_row_37_votes_that_were_cast_are_not_taken_away(site: Site) -> None:
    name = new_name()
    with site.as_user("alice"):
        experiment = site.client.create_experiment(name)
        run = site.client.create_run(experiment, tags={"mlflow.user": "alice"}).info.run_id
    site.version(name, run_id=run)
    with site.as_user("erin"):  # who may write the run
        site.client.set_tag(run, "mlflow.user", "bob")
    site.approve(name, 1, "prod")
    tag = ("set_model_version_tag", name, "1", "approvals.cancel", "prod: mine")
    assert "before another user has voted" in by_client(site, site.client, "alice", tag)[1]
    assert "IDENTITY_REQUIRED: " in by_client(site, site.direct, None, tag)[1]
    body = {"name": name, "version": "1", "key": "approvals.cancel", "value": "prod: mine"}
    said = site.ajax("alice", "POST", "model-versions/set-tag", body)
    assert (said.status_code, "NOT_AN_APPROVER: " in said.text) == (403, True), said.text
    code, text = by_command(site, "alice", "cancel", f"models:/{name}/1", "prod")
    assert (code, "NOT_AN_APPROVER: " in text) == (1, True), text
    with site.as_user("alice"):
        site.client.set_registered_model_alias(name, "prod", "1")
    assert site.snapshot(name)["aliases"] == {"prod": 1}


@pytest.mark.timeout(3600)
@without_workspaces
def test_in_a_race_nothing_is_lost_and_nothing_done_twice(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")  # a 503 is to be seen
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "600")
    for name in racing.MODELS:
        for _ in racing.VERSIONS:
            site.version(name)
    printed_before = len(site.server.log.read_text())
    race = racing.Race(site.server.url)
    began = time.monotonic()
    race.run(WORKERS * CLIENTS, ROUNDS)
    seconds = time.monotonic() - began
    calls = sum(race.outcomes.values())
    came_to = dict(sorted(race.outcomes.items()))
    kind = site.store.engine.dialect.name
    sys.stdout.write(f"\n{kind}: {calls} calls in {seconds:.0f} s: {came_to}\n")
    assert calls == WORKERS * CLIENTS * ROUNDS
    assert race.broken == []
    printed = site.server.log.read_text()[printed_before:]
    assert "Traceback" not in printed, printed[-4000:]
    applied = racing.check(site.store, race.voted)
    assert applied > 0, came_to
    assert race.voted, came_to


@without_workspaces
def test_nothing_was_a_server_error_and_the_log_holds(site: Site) -> None:
    with site.store.engine.connect() as connection:
        assert audit_log.verify(connection).is_intact
    log = site.server.log.read_text()
    assert "Traceback" not in log, log[-4000:]
    assert [
        line for line in log.splitlines() if " 500" in line and "/workspaces/" not in line
    ] == []
