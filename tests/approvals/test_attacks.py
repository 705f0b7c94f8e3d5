"""Every way by which what production serves could change without approval, through every door.

The doors: a stock client over REST, MLflow's own pages (``/ajax-api``), the prompt API, and a
client that opens the database itself with an ``approval-`` URI, as job processes do. A table holds
the attacks; each is made on a model of its own, must be refused with the right code and words,
must change nothing, and must be in the audit log.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersionTag
from mlflow.exceptions import MlflowException
from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore

from mlflow_plugins_pack.approvals import audit, inspection
from mlflow_plugins_pack.approvals.plugin import build_store
from tests import servers
from tests.approvals.acting import signed_in

pytestmark = pytest.mark.filterwarnings(
    # Stages are deprecated in stock MLflow, and still there to be protected.
    "ignore:.*(transition_model_version_stage|get_latest_versions).*is deprecated:FutureWarning"
)

POLICY = """
version: 1
groups: {leads: [bob, carol], risk: [dave], ci: [svc-ci]}
policies:
  - name: prod
    match: {models: ["gov-*"], prompts: ["say-*"]}
    targets: {aliases: [prod], stages: [Staging, Production]}
    approvals: [{group: leads, count: 1}, {group: risk, count: 1}]
    checks: [{tag: tests, equals: passed, writers: ["group:ci"]}]
"""
PEOPLE = ("alice", "bob", "carol", "dave", "erin", "svc-ci")
_numbers = itertools.count(1)


class Site:
    """A stock server on one database, and the database itself."""

    def __init__(self, server: servers.MlflowServer, database: str, folder: Path) -> None:
        self.server = server
        self.folder = folder
        self.uri = f"approval-{database}"
        self.store = build_store(self.uri)
        self.stock = SqlAlchemyStore(database)
        self.client = MlflowClient(server.url, server.url)
        self.direct = MlflowClient(server.url, self.uri)

    def as_user(self, name: str) -> Any:
        return servers.credentials(name, servers.PASSWORD if name != "admin" else servers.ADMIN[1])

    def ajax(self, user: str, verb: str, path: str, body: dict[str, Any]) -> requests.Response:
        """Call as MLflow's own pages do."""
        return requests.request(
            verb,
            f"{self.server.url}/ajax-api/2.0/mlflow/{path}",
            json=body,
            auth=(user, servers.PASSWORD if user != "admin" else servers.ADMIN[1]),
            timeout=120,
        )

    # --- preparing ----------------------------------------------------------------------------

    def version(self, name: str) -> None:
        """Register a version with files of its own."""
        source = self.folder / f"files-{next(_numbers)}"
        source.mkdir()
        (source / "weights").write_text(f"weights of {source}")
        with signed_in("alice"):
            if not any(m.name == name for m in self.store.search_registered_models()):
                self.store.create_registered_model(name)
            self.store.create_model_version(name, str(source))

    def prompt(self, name: str, text: str) -> None:
        with signed_in("alice"):
            if self.store.get_prompt(name) is None:
                self.store.create_prompt(name)
            self.store.create_prompt_version(name, text)

    def say(self, user: str, command: str, name: str, version: int, value: str) -> None:
        self.tag(user, name, version, f"approvals.{command}", value)

    def tag(self, user: str, name: str, version: int, key: str, value: str) -> None:
        with signed_in(user):
            self.store.set_model_version_tag(name, version, ModelVersionTag(key, value))

    def approve(self, name: str, version: int, target: str) -> None:
        self.say("alice", "request", name, version, f"{target}: please")
        self.tag("svc-ci", name, version, "tests", "passed")
        for user in ("bob", "dave"):
            self.say(user, "approve", name, version, f"{target}: fine")

    def put_in_production(self, name: str, version: int) -> None:
        self.approve(name, version, "prod")
        with signed_in("alice"):
            self.store.set_registered_model_alias(name, "prod", version)

    def put_in_stage(self, name: str, version: int, stage: str) -> None:
        self.approve(name, version, f"stage:{stage}")
        with signed_in("alice"):
            self.store.transition_model_version_stage(name, version, stage, False)

    # --- looking ------------------------------------------------------------------------------

    def snapshot(self, name: str) -> dict[str, Any]:
        """Return all that a consumer of the model could notice, read by the stock store."""
        try:
            model = self.stock.get_registered_model(name)
        except MlflowException:
            return {}
        prefix = "mlflow_approvals."
        return {
            "aliases": dict(model.aliases),
            "tags": dict(model.tags),
            "versions": {
                int(v.version): (
                    v.current_stage,
                    v.source,
                    {k: t for k, t in v.tags.items() if not k.startswith(prefix)},
                )
                for flag in ("", " AND tags.`mlflow.prompt.is_prompt` = 'true'")
                for v in self.stock.search_model_versions(f"name = '{name}'{flag}")
            },
        }

    def audited(self, name: str) -> list[dict[str, Any]]:
        with self.store.engine.connect() as connection:
            rows = inspection.audit_entries(connection, 100_000)
        return [row for row in rows if row["name"] == name]


