"""What ``mlflow-pack doctor`` asks about approvals."""

from __future__ import annotations

import configparser
from typing import TYPE_CHECKING

from mlflow_plugins_pack.errors import NotServedYetError, PackError
from mlflow_plugins_pack.findings import Finding
from mlflow_plugins_pack.uris import (
    REGISTRY_WORD,
    is_pack_uri,
    scheme_of,
    without_credentials,
)

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from mlflow_plugins_pack.approvals.policy.models import Policy

_MAY_SET_TAGS = ("EDIT", "MANAGE")
"""MLflow's permissions with ``can_update``."""


def check(registry_uri: str | None) -> list[Finding]:
    """Check the policy file, the tables, the audit chain and the holders of protected targets.

    Args:
        registry_uri: The registry's URI as the server has it; None: only the policy is checked.
    """
    findings = []
    if registry_uri and "approval" in scheme_of(registry_uri).split("+")[1:]:
        findings.append(
            Finding(
                "error",
                "registry URI",
                f"{without_credentials(registry_uri)!r} opens the stock store: nothing is enforced."
                " Put approval- in front, as in approval-sqlite:///mlflow.db.",
            )
        )
    served = registry_uri is not None and is_pack_uri(REGISTRY_WORD, registry_uri)
    findings += _policy(served)
    if served and registry_uri is not None:
        findings += _database(registry_uri)
    return findings


def _policy(served: bool) -> list[Finding]:
    from mlflow_plugins_pack.approvals.policy.source import policy_path, read_policy
    from mlflow_plugins_pack.approvals.webhooks import secret_values
    from mlflow_plugins_pack.settings import APPROVALS_POLICY

    if not served and not APPROVALS_POLICY.is_set():
        return []
    try:
        path = policy_path()
        policy = read_policy(path)
    except PackError as exc:
        return [Finding("error", "approvals policy", exc.message)]
    count = len(policy.file.policies)
    problems = secret_values.problems(policy.file.events.secrets())
    unset = [
        Finding(
            "error",
            "webhook",
            f"{problem}. Its events wait until the server has the secret: set it where the server "
            "starts.",
        )
        for problem in problems
    ]
    text = f"{path}: {count} {'policy' if count == 1 else 'policies'}, sha256 {policy.sha256}"
    return [*unset, Finding("ok", "approvals policy", text), *_reviewers(policy)]


def _in_force(connection: Connection, policy: Policy) -> list[Finding]:
    from mlflow_plugins_pack.approvals.database import policies

    found = policies.in_force(connection)
    if found is None or found[0] == policy.sha256:
        return [Finding("ok", "policy in force", "the policy file's")]
    text = (
        f"the servers of this database decide by the policy with sha256 {found[0]}, and the file "
        f"here has {policy.sha256}. Give every server the same file, or run: mlflow-pack approvals "
        "policy activate"
    )
    return [Finding("error", "policy in force", text)]


def _reviewers(policy: Policy) -> list[Finding]:
    """Warn where MLflow's basic-auth keeps approvers from the tags that they vote by."""
    from mlflow.environment_variables import MLFLOW_AUTH_CONFIG_PATH

    path = MLFLOW_AUTH_CONFIG_PATH.get()
    if not path or "basic_auth" not in policy.file.identity.sources:
        return []
    config = configparser.ConfigParser()
    try:
        config.read(path)
        default = config["mlflow"]["default_permission"]
    except (OSError, KeyError, configparser.Error) as exc:
        text = f"the basic-auth configuration {path} names no default_permission ({exc})"
        return [Finding("warning", "reviewers", text)]
    if default in _MAY_SET_TAGS:
        return [Finding("ok", "reviewers", f"every user has {default}, and so may set the tags")]
    text = (
        f"default_permission is {default}: a vote is a version tag, which MLflow lets only users "
        "with EDIT on the model set, by the client, the UI and mlflow-pack approvals alike. Have "
        "the members of the policy's groups vote on the review app, for which READ is enough "
        "(mlflow-pack review serve), or give them EDIT on the models that they review"
    )
    return [Finding("warning", "reviewers", text)]


def _guards(connection: Connection, policy: Policy | None) -> list[Finding]:
    from mlflow_plugins_pack.approvals.guards import install

    found = install.status(connection)
    if problems := found.problems(policy):
        return [Finding("error", "database guards", problem) for problem in problems]
    if not found.is_installed:
        text = (
            "not installed: who has the database's password can go around the server. Run "
            "mlflow-pack approvals guards install to have the database refuse that"
        )
        return [Finding("ok", "database guards", text)]
    return [Finding("ok", "database guards", "installed, whole")]


def _database(uri: str) -> list[Finding]:
    import sqlalchemy as sa
    from sqlalchemy.orm import Session

    from mlflow_plugins_pack.approvals.background import drift
    from mlflow_plugins_pack.approvals.database import schema
    from mlflow_plugins_pack.approvals.ledger import audit_log
    from mlflow_plugins_pack.approvals.policy.source import policy_path, read_policy
    from mlflow_plugins_pack.approvals.reports import databases

    findings = []
    try:
        with databases.connected(uri) as connection:
            at = f"at revision {schema.current_revision(connection)}"
            findings.append(Finding("ok", "approvals tables", at))
            missing = schema.missing_triggers(connection)
            if missing:
                text = f"the triggers {', '.join(missing)} are gone: the log can be rewritten"
                findings.append(Finding("error", "audit log", text))
            chain = audit_log.verify(connection)
            if chain.is_intact:
                findings.append(Finding("ok", "audit log", f"{chain.entries} entries, intact"))
            else:
                findings.append(Finding("error", "audit log", chain.problem or "broken"))
            try:
                policy = read_policy(policy_path())
            except PackError:
                return [*findings, *_guards(connection, None)]
            findings += _in_force(connection, policy)
            findings += _guards(connection, policy)
            with Session(bind=connection) as session:
                drifted = drift.find(session, policy)
    except NotServedYetError as exc:
        # Before a server's first start that is as it should be.
        return [Finding("warning", "approvals tables", exc.message)]
    except (PackError, sa.exc.SQLAlchemyError) as exc:
        text = exc.message if isinstance(exc, PackError) else str(exc)
        return [*findings, Finding("error", "approvals tables", text)]
    for drift_finding in drifted:
        text = (
            f"{drift_finding.target} of '{drift_finding.model}': {drift_finding.why}. It was so "
            "before the policy, or the server was bypassed. Have it approved, or correct it."
        )
        findings.append(Finding("warning", "drift", text))
    if not drifted:
        findings.append(Finding("ok", "drift", "every protected holder was approved"))
    return findings
