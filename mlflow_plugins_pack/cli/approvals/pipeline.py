"""``approvals wait``, ``apply``, ``verify``: a pipeline's steps, each with its exit code."""

from __future__ import annotations

import re
import sys
import time
import warnings
from typing import Any

import click
from mlflow.exceptions import MlflowException

from mlflow_plugins_pack.approvals.domain.tag_names import DIGEST_SUFFIX, PROJECTION_PREFIX
from mlflow_plugins_pack.approvals.domain.targets import parse_target
from mlflow_plugins_pack.cli.approvals.arguments import (
    client_of,
    is_prompt_of,
    is_server,
    parse_version,
    registry_of,
    target_argument,
    version_of,
)
from mlflow_plugins_pack.cli.output import json_option, print_json, registry_options
from mlflow_plugins_pack.cli.parameters import DURATION
from mlflow_plugins_pack.errors import (
    ApprovalRequiredError,
    ConfigurationError,
    DigestingError,
    NoOpenRequestError,
    StaleApprovalError,
)

STILL_WAITING = 3
_WAITING = ("PENDING", "DEMOTE PENDING", "BREAK-GLASS REVIEW PENDING")
_DECIDED = ("APPROVED", "DEMOTE APPROVED", "APPLIED", "BREAK-GLASS REVIEWED")
_HELD = ("APPLIED", "BREAK-GLASS REVIEWED")


@click.command()
@click.argument("model_version", callback=parse_version)
@click.argument("target", callback=target_argument)
@click.option("--timeout", default="24h", show_default=True, type=DURATION, help="How long.")
@click.option("--interval", default="2s", show_default=True, type=DURATION, help="How often.")
@registry_options
def wait(
    model_version: tuple[str, int],
    target: str,
    timeout: int,
    interval: int,
    tracking_uri: str | None,
    registry_store_uri: str | None,
) -> None:
    """Wait until the request of MODEL_VERSION for TARGET is decided.

    Ends with 0 when it is approved (or applied already), with 1 when it is rejected, cancelled,
    expired, stale or superseded, with 3 when the time is up before a decision.
    """
    name, version = model_version
    client = client_of(registry_of(tracking_uri, registry_store_uri))
    deadline, shown = time.monotonic() + timeout, ""
    while True:
        state = version_of(client, name, version).tags.get(PROJECTION_PREFIX + target, "")
        if state != shown:
            click.echo(f"{target}: {state}")
            shown = state
        if state.startswith(_DECIDED):
            return
        if not state.startswith(_WAITING):
            reason = f"it is {state}" if state else "no such request exists"
            raise NoOpenRequestError(
                f"no request of models:/{name}/{version} for {target} waits: {reason}. Nothing was "
                f"changed. To ask: mlflow-pack approvals request models:/{name}/{version} {target}."
            )
        left = deadline - time.monotonic()
        if left <= 0:
            click.echo("The request is not decided yet; wait again later.", err=True)
            raise click.exceptions.Exit(STILL_WAITING)
        time.sleep(min(interval, left))


@click.command()
@click.argument("model_version", callback=parse_version)
@click.argument("target", callback=target_argument)
@click.option("--archive-existing", is_flag=True, help="Archive the versions in the stage.")
@click.option(
    "--timeout",
    default="1h",
    show_default=True,
    type=DURATION,
    help="How long to wait while the server reads large files again.",
)
@registry_options
def apply(
    model_version: tuple[str, int],
    target: str,
    archive_existing: bool,
    timeout: int,
    tracking_uri: str | None,
    registry_store_uri: str | None,
) -> None:
    """Make MODEL_VERSION the TARGET: the stock call, which goes through once it is approved.

    Ends with 0 when it is done, with 1 when it was refused; the first refusal files the request.
    Large files are read again before they are applied: it waits for that, and ends with 3 when the
    time is up.
    """
    deadline, shown = time.monotonic() + timeout, ""
    while True:
        try:
            _apply(model_version, target, archive_existing, tracking_uri, registry_store_uri)
        except MlflowException as exc:
            if f"{DigestingError.code}: " not in exc.message:
                raise
            if (how_far := _how_far(exc.message)) != shown:
                click.echo(f"The files are being read: {how_far}")
                shown = how_far
            left = deadline - time.monotonic()
            if left <= 0:
                click.echo("They are not read yet; apply again later.", err=True)
                raise click.exceptions.Exit(STILL_WAITING) from exc
            time.sleep(min(2, left))
        else:
            return


def _how_far(message: str) -> str:
    found = re.search(r"are being read \(([^)]*)\)", message)
    return found[1] if found else ""


