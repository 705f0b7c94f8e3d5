"""Stock server, stock client, four people: the whole way to production and the ways around it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

import pytest
import requests
from click.testing import CliRunner
from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts
from mlflow.exceptions import MlflowException, RestException

from mlflow_plugins_pack.cli.main import cli
from tests.support import servers

pytestmark = pytest.mark.filterwarnings(
    # Stages are deprecated in stock MLflow, and still there to be protected.
    "ignore:.*transition_model_version_stage.*is deprecated:FutureWarning"
)

POLICY = """
version: 1
groups: {ml-leads: [bob, carol], risk: [dave], ci: [svc-ci]}
policies:
  - name: prod
    match: {models: ["fraud-*"], exclude: ["*-sandbox"], prompts: ["text-*"]}
    targets: {aliases: [prod], stages: [Production]}
    approvals: [{group: ml-leads, count: 1}, {group: risk, count: 1}]
    checks: [{tag: tests, equals: passed, writers: ["group:ci"], max_age: 7d}]
    break_glass: {group: risk}
"""
PACK = (sys.executable, "-c", "from mlflow_plugins_pack.cli.main import main; main()")
PEOPLE = ("alice", "bob", "carol", "dave", "erin", "svc-ci")


class ServerBench:
    """A running server and its people."""

    def __init__(self, server: servers.MlflowServer, folder: Path) -> None:
        self.server = server
        self.database = f"approval-sqlite:///{folder / 'mlflow.db'}"
        self.policy = folder / "policy.yaml"
        self.artifacts = folder / "artifacts"
        self.client = MlflowClient(server.url, server.url)

    def as_user(self, name: str):
        return servers.credentials(name, servers.PASSWORD if name != "admin" else servers.ADMIN[1])

    def new_version(self, name: str, content: str, by: str = "alice") -> int:
        """Log an artifact through the server's proxy and register it; return the number."""
        with self.as_user(by):
            self.client.create_registered_model(name)
            run = self.client.create_run("0")
            self.client.log_text(run.info.run_id, content, "model/weights.txt")
            source = f"{run.info.artifact_uri}/model"
            made = self.client.create_model_version(name, source, run.info.run_id)
        return int(made.version)

    def tag(self, user: str, name: str, version: int, key: str, value: str) -> None:
        with self.as_user(user):
            self.client.set_model_version_tag(name, str(version), key, value)

    def say(self, user: str, command: str, name: str, version: int, value: str) -> None:
        self.tag(user, name, version, f"approvals.{command}", value)

    def refusal(self, user: str, call: str, *arguments: object) -> RestException:
        """Make a call that must be refused; return the error the stock client raised."""
        with self.as_user(user), pytest.raises(RestException) as caught:
            getattr(self.client, call)(*arguments)
        assert caught.value.get_http_status_code() < 500
        # The stock client puts MLflow's own code in front; the rest must arrive as we wrote it.
        prefix = f"{caught.value.error_code}: "
        assert caught.value.message.startswith(prefix)
        caught.value.message = caught.value.message.removeprefix(prefix)
        return caught.value

    def state(self, name: str, version: int, target: str = "prod") -> str | None:
        with self.as_user("alice"):
            found = self.client.get_model_version(name, str(version))
        return found.tags.get(f"mlflow_approvals.{target}")

    def prepare(self, name: str, version: int, target: str = "prod") -> None:
        """Request, test and approve a version."""
        self.say("erin", "request", name, version, f"{target}: please")
        self.tag("svc-ci", name, version, "tests", "passed")
        self.say("bob", "approve", name, version, f"{target}: good")
        self.say("dave", "approve", name, version, f"{target}: safe")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerBench]:
    folder = tmp_path_factory.mktemp("site")
    (folder / "policy.yaml").write_text(POLICY)
    with servers.mlflow_server(
        folder,
        registry=f"approval-sqlite:///{folder / 'mlflow.db'}",
        app_name="basic-auth",
        workers=2,
        MLFLOW_PACK_APPROVALS_POLICY=str(folder / "policy.yaml"),
    ) as server:
        for name in PEOPLE:
            servers.create_user(server, name, servers.PASSWORD)
        servers.make_sign_in_cheap(folder)
        yield ServerBench(server, folder)


