"""Every single call by which what production serves could change without approval.

`ATTACKS` is the table; test_attacks.py makes each of them through every interface.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.approvals.support.sites import Site
from tests.support.acting import signed_in


@dataclass(frozen=True)
class Attack:
    """One way around, and what must come of it.

    Attributes:
        row: number of the attempt in `attack_table`.
        what: In words.
        prepare: Makes the model or prompt of the given name ready.
        client: Method of the stock client and its arguments; ``NAME`` is the model.
        ajax: Verb, path and body of the same call from MLflow's own pages.
        prompt_api: The same through the client's prompt methods.
        code: What the refusal begins with.
        says: What else it says.
        unsigned: the code without a signed-in user: a direct client, a job.
        database: What a stock client that opens the database meets: the guards; or why they let it
            pass, which must gain nothing.
        user: Who tries.
    """

    row: int
    what: str
    prepare: Callable[[Site, str], None]
    client: tuple[Any, ...]
    ajax: tuple[str, str, dict[str, Any]]
    code: str
    says: str
    unsigned: str = "IDENTITY_REQUIRED"
    database: str = "refused"
    prompt_api: tuple[Any, ...] | None = None
    user: str = "erin"
    prefix: str = "gov"


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


def a_run_as_source(site: Site, name: str) -> None:
    """The version's files are those of a run, over which a logged model can be laid later."""
    with site.as_user("alice"):
        run = site.client.create_run(site.client.create_experiment(name)).info.run_id
    with signed_in("alice"):
        site.store.create_registered_model(name)
        site.store.create_model_version(name, f"runs:/{run}/code", run)


def elsewhere(site: Site, name: str) -> None:
    """The version's files are not in the server's own store."""
    site.version(name)


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


def alias_call(alias: str, version: str = "2") -> dict[str, Any]:
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


SHOWN = "the tag is for display: no decision reads it"
LOGGED = "a check's tag counts as the log saw it written, and by whom"
COMPARED = "the text is compared with what was approved when the change is made"
EITHER = "what has files stays a model, whatever it is called"
OBEYED = "the server obeys commands, the database stores a tag"
SILENT = "the database tells a reviewer nothing, and the tag does not count as a vote"

TEXT = "mlflow.prompt.text"
MODEL_CONFIG = "_mlflow_prompt_model_config"
FLAG = "mlflow.prompt.is_prompt"
REQUIRED, RESERVED, LOCKED = "APPROVAL_REQUIRED", "RESERVED_TAG", "CONTENT_LOCKED"
DELETE = {"code": "PROTECTED_DELETE", "unsigned": "PROTECTED_DELETE"}
RENAME = {"code": "PROTECTED_RENAME", "unsigned": "PROTECTED_RENAME"}
TAGGED = {"code": RESERVED, "unsigned": RESERVED}
TEXTED = {"code": LOCKED, "unsigned": LOCKED}
NEEDS = "is protected by policy 'prod'. Version 2 has 0 of 2 approvals (leads 0/1, risk 0/1)"
LOOKS = "differs from the protected alias 'prod' of policy 'prod' only in case or form"

ATTACKS = [
    Attack(1, "alias moved", a_holder, **alias_call("prod"), code=REQUIRED, says=NEEDS),
    Attack(
        1, "by the admin", a_holder, **alias_call("prod"), code=REQUIRED, says=NEEDS, user="admin"
    ),
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
        Attack(
            3, f"alias {a}", a_holder, **alias_call(a), code=REQUIRED, says=LOOKS, unsigned=REQUIRED
        )
        for a in ("Prod", "PROD")
    ),
    Attack(
        3,
        "full-width alias",
        a_holder,
        **alias_call("ｐｒｏｄ"),
        code=REQUIRED,
        unsigned=REQUIRED,
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
        database=SHOWN,
    ),
    Attack(
        11,
        "projection forged in capitals",
        requested,
        **_tag("1", "MLflow_Approvals.prod", "APPROVED 2/2"),
        **TAGGED,
        says="written by the registry alone",
        database=SHOWN,
    ),
    Attack(
        11,
        "projection deleted",
        requested,
        **_untag("1", "mlflow_approvals.prod"),
        **TAGGED,
        says="written by the registry alone",
        database=SHOWN,
    ),
    Attack(
        11,
        "check tag by any user",
        requested,
        **_tag("1", "tests", "passed"),
        **TAGGED,
        says="only group:ci may",
        database=LOGGED,
    ),
    Attack(
        11,
        "check tag of a holder deleted",
        a_holder,
        **_untag("1", "tests"),
        **TAGGED,
        says="only group:ci may",
        database=LOGGED,
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
        database=COMPARED,
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
        **alias_call("prod"),
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
        database=SHOWN,
    ),
    Attack(
        15,
        "model called a prompt",
        a_holder,
        ("set_registered_model_tag", "NAME", FLAG, "true"),
        ("POST", "registered-models/set-tag", {"name": "NAME", "key": FLAG, "value": "true"}),
        **TAGGED,
        says="whether 'NAME' is a prompt decides which policy governs it",
        database=EITHER,
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
            database=OBEYED,
            says="prod" if command != "cancel" else "made by 'alice'",
        )
        for command in ("approve", "reject", "cancel")
    ),
    Attack(
        22,
        "prompt approved by a stranger",
        a_requested_prompt,
        **_tag("1", "approvals.approve", "prod: me"),
        code="NOT_AN_APPROVER",
        says="'erin' has no vote on alias 'prod' of 'NAME'",
        database=OBEYED,
        prompt_api=("set_prompt_version_tag", "NAME", 1, "approvals.approve", "prod: me"),
        prefix="say",
    ),
    Attack(
        23,
        "approved by the admin",
        requested,
        **_tag("1", "approvals.approve", "prod: I rule"),
        code="NOT_AN_APPROVER",
        says="'admin' has no vote on alias 'prod' of 'NAME'",
        user="admin",
        database=OBEYED,
    ),
    Attack(
        34,
        "a run as source",
        a_run_as_source,
        **alias_call("prod", "1"),
        code="SOURCE_NOT_PINNED",
        says="logged model of that name",
    ),
    Attack(
        34,
        "asked about with a run as source",
        a_run_as_source,
        **_tag("1", "approvals.request", "prod: please"),
        code="SOURCE_NOT_PINNED",
        says="logged model of that name",
        database=OBEYED,
    ),
    Attack(
        40,
        "files elsewhere",
        elsewhere,
        **alias_call("prod", "1"),
        code="SOURCE_NOT_ALLOWED",
        says="sources_under",
        prefix="own",
    ),
    *(
        Attack(
            38,
            f"misspelt vote {key}",
            requested,
            **_tag("1", key, "prod: fine"),
            **TAGGED,
            says="'approvals.approve'",
            user="bob",
            database=SILENT,
        )
        for key in ("approval.approve", "approvals.aprove", "Approvals.Approved")
    ),
    Attack(
        38,
        "misspelt vote on a prompt",
        a_requested_prompt,
        **_tag("1", "approval.approve", "prod: fine"),
        **TAGGED,
        says="'approvals.approve'",
        user="bob",
        prompt_api=("set_prompt_version_tag", "NAME", 1, "approval.approve", "prod: fine"),
        prefix="say",
        database=SILENT,
    ),
    Attack(
        38,
        "state imitated",
        requested,
        **_tag("1", "mlflow-approvals.prod", "APPLIED 2/2"),
        **TAGGED,
        says="could be taken for",
        database=SILENT,
    ),
]