@pytest.fixture(scope="module", params=["sqlite", "postgresql", "mariadb"])
def running_site(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("attacked")
    (folder / "policy.yaml").write_text(POLICY)
    if request.param == "sqlite":
        database = f"sqlite:///{folder / 'registry.db'}"
    else:
        database = request.getfixturevalue(request.param).new_database()
    # Everybody signed in may do anything, as far as MLflow's own permissions go.
    rights = folder / "everybody.ini"
    usual = servers.write_auth_config(folder).read_text()
    rights.write_text(usual.replace("= EDIT", "= MANAGE"))
    setting = {"MLFLOW_PACK_APPROVALS_POLICY": str(folder / "policy.yaml")}
    with servers.mlflow_server(
        folder,
        registry=f"approval-{database}",
        app_name="basic-auth",
        MLFLOW_AUTH_CONFIG_PATH=str(rights),
        **setting,
    ) as server:
        for name in PEOPLE:
            servers.create_user(server, name, servers.PASSWORD)
        servers.make_sign_in_cheap(folder)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(*next(iter(setting.items())))
            site = Site(server, database, folder)
        yield site
        site.store.engine.dispose()
        site.stock.engine.dispose()


@pytest.fixture
def site(running_site: Site, monkeypatch: pytest.MonkeyPatch) -> Site:
    policy = running_site.folder / "policy.yaml"
    monkeypatch.setenv("MLFLOW_PACK_APPROVALS_POLICY", str(policy))
    return running_site


# --- the table --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Attack:
    """One way around, and what must come of it.

    Attributes:
        row: Number in the table of ways in the design.
        what: In words.
        prepare: Makes the model or prompt of the given name ready.
        client: Method of the stock client and its arguments; ``NAME`` is the model.
        ajax: Verb, path and body of the same call from MLflow's own pages.
        prompt_api: The same through the client's prompt methods.
        code: What the refusal begins with.
        says: What else it says.
        nobody: The code where nobody is signed in: a direct client, a job.
        user: Who tries.
    """

    row: int
    what: str
    prepare: Callable[[Site, str], None]
    client: tuple[Any, ...]
    ajax: tuple[str, str, dict[str, Any]]
    code: str
    says: str
    nobody: str = "IDENTITY_REQUIRED"
    prompt_api: tuple[Any, ...] | None = None
    user: str = "erin"
    prefix: str = field(default="gov")


def a_holder(site: Site, name: str) -> None:
    """Version 1 is @prod and in Production, version 2 is new."""
    site.version(name)
    site.version(name)
    site.put_in_production(name, 1)
    site.put_in_stage(name, 1, "Production")


def two_in_production(site: Site, name: str) -> None:
    """Both versions are in Production: consumers get the second."""
    for number in (1, 2):
        site.version(name)
        site.put_in_stage(name, number, "Production")


def approved_without_archiving(site: Site, name: str) -> None:
    a_holder(site, name)
    site.approve(name, 2, "stage:Production")


def staged(site: Site, name: str) -> None:
    site.version(name)
    site.put_in_stage(name, 1, "Staging")


def requested(site: Site, name: str) -> None:
    site.version(name)
    site.say("alice", "request", name, 1, "prod: please")


def own_work(site: Site, name: str) -> None:
    """An approver asks for what they registered themselves."""
    requested(site, name)


def a_prompt(site: Site, name: str) -> None:
    """Version 1 is @prod, version 2 is new."""
    site.prompt(name, "Be kind.")
    site.prompt(name, "Be evil.")
    site.put_in_production(name, 1)


def a_requested_prompt(site: Site, name: str) -> None:
    site.prompt(name, "Be kind.")
    site.say("alice", "request", name, 1, "prod: please")


def a_free_holder(site: Site, name: str) -> None:
    """A model that no policy governs has an alias that would be protected elsewhere."""
    site.version(name)
    with signed_in("alice"):
        site.store.set_registered_model_alias(name, "prod", 1)


def _alias(alias: str, version: str = "2") -> dict[str, Any]:
    return {
        "client": ("set_registered_model_alias", "NAME", alias, version),
        "ajax": (
            "POST",
            "registered-models/alias",
            {"name": "NAME", "alias": alias, "version": version},
        ),
    }


def _stage(version: str, stage: str, archive: bool = False) -> dict[str, Any]:
    body = {"name": "NAME", "version": version, "stage": stage}
    return {
        "client": ("transition_model_version_stage", "NAME", version, stage, archive),
        "ajax": (
            "POST",
            "model-versions/transition-stage",
            {**body, "archive_existing_versions": archive},
        ),
    }


def _tag(version: str, key: str, value: str) -> dict[str, Any]:
    body = {"name": "NAME", "version": version, "key": key, "value": value}
    return {
        "client": ("set_model_version_tag", "NAME", version, key, value),
        "ajax": ("POST", "model-versions/set-tag", body),
    }


def _untag(version: str, key: str) -> dict[str, Any]:
    return {
        "client": ("delete_model_version_tag", "NAME", version, key),
        "ajax": (
            "DELETE",
            "model-versions/delete-tag",
            {"name": "NAME", "version": version, "key": key},
        ),
    }


TEXT = "mlflow.prompt.text"
MODEL_CONFIG = "_mlflow_prompt_model_config"
FLAG = "mlflow.prompt.is_prompt"
REQUIRED, RESERVED, LOCKED = "APPROVAL_REQUIRED", "RESERVED_TAG", "CONTENT_LOCKED"
DELETE = {"code": "PROTECTED_DELETE", "nobody": "PROTECTED_DELETE"}
RENAME = {"code": "PROTECTED_RENAME", "nobody": "PROTECTED_RENAME"}
TAGGED = {"code": RESERVED, "nobody": RESERVED}
TEXTED = {"code": LOCKED, "nobody": LOCKED}
NEEDS = "is protected by policy 'prod'. Version 2 has 0 of 2 approvals (leads 0/1, risk 0/1)"
LOOKS = "differs from the protected alias 'prod' of policy 'prod' only in case or form"

ATTACKS = [
    Attack(1, "alias moved", a_holder, **_alias("prod"), code=REQUIRED, says=NEEDS),
    Attack(1, "by the admin", a_holder, **_alias("prod"), code=REQUIRED, says=NEEDS, user="admin"),
    Attack(
        2,
        "alias deleted",
        a_holder,
        ("delete_registered_model_alias", "NAME", "prod"),
        ("DELETE", "registered-models/alias", {"name": "NAME", "alias": "prod"}),
        REQUIRED,
        "taking alias 'prod' of 'NAME' away from version 1 is protected",
    ),
    *(
        Attack(3, f"alias {a}", a_holder, **_alias(a), code=REQUIRED, says=LOOKS, nobody=REQUIRED)
        for a in ("Prod", "PROD")
    ),
    Attack(
        3,
        "full-width alias",
        a_holder,
        **_alias("ｐｒｏｄ"),
        code=REQUIRED,
        nobody=REQUIRED,
        says="of 'NAME'",
    ),
    Attack(4, "stage entered", a_holder, **_stage("2", "Production"), code=REQUIRED, says=NEEDS),
    Attack(
        4, "stage in capitals", a_holder, **_stage("2", "PRODUCTION"), code=REQUIRED, says=NEEDS
    ),
    *(
        Attack(
            4,
            f"stage left for {stage}",
            two_in_production,
            **_stage("2", stage),
            code=REQUIRED,
            says="taking stage 'Production' of 'NAME' away from version 2",
        )
        for stage in ("Archived", "None")
    ),
    Attack(
        5,
        "others archived",
        approved_without_archiving,
        **_stage("2", "Production", archive=True),
        code=REQUIRED,
        says="does not cover archiving",
    ),
    Attack(
        5,
        "others archived from Staging",
        staged,
        **_stage("1", "Archived"),
        code=REQUIRED,
        says="taking stage 'Staging' of 'NAME' away from version 1",
    ),
    Attack(
        6,
        "version deleted",
        a_holder,
        ("delete_model_version", "NAME", "1"),
        ("DELETE", "model-versions/delete", {"name": "NAME", "version": "1"}),
        **DELETE,
        says="alias 'prod' (version 1), stage 'Production' (version 1)",
    ),
    Attack(
        7,
        "model deleted",
        a_holder,
        ("delete_registered_model", "NAME"),
        ("DELETE", "registered-models/delete", {"name": "NAME"}),
        **DELETE,
        says="'NAME' holds what policies protect",
    ),
    Attack(
        8,
        "renamed out of the policy",
        a_holder,
        ("rename_registered_model", "NAME", "free-NAME"),
        ("POST", "registered-models/rename", {"name": "NAME", "new_name": "free-NAME"}),
        **RENAME,
        says="'NAME' cannot become 'free-NAME'",
    ),
    Attack(
        8,
        "renamed into the policy",
        a_free_holder,
        ("rename_registered_model", "NAME", "gov-NAME"),
        ("POST", "registered-models/rename", {"name": "NAME", "new_name": "gov-NAME"}),
        **RENAME,
        says="'NAME' cannot become 'gov-NAME'",
        prefix="free",
    ),
    Attack(
        11,
        "projection forged",
        requested,
        **_tag("1", "mlflow_approvals.prod", "APPROVED 2/2"),
        **TAGGED,
        says="written by the registry alone",
    ),
    Attack(
        11,
        "projection forged in capitals",
        requested,
        **_tag("1", "MLflow_Approvals.prod", "APPROVED 2/2"),
        **TAGGED,
        says="written by the registry alone",
    ),
    Attack(
        11,
        "projection deleted",
        requested,
        **_untag("1", "mlflow_approvals.prod"),
        **TAGGED,
        says="written by the registry alone",
    ),
    Attack(
        11,
        "check tag by anybody",
        requested,
        **_tag("1", "tests", "passed"),
        **TAGGED,
        says="only group:ci may",
    ),
    Attack(
        11,
        "check tag of a holder deleted",
        a_holder,
        **_untag("1", "tests"),
        **TAGGED,
        says="only group:ci may",
    ),
    Attack(
        12,
        "prompt text rewritten",
        a_prompt,
        **_tag("1", TEXT, "Be evil."),
        **TEXTED,
        says="is alias 'prod' now",
        prompt_api=("set_prompt_version_tag", "NAME", 1, TEXT, "Be evil."),
        prefix="say",
    ),
    Attack(
        12,
        "prompt text deleted",
        a_prompt,
        **_untag("1", TEXT),
        **TEXTED,
        says="is alias 'prod' now",
        prompt_api=("delete_prompt_version_tag", "NAME", 1, TEXT),
        prefix="say",
    ),
    Attack(
        12,
        "prompt text rewritten while asked about",
        a_requested_prompt,
        **_tag("1", TEXT, "Be evil."),
        **TEXTED,
        says="is waiting for approval as alias 'prod'",
        prompt_api=("set_prompt_version_tag", "NAME", 1, TEXT, "Be evil."),
        prefix="say",
    ),
    Attack(
        12,
        "prompt's model configuration added",
        a_prompt,
        **_tag("1", MODEL_CONFIG, "{}"),
        **TEXTED,
        says="is alias 'prod' now",
        prompt_api=("set_prompt_version_tag", "NAME", 1, MODEL_CONFIG, "{}"),
        prefix="say",
    ),
    Attack(
        13,
        "prompt alias moved",
        a_prompt,
        **_alias("prod"),
        code=REQUIRED,
        says=NEEDS,
        prompt_api=("set_prompt_alias", "NAME", "prod", 2),
        prefix="say",
    ),
    Attack(
        13,
        "prompt alias deleted",
        a_prompt,
        ("delete_registered_model_alias", "NAME", "prod"),
        ("DELETE", "registered-models/alias", {"name": "NAME", "alias": "prod"}),
        REQUIRED,
        "taking alias 'prod' of 'NAME' away from version 1",
        prompt_api=("delete_prompt_alias", "NAME", "prod"),
        prefix="say",
    ),
    Attack(
        13,
        "prompt version deleted",
        a_prompt,
        ("delete_model_version", "NAME", "1"),
        ("DELETE", "model-versions/delete", {"name": "NAME", "version": "1"}),
        **DELETE,
        says="alias 'prod' (version 1)",
        prompt_api=("delete_prompt_version", "NAME", "1"),
        prefix="say",
    ),
    Attack(
        13,
        "prompt deleted",
        a_prompt,
        ("delete_registered_model", "NAME"),
        ("DELETE", "registered-models/delete", {"name": "NAME"}),
        **DELETE,
        says="alias 'prod' (version 1)",
        prompt_api=("delete_prompt", "NAME"),
        prefix="say",
    ),
    Attack(
        15,
        "model tag forged",
        requested,
        ("set_registered_model_tag", "NAME", "mlflow_approvals.prod", "APPROVED"),
        (
            "POST",
            "registered-models/set-tag",
            {"name": "NAME", "key": "mlflow_approvals.prod", "value": "APPROVED"},
        ),
        **TAGGED,
        says="written by the registry alone",
    ),
    Attack(
        15,
        "model called a prompt",
        a_holder,
        ("set_registered_model_tag", "NAME", FLAG, "true"),
        ("POST", "registered-models/set-tag", {"name": "NAME", "key": FLAG, "value": "true"}),
        **TAGGED,
        says="whether 'NAME' is a prompt decides which policy governs it",
    ),
    Attack(
        15,
        "prompt called a model",
        a_prompt,
        ("delete_registered_model_tag", "NAME", FLAG),
        ("DELETE", "registered-models/delete-tag", {"name": "NAME", "key": FLAG}),
        **TAGGED,
        says="whether 'NAME' is a prompt decides which policy governs it",
        prompt_api=("delete_prompt_tag", "NAME", FLAG),
        prefix="say",
    ),
    *(
        Attack(
            22,
            f"{command} by a stranger",
            requested,
            **_tag("1", f"approvals.{command}", "prod: me"),
            code="NOT_AN_APPROVER",
            says="prod" if command != "cancel" else "made by 'alice'",
        )
        for command in ("approve", "reject", "cancel")
    ),
    Attack(
        23,
        "approved by the admin",
        requested,
        **_tag("1", "approvals.approve", "prod: I rule"),
        code="NOT_AN_APPROVER",
        says="'admin' has no vote on alias 'prod' of 'NAME'",
        user="admin",
    ),
]


def _named(value: Any, name: str) -> Any:
    if isinstance(value, str):
        return value.replace("NAME", name)
    if isinstance(value, dict):
        return {key: _named(part, name) for key, part in value.items()}
    return tuple(_named(part, name) for part in value) if isinstance(value, tuple) else value


def _by_client(site: Site, client: MlflowClient, user: str | None, call: Any) -> tuple[int, str]:
    """Make a call that must be refused; return the status and what reached the caller."""
    method, *arguments = call
    with site.as_user(user or "nobody"), pytest.raises(MlflowException) as caught:
        getattr(client, method)(*arguments)
    return caught.value.get_http_status_code(), caught.value.message


STATUS = {"IDENTITY_REQUIRED": 401}


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda a: f"row {a.row}: {a.what}")
def test_attack(site: Site, attack: Attack) -> None:
    name = f"{attack.prefix}-{next(_numbers)}"
    attack.prepare(site, name)
    before = site.snapshot(name)
    answers: dict[str, tuple[int, str]] = {}
    if attack.prompt_api is None:
        call = _named(attack.client, name)
        answers["client"] = _by_client(site, site.client, attack.user, call)
    if attack.prompt_api is not None:
        # The stock client's other methods do not see prompts.
        call = _named(attack.prompt_api, name)
        answers["prompt API"] = _by_client(site, site.client, attack.user, call)
    answers["direct"] = _by_client(site, site.direct, None, call)
    said = site.ajax(attack.user, *_named(attack.ajax, name))
    answers["ajax"] = said.status_code, said.json()["message"]
    assert site.snapshot(name) == before
    for door, (status, text) in answers.items():
        code = attack.nobody if door == "direct" else attack.code
        assert f"{code}: " in text, (door, text)
        assert status == STATUS.get(code, 403), (door, text)
        if code == attack.code:
            assert attack.says.replace("NAME", name) in text, (door, text)
        assert "changed" in text, (door, text)
    refused = {
        (row["actor"], row["after"])
        for row in site.audited(name)
        if row["action"] in ("REFUSED", "REQUESTED")
    }
    assert (None, f'{{"code":"{attack.nobody}"}}') in refused
    filed = [row for row in site.audited(name) if row["actor"] == attack.user]
    assert any(row["action"] in ("REFUSED", "REQUESTED") for row in filed), refused