def test_promotion_needs_the_policys_people(site: ServerBench) -> None:
    name = "fraud-eu"
    version = site.new_version(name, "weights one")
    refused = site.refusal("erin", "set_registered_model_alias", name, "prod", version)
    assert refused.error_code == "PERMISSION_DENIED"
    request_id = refused.message.split("Request ")[1].split()[0]
    assert refused.message == (
        "APPROVAL_REQUIRED: alias 'prod' of 'fraud-eu' is protected by policy 'prod'. Version 1 "
        "has 0 of 2 approvals (ml-leads 0/1, risk 0/1). Request "
        f"{request_id} was filed; an approver from 'ml-leads' and from 'risk' must approve it: "
        'set the tag approvals.approve = "prod: your reason" on version 1, or run: mlflow-pack '
        "approvals approve models:/fraud-eu/1 prod -m REASON. Then make this call again. "
        "The request is kept; alias 'prod' was not changed."
    )
    assert site.state(name, version) == "PENDING 0/2"
    again = site.refusal("erin", "set_registered_model_alias", name, "prod", version)
    assert f"Request {request_id} is PENDING since" in again.message
    assert again.message.endswith("Nothing was changed.")

    assert "NOT_AN_APPROVER: 'erin'" in _tag_refusal(site, "erin", name, version, "approve")
    assert "SELF_APPROVAL" not in again.message
    site.say("bob", "approve", name, version, "prod: looks good")
    site.say("bob", "approve", name, version, "prod: looks good")
    assert site.state(name, version) == "PENDING 1/2 (bob)"
    half = site.refusal("erin", "set_registered_model_alias", name, "prod", version)
    assert "1 of 2 approvals (ml-leads 1/1, risk 0/1)" in half.message
    site.say("dave", "approve", name, version, "prod: safe")
    assert site.state(name, version) == "APPROVED 2/2 (bob, dave)"

    unchecked = site.refusal("erin", "set_registered_model_alias", name, "prod", version)
    assert unchecked.message == (
        "CHECKS_FAILED: version 1 of 'fraud-eu' may not become alias 'prod': policy 'prod' "
        "requires the tag 'tests' to be 'passed', and it is not set. Nothing was changed. Put "
        "this right, then make this call again."
    )
    with site.as_user("erin"), pytest.raises(RestException, match=r"RESERVED_TAG.*only group:ci"):
        site.client.set_model_version_tag(name, "1", "tests", "passed")
    site.tag("svc-ci", name, version, "tests", "passed")
    with site.as_user("erin"):
        site.client.set_registered_model_alias(name, "prod", version)
        assert site.client.get_model_version_by_alias(name, "prod").version == str(version)
    assert site.state(name, version) == "APPLIED 2/2 (bob, dave)"


def _tag_refusal(site: ServerBench, user: str, name: str, version: int, command: str) -> str:
    refused = site.refusal(
        user, "set_model_version_tag", name, str(version), f"approvals.{command}", "prod: me"
    )
    return refused.message


def test_nobody_approves_their_own_work(site: ServerBench) -> None:
    name = "fraud-own"
    version = site.new_version(name, "bob made this", by="bob")
    site.say("carol", "request", name, version, "prod: please")
    assert "SELF_APPROVAL: 'bob' registered the version" in _tag_refusal(
        site, "bob", name, version, "approve"
    )
    assert "SELF_APPROVAL: 'carol' made the request" in _tag_refusal(
        site, "carol", name, version, "approve"
    )
    # The administrator is not an exception: enforcement is below every app.
    assert "NOT_AN_APPROVER" in _tag_refusal(site, "admin", name, version, "approve")
    refused = site.refusal("admin", "set_registered_model_alias", name, "prod", version)
    assert refused.message.startswith("APPROVAL_REQUIRED")


def test_changed_bytes_make_an_approval_stale(site: ServerBench) -> None:
    name = "fraud-bytes"
    version = site.new_version(name, "good weights")
    site.prepare(name, version)
    assert site.state(name, version) == "APPROVED 2/2 (bob, dave)"
    with site.as_user("erin"):
        run_id = site.client.get_model_version(name, str(version)).run_id
        site.client.log_text(run_id, "evil weights", "model/weights.txt")
    refused = site.refusal("erin", "set_registered_model_alias", name, "prod", version)
    assert refused.message.startswith("STALE_APPROVAL: request ")
    assert "its files have changed since" in refused.message
    assert site.state(name, version) == "STALE: its files have changed since"
    with site.as_user("erin"), pytest.raises(RestException):
        site.client.get_model_version_by_alias(name, "prod")