def _apply(
    model_version: tuple[str, int],
    target: str,
    archive_existing: bool,
    tracking_uri: str | None,
    registry_store_uri: str | None,
) -> None:
    name, version = model_version
    client = client_of(registry_of(tracking_uri, registry_store_uri))
    wanted = parse_target(target)
    if wanted.kind == "stage":
        with warnings.catch_warnings():
            # Stages are deprecated in stock MLflow, and still there.
            warnings.simplefilter("ignore", FutureWarning)
            client.transition_model_version_stage(name, str(version), wanted.name, archive_existing)
    elif archive_existing:
        raise click.UsageError("--archive-existing is for stages")
    elif is_prompt_of(client, name):
        client.set_prompt_alias(name, wanted.name, version)
    else:
        client.set_registered_model_alias(name, wanted.name, str(version))
    click.echo(f"models:/{name}/{version} is {target}.")


@click.command()
@click.argument("model")
@click.argument("target", callback=target_argument, required=False)
@json_option
@registry_options
def verify(
    model: str,
    target: str | None,
    as_json: bool,
    tracking_uri: str | None,
    registry_store_uri: str | None,
) -> None:
    """Check that MODEL holds TARGET by an approval of exactly the bytes that are there now.

    MODEL is models:/NAME/VERSION, or models:/NAME@ALIAS, whose TARGET is the alias. Run it in the
    step that deploys: it downloads the files and compares their digest with the approved one. Ends
    with 0 if all is well, with 1 if not.
    """
    uri = registry_of(tracking_uri, registry_store_uri)
    client = client_of(uri)
    name, version, target = _which(client, model, target)
    found = version_of(client, name, version)
    wanted = parse_target(target)
    holds = (
        wanted.name in found.aliases
        if wanted.kind == "alias"
        else found.current_stage == wanted.name
    )
    state = found.tags.get(PROJECTION_PREFIX + target, "")
    approved = found.tags.get(PROJECTION_PREFIX + target + DIGEST_SUFFIX)
    what = f"models:/{name}/{version}"
    if not holds or not state.startswith(_HELD) or approved is None:
        is_so = "is not" if not holds else "is, but not by an approval,"
        raise ApprovalRequiredError(
            f"{what} {is_so} {target} (its state: {state or 'no request'}). "
            "Nothing was changed. Do not deploy it; have it approved and applied first."
        )
    now = _digest(client, uri, name, version, found)
    if now != approved:
        raise StaleApprovalError(
            f"the bytes of {what} are not those approved as {target}: approved was {approved}, "
            f"there is {now}. Nothing was changed. Do not deploy it; find out who wrote there."
        )
    if as_json:
        print_json({"model": name, "version": version, "target": target, "digest": now})
    else:
        click.echo(f"{what} is {target}: {state}; its bytes are those approved, {now}.")


def _which(client: Any, model: str, target: str | None) -> tuple[str, int, str]:
    match = re.fullmatch(r"(?:models:/|prompts:/)?([^/:@]+)(?:/([1-9]\d*)|@([\w\-]+))", model)
    if match is None:
        raise click.UsageError("MODEL is models:/NAME/VERSION or models:/NAME@ALIAS")
    name, number, alias = match.groups()
    if alias is not None:
        if is_prompt_of(client, name):
            version = client.get_prompt_version_by_alias(name, alias).version
        else:
            version = client.get_model_version_by_alias(name, alias).version
        return name, int(version), target or alias
    if target is None:
        raise click.UsageError("Which target? Give TARGET, or MODEL as models:/NAME@ALIAS.")
    return name, int(number), target


def _digest(client: Any, uri: str, name: str, version: int, found: Any) -> str:
    """Read the version's bytes as its consumers do."""
    import mlflow

    from mlflow_plugins_pack.approvals.content import digest
    from mlflow_plugins_pack.approvals.database.mlflow_tables import Version

    is_prompt = is_prompt_of(client, name)
    location = None if is_prompt else client.get_model_version_download_uri(name, str(version))
    if is_server(uri):
        mlflow.set_tracking_uri(uri)
    elif location is not None and location.startswith("mlflow-artifacts:"):
        raise ConfigurationError(
            f"The files are reached through a server, and {sys.argv[0]} was given a database. "
            "Nothing was checked. Give the server's address: --tracking-uri http://..."
        )
    about = Version(
        workspace="",
        name=name,
        version=version,
        uid="",
        stage="None",
        source=location,
        storage_location=location,
        run_id=None,
        is_prompt=is_prompt,
        has_files=not is_prompt,
    )
    return digest.version_digest(about, _prompt_tags(found) if is_prompt else {})


def _prompt_tags(found: Any) -> dict[str, str | None]:
    # The client takes the tags a prompt consists of out of what it calls its tags.
    tags: dict[str, str | None] = dict(getattr(found, "_tags", None) or found.tags)
    return tags
