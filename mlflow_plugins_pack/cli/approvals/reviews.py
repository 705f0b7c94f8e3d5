"""``approvals request``, ``approve``, ``reject`` and the like: commands as version tags.

Each writes one ``approvals.*`` tag through the stock client, so the same command works against a
server and against a database.
"""

from __future__ import annotations

from typing import Any

import click
from mlflow.exceptions import MlflowException

from mlflow_plugins_pack.cli.approvals.arguments import (
    Registry,
    is_prompt_of,
    parse_version,
    registry_options,
    target_argument,
    version_of,
)
from mlflow_plugins_pack.cli.approvals.projections import fields_of, status_of
from mlflow_plugins_pack.cli.output import echo
from mlflow_plugins_pack.errors import ConfigurationError, NotAnApproverError
from mlflow_plugins_pack.uris import REGISTRY_WORD, is_pack_uri, without_credentials


def _command(name: str, summary: str, done: str, tag: str | None = None) -> click.Command:
    @click.command(name, help=summary)
    @click.argument("model_version", callback=parse_version)
    @click.argument("target", callback=target_argument)
    @click.option("-m", "--message", default="", help="Why; kept with the request.")
    @click.option("--request", "request_id", default="", help="ID of the request you have seen.")
    @registry_options
    def run(
        model_version: Any, target: str, message: str, registry: Registry, request_id: str = ""
    ) -> None:
        model, version = model_version
        if not registry.is_server and not is_pack_uri(REGISTRY_WORD, registry.uri):
            raise ConfigurationError(
                f"{without_credentials(registry.uri)!r} opens the stock registry, which has no "
                "approvals. Nothing was changed. Give a server's address, where you are signed in."
            )
        client = registry.client()
        key, value = (
            f"approvals.{tag or name}",
            f"{target}{request_id and f' #{request_id}'}: {message}",
        )
        try:
            if is_prompt_of(client, model):
                client.set_prompt_version_tag(model, version, key, value)
            else:
                client.set_model_version_tag(model, str(version), key, value)
        except MlflowException as exc:
            _explain_denial(exc, model)
            raise
        tags = version_of(client, model, version).tags
        echo(done.format(version=f"models:/{model}/{version}", target=target))
        if (status := status_of(tags, target)) is not None:
            echo(f"{target}: {status.text}")

    if name not in _ABOUT_A_REQUEST:
        run.params = [param for param in run.params if param.name != "request_id"]
    return run


_ABOUT_A_REQUEST = frozenset({"approve", "withdraw", "reject", "cancel"})


def _explain_denial(exc: MlflowException, model: str) -> None:
    """Raise what explains a refusal by MLflow's own permission check; others are left alone."""
    if exc.error_code == "PERMISSION_DENIED" and "pack_code" not in fields_of(exc):
        raise NotAnApproverError(
            f"MLflow's own permission check refused this: a command is a version tag, and setting "
            f"one needs the permission EDIT on '{model}'. Nothing was changed. Vote on the page of "
            "the review app, for which READ is enough, or ask for EDIT: protected targets stay "
            "protected from it."
        ) from exc


REVIEW_COMMANDS = (
    _command(
        "request",
        "Ask for MODEL_VERSION to become TARGET.",
        "Asked for {version} to become {target}.",
    ),
    _command(
        "approve", "Approve MODEL_VERSION's request for TARGET.", "Approved {version} for {target}."
    ),
    _command(
        "withdraw",
        "Withdraw your approval while the request is pending.",
        "Withdrew your approval of {version} for {target}.",
    ),
    _command(
        "break-glass",
        "Promote MODEL_VERSION without approval in an emergency; it is reviewed afterwards.",
        "Promoted {version} to {target}; a review waits.",
        "break_glass",
    ),
    _command(
        "break-glass-demote",
        "Take TARGET away from MODEL_VERSION in an emergency; it is reviewed afterwards.",
        "Took {target} away from {version}; a review waits.",
        "break_glass.demote",
    ),
    _command(
        "reject", "Reject MODEL_VERSION's request for TARGET.", "Rejected {version} for {target}."
    ),
    _command(
        "cancel",
        "Withdraw your request for TARGET.",
        "Cancelled the request of {version} for {target}.",
    ),
    _command(
        "comment", "Comment on MODEL_VERSION and TARGET.", "Commented on {version} for {target}."
    ),
    _command(
        "comment-edit",
        "Change your newest comment on MODEL_VERSION and TARGET.",
        "Changed your comment on {version} for {target}.",
        "comment.edit",
    ),
    _command(
        "comment-delete",
        "Delete your newest comment on MODEL_VERSION and TARGET.",
        "Deleted your comment on {version} for {target}.",
        "comment.delete",
    ),
)