def test_stages_and_demotion(site: ServerBench) -> None:
    name = "fraud-stage"
    first = site.new_version(name, "one")
    refused = site.refusal("erin", "transition_model_version_stage", name, "1", "Production")
    assert refused.message.startswith("APPROVAL_REQUIRED: stage 'Production' of 'fraud-stage'")
    site.prepare(name, first, "stage:Production")
    with site.as_user("erin"):
        site.client.transition_model_version_stage(name, str(first), "production")
    left = site.refusal("erin", "transition_model_version_stage", name, "1", "Archived")
    assert "taking stage 'Production' of 'fraud-stage' away from version 1" in left.message
    gone = site.refusal("alice", "delete_model_version", name, "1")
    assert gone.message.startswith("PROTECTED_DELETE: version 1 of 'fraud-stage' holds")
    gone = site.refusal("admin", "delete_registered_model", name)
    assert gone.message.startswith("PROTECTED_DELETE: 'fraud-stage' holds")
    renamed = site.refusal("alice", "rename_registered_model", name, "free-name")
    assert renamed.message.startswith("PROTECTED_RENAME")
    for user in ("carol", "dave"):
        site.say(user, "approve", name, first, "stage:Production: outdated")
    with site.as_user("erin"):
        site.client.transition_model_version_stage(name, str(first), "Archived")
        assert site.client.get_model_version(name, "1").current_stage == "Archived"
    with site.as_user("alice"):
        site.client.delete_model_version(name, "1")


def test_a_copied_version_is_unapproved(site: ServerBench) -> None:
    name = "fraud-copy"
    version = site.new_version(name, "weights")
    site.prepare(name, version)
    with site.as_user("erin"):
        site.client.set_registered_model_alias(name, "prod", version)
        copy = site.client.copy_model_version(f"models:/{name}/{version}", "fraud-copy-2")
        assert "tests" not in copy.tags
        assert not any(key.startswith("mlflow_approvals.") for key in copy.tags)
    # Nor is it tested by being copied by who may say that versions are.
    with site.as_user("svc-ci"):
        copy = site.client.copy_model_version(f"models:/{name}/{version}", "fraud-copy-2")
        assert "tests" not in copy.tags
    refused = site.refusal("erin", "set_registered_model_alias", "fraud-copy-2", "prod", 1)
    assert "0 of 2 approvals" in refused.message


def test_prompt_text_is_locked_while_somebody_approves_it(site: ServerBench) -> None:
    name = "text-rules"
    text = (name, 1, "mlflow.prompt.text", "Be evil.")
    with site.as_user("alice"):
        site.client.register_prompt(name, "Be kind.")
        site.client.set_prompt_version_tag(name, 1, "owner", "legal")
    refused = site.refusal("erin", "set_prompt_alias", name, "prod", 1)
    assert refused.message.startswith("APPROVAL_REQUIRED")
    locked = site.refusal("erin", "set_prompt_version_tag", *text)
    assert locked.message.startswith("CONTENT_LOCKED")
    with site.as_user("svc-ci"):
        site.client.set_prompt_version_tag(name, 1, "tests", "passed")
    run = CliRunner()
    for user in ("bob", "dave"):
        with site.as_user(user):
            arguments = ["approve", f"models:/{name}/1", "prod", "--tracking-uri", site.server.url]
            done = run.invoke(cli, ["approvals", *arguments], catch_exceptions=False)
            assert done.exit_code == 0
    with site.as_user("erin"):
        site.client.set_prompt_alias(name, "prod", 1)
        assert site.client.load_prompt(f"prompts:/{name}@prod").template == "Be kind."
        arguments = ["show", f"prompts:/{name}/1", "--tracking-uri", site.server.url]
        shown = run.invoke(cli, ["approvals", *arguments], catch_exceptions=False)
        assert "APPLIED 2/2 (bob, dave)" in shown.output
    locked = site.refusal("erin", "set_prompt_version_tag", *text)
    assert locked.message.startswith("CONTENT_LOCKED")