# --- ways that are no single call -------------------------------------------------------------


def test_rows_9_and_10_copies_and_new_versions_are_unapproved(site: Site) -> None:
    name, other = f"gov-{next(_numbers)}", f"gov-{next(_numbers)}"
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
        _, text = _by_client(site, site.client, "erin", call)
        assert f"Version {version} has 0 of 2 approvals" in text
    assert site.snapshot(other)["aliases"] == {}


def test_row_7_a_model_made_again_starts_with_nothing(site: Site) -> None:
    name = f"gov-{next(_numbers)}"
    site.version(name)
    site.approve(name, 1, "prod")
    with site.as_user("erin"):
        site.client.delete_registered_model(name)
    site.version(name)
    _, text = _by_client(
        site, site.client, "erin", ("set_registered_model_alias", name, "prod", "1")
    )
    assert "Version 1 has 0 of 2 approvals" in text
    actions = [row["action"] for row in site.audited(name)]
    assert actions[-3:] == ["STALE", "MODEL_DELETED", "REQUESTED"]


def test_row_11_a_check_tag_changed_after_approval_makes_it_stale(site: Site) -> None:
    name = f"gov-{next(_numbers)}"
    site.version(name)
    site.approve(name, 1, "prod")
    with site.as_user("svc-ci"):
        site.client.set_model_version_tag(name, "1", "tests", "failed")
        site.client.set_model_version_tag(name, "1", "tests", "passed")
    _, text = _by_client(
        site, site.client, "erin", ("set_registered_model_alias", name, "prod", "1")
    )
    assert "Version 1 has 0 of 2 approvals" in text
    assert "STALE" in [row["action"] for row in site.audited(name)]


def test_row_14_descriptions_are_free(site: Site) -> None:
    name = f"gov-{next(_numbers)}"
    a_holder(site, name)
    with site.as_user("erin"):
        site.client.update_model_version(name, "1", "what it does")
        site.client.update_registered_model(name, "what it is for")
        site.client.set_model_version_tag(name, "1", "owner", "erin")
    assert site.stock.get_model_version(name, 1).description == "what it does"


def test_row_5_archiving_is_approved_and_recorded_as_such(site: Site) -> None:
    name = f"gov-{next(_numbers)}"
    a_holder(site, name)
    call = ("transition_model_version_stage", name, "2", "Production", True)
    _by_client(site, site.client, "erin", call)
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
    name = f"gov-{next(_numbers)}"
    a_holder(site, name)
    said = site.ajax("erin", *_named(_alias("prod")["ajax"], name))
    assert said.status_code == 403
    assert said.json()["error_code"] == "PERMISSION_DENIED"


def test_nothing_was_a_server_error_and_the_log_holds(site: Site) -> None:
    with site.store.engine.connect() as connection:
        assert audit.verify(connection).is_intact
    log = site.server.log.read_text()
    assert "Traceback" not in log
    assert " 500" not in log