def test_free_models_are_stock(site: ServerBench) -> None:
    site.new_version("anything", "free")
    version = site.new_version("fraud-x-sandbox", "free")
    with site.as_user("erin"):
        site.client.set_registered_model_alias("anything", "prod", 1)
        site.client.set_registered_model_alias("fraud-x-sandbox", "prod", version)
        site.client.transition_model_version_stage("anything", "1", "Production", True)
        assert site.client.get_model_version_by_alias("anything", "prod").version == "1"
        sandbox = site.client.get_model_version_by_alias("fraud-x-sandbox", "prod")
        assert sandbox.version == str(version)
        assert site.client.get_model_version("anything", "1").current_stage == "Production"
    with site.as_user("alice"):
        site.client.rename_registered_model("anything", "something")
        renamed = site.client.get_registered_model("something")
        assert (renamed.name, renamed.aliases) == ("something", {"prod": "1"})
        site.client.delete_registered_model("something")
        assert not site.client.search_registered_models("name IN ('anything', 'something')")


def test_forged_tags_are_refused(site: ServerBench) -> None:
    name = "fraud-forged"
    site.new_version(name, "weights")
    forged = site.refusal(
        "erin", "set_model_version_tag", name, "1", "mlflow_approvals.prod", "APPROVED 2/2"
    )
    assert forged.message.startswith("RESERVED_TAG")
    wrong = site.refusal("bob", "set_model_version_tag", name, "1", "approvals.approve", "")
    assert wrong.error_code == "INVALID_PARAMETER_VALUE"
    assert wrong.message.startswith("INVALID_COMMAND")
    free = site.refusal("bob", "set_model_version_tag", name, "1", "approvals.approve", "dev: x")
    assert "no policy protects alias 'dev'" in free.message
    none = site.refusal("bob", "set_model_version_tag", name, "1", "approvals.approve", "prod: x")
    assert none.message.startswith("NO_OPEN_REQUEST")


def test_command_line_over_http_and_database(site: ServerBench) -> None:
    name = "fraud-cli"
    version = site.new_version(name, "weights")
    run = CliRunner()
    over_http = ["--tracking-uri", site.server.url]

    def call(user: str, *arguments: str):
        with site.as_user(user):
            return run.invoke(cli, ["approvals", *arguments], catch_exceptions=True)

    model = f"models:/{name}/{version}"
    asked = call("erin", "request", model, "prod", "-m", "please", *over_http)
    assert asked.exit_code == 0, asked.output
    assert "prod: PENDING 0/2" in asked.output
    listed = call("erin", "list", *over_http)
    assert name in listed.output
    call("bob", "approve", model, "prod", "-m", "fine", *over_http)
    shown = call("erin", "show", model, *over_http)
    assert "PENDING 1/2 (bob)" in shown.output
    deep = call("erin", "show", model, "--registry-store-uri", site.database)
    assert 'bob approve: "fine"' in deep.output
    refused = call("dave", "approve", model, "prod", "--registry-store-uri", site.database)
    assert isinstance(refused.exception, MlflowException)
    checked = call("erin", "audit", "verify", "--registry-store-uri", site.database)
    assert checked.exit_code == 0
    assert "The audit log is intact" in checked.output
    other = call("erin", "audit", "verify", *over_http)
    assert "This is done in the database itself" in str(other.exception)
    rejected = call("carol", "reject", model, "prod", "-m", "too early", *over_http)
    assert "REJECTED: by carol: too early" in rejected.output
    again = site.refusal("erin", "set_registered_model_alias", name, "prod", version)
    assert "was rejected (by carol: too early)" in again.message


def test_the_steps_of_a_pipeline(site: ServerBench) -> None:
    name = "fraud-steps"
    version = site.new_version(name, "weights")
    run = CliRunner()
    model = f"models:/{name}/{version}"

    def step(user: str, *arguments: str) -> tuple[int, str]:
        with site.as_user(user):
            done = run.invoke(cli, ["approvals", *arguments, "--tracking-uri", site.server.url])
        if isinstance(done.exception, MlflowException):
            return 1, done.exception.message
        return done.exit_code, done.output

    wait = ("wait", model, "prod", "--timeout", "0s", "--interval", "1s")
    code, said = step("svc-ci", *wait)
    assert (
        code,
        "no request of models:/fraud-steps/1 for prod waits: no such request exists" in said,
    ) == (
        1,
        True,
    )
    code, said = step("svc-ci", "apply", model, "prod")
    assert (code, "APPROVAL_REQUIRED" in said) == (1, True)
    code, said = step("svc-ci", *wait)
    assert (code, "prod: PENDING 0/2" in said) == (3, True)
    code, said = step("svc-ci", "verify", model, "prod")
    assert (code, "is not prod (its state: PENDING 0/2)" in said) == (1, True)
    site.tag("svc-ci", name, version, "tests", "passed")
    with ThreadPoolExecutor(1) as pool:
        # The stock client takes the user from the environment: one process waits, one votes.
        waiting = pool.submit(
            subprocess.run,
            [*PACK, "approvals", "wait", model, "prod", "--timeout", "120s", "--interval", "1s"],
            env=servers.clean_environment(
                MLFLOW_TRACKING_URI=site.server.url,
                MLFLOW_TRACKING_USERNAME="svc-ci",
                MLFLOW_TRACKING_PASSWORD=servers.PASSWORD,
                MLFLOW_DISABLE_TELEMETRY="true",
            ),
            capture_output=True,
            text=True,
            timeout=240,
        )
        for user in ("bob", "dave"):
            site.say(user, "approve", name, version, "prod: good")
        done = waiting.result()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "prod: APPROVED 2/2 (bob, dave)" in done.stdout
    assert step("svc-ci", "apply", model, "prod") == (0, f"{model} is prod.\n")
    code, said = step("svc-ci", "verify", f"models:/{name}@prod")
    assert (code, "its bytes are those approved, sha256:" in said) == (0, True), said
    with site.as_user("erin"):
        run_id = site.client.get_model_version(name, str(version)).run_id
        site.client.log_text(run_id, "evil weights", "model/weights.txt")
    code, said = step("svc-ci", "verify", model, "prod")
    assert (code, "are not those approved as prod" in said) == (1, True)
    other = site.new_version("fraud-steps-2", "weights")
    code, said = step("svc-ci", "verify", f"models:/fraud-steps-2/{other}", "prod")
    assert (code, "no request" in said) == (1, True)


def test_prompts_are_verified_too(site: ServerBench) -> None:
    name = "text-verified"
    with site.as_user("alice"):
        site.client.register_prompt(name, "Be kind.")
    with site.as_user("svc-ci"):
        site.client.set_prompt_version_tag(name, 1, "tests", "passed")
    run = CliRunner()
    over_http = ["--tracking-uri", site.server.url]
    for user, command in (("erin", "request"), ("bob", "approve"), ("dave", "approve")):
        with site.as_user(user):
            run.invoke(cli, ["approvals", command, f"prompts:/{name}/1", "prod", *over_http])
    with site.as_user("erin"):
        done = run.invoke(cli, ["approvals", "apply", f"prompts:/{name}/1", "prod", *over_http])
        assert done.exit_code == 0, done.output
        done = run.invoke(
            cli,
            ["approvals", "verify", f"prompts:/{name}@prod", *over_http],
            catch_exceptions=False,
        )
    assert done.exit_code == 0, done.output


def test_what_waits_is_listed_over_http(site: ServerBench) -> None:
    name = "fraud-list"
    version = site.new_version(name, "weights")
    site.say("erin", "request", name, version, "stage:Production: please")
    site.say("dave", "break_glass", name, version, "prod: the fraud wave")
    over_http = ["approvals", "list", "--json", "--tracking-uri", site.server.url]

    def listed(*more: str) -> list[tuple[str, str]]:
        with site.as_user("alice"):
            done = CliRunner().invoke(cli, [*over_http, *more])
        assert done.exit_code == 0, done.output
        rows = json.loads(done.output)
        return [(row["target"], row["status"]) for row in rows if row["model"] == name]

    waiting = [
        ("prod", "BREAK-GLASS REVIEW PENDING 0/1"),
        ("stage:Production", "PENDING 0/2"),
    ]
    assert listed() == waiting
    site.say("bob", "approve", name, version, "prod: was right")
    assert listed() == waiting[1:]
    assert listed("--all") == [("prod", "BREAK-GLASS REVIEWED 1/1 (bob)"), waiting[1]]


def test_a_changed_policy_is_in_force_in_every_worker(site: ServerBench) -> None:
    name = "other-model"
    site.new_version(name, "weights")
    with site.as_user("erin"):
        site.client.set_registered_model_alias(name, "prod", 1)
    before = site.policy.read_text()
    try:
        site.policy.write_text(before.replace('["fraud-*"]', '["fraud-*", "other-*"]'))
        time.sleep(3)
        with site.as_user("alice"):
            for _ in range(12):  # the workers take turns
                with pytest.raises(RestException, match="APPROVAL_REQUIRED"):
                    site.client.delete_registered_model_alias(name, "prod")
    finally:
        site.policy.write_text(before)


def test_a_race_across_workers_applies_once(site: ServerBench) -> None:
    name = "fraud-race"
    version = site.new_version(name, "weights")
    site.say("erin", "request", name, version, "prod: please")
    site.tag("svc-ci", name, version, "tests", "passed")

    def post(user: str, path: str, **body: str) -> int:
        # Not the stock client: it takes the user from the environment, which threads share.
        answer = requests.post(
            f"{site.server.url}/api/2.0/mlflow/{path}",
            json={"name": name, "version": str(version), **body},
            auth=(user, servers.PASSWORD),
            timeout=60,
        )
        return answer.status_code

    def act(index: int) -> int:
        user = ("bob", "dave", "erin", "alice")[index % 4]
        if user in ("bob", "dave"):
            command = {"key": "approvals.approve", "value": "prod: ok"}
            return post(user, "model-versions/set-tag", **command)
        return post(user, "registered-models/alias", alias="prod")

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(act, range(32)))
    assert set(answers) <= {200, 403}
    assert post("erin", "registered-models/alias", alias="prod") == 200
    listed = CliRunner().invoke(
        cli, ["approvals", "audit", "list", "--json", "--registry-store-uri", site.database]
    )
    actions = [row["action"] for row in json.loads(listed.output) if row["name"] == name]
    assert (actions.count("APPLIED"), actions.count("VOTED")) == (1, 2)


def test_health_of_the_log(site: ServerBench) -> None:
    """No request of this module ended in an unexpected failure on the server."""
    assert urllib.request.urlopen(f"{site.server.url}/health").status == 200
    log = site.server.log.read_text()
    assert "Traceback" not in log
    assert " 500" not in log


def test_a_source_that_can_lead_to_other_files_later_is_not_approvable(site: ServerBench) -> None:
    """A logged model that is added to a run would replace the run's files for every client."""
    name = "fraud-overlay"
    with site.as_user("alice"):
        site.client.create_registered_model(name)
        run = site.client.create_run("0")
        site.client.log_text(run.info.run_id, "approved", "code/helper.py")
        source = f"runs:/{run.info.run_id}/code"
        site.client.create_model_version(name, source, run.info.run_id)
    for refused in (
        site.refusal("alice", "set_registered_model_alias", name, "prod", "1"),
        site.refusal("bob", "set_model_version_tag", name, "1", "approvals.request", "prod: now"),
    ):
        assert "SOURCE_NOT_PINNED" in refused.message
    with site.as_user("alice"):
        place = f"{run.info.artifact_uri}/code"
        site.client.create_model_version(name, place, run.info.run_id)
    assert "APPROVAL_REQUIRED" in str(
        site.refusal("alice", "set_registered_model_alias", name, "prod", "2")
    )


@pytest.mark.parametrize("odd", ["weights.txt?new", "weights/weights"])
def test_a_file_that_clients_load_otherwise_is_not_approvable(
    site: ServerBench, odd: str, tmp_path: Path
) -> None:
    """The server has other bytes under the name than a client that asks for it gets."""
    name = f"fraud-odd-{odd.count('/')}"
    version = site.new_version(name, "old")
    with site.as_user("alice"):
        source = site.client.get_model_version(name, str(version)).source
        place = source.removeprefix("mlflow-artifacts:/")
        done = requests.put(
            f"{site.server.url}/api/2.0/mlflow-artifacts/artifacts/{place}/{quote(odd)}",
            data=b"new",
            auth=("alice", servers.PASSWORD),
            timeout=60,
        )
        assert done.ok, done.text
        assert (site.artifacts / place / odd).read_text() == "new"
        loaded = Path(
            download_artifacts(source, dst_path=str(tmp_path), tracking_uri=site.server.url)
        )
    assert not (loaded / odd).is_file() or (loaded / odd).read_text() == "old"
    refused = site.refusal("erin", "set_registered_model_alias", name, "prod", version)
    assert refused.message.startswith("SOURCE_NOT_PINNED: ")
    assert repr(odd) in refused.message
