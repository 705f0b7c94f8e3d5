"""``approvals wait``, ``apply``, ``verify``: a pipeline's steps, each with its exit code."""

from __future__ import annotations

import re
import sys
import time
import warnings
from typing import Any

import click
from mlflow.exceptions import MlflowException

from mlflow_plugins_pack.approvals.domain.basis import BasisKind
from mlflow_plugins_pack.approvals.domain.digest_progress import DigestProgress
from mlflow_plugins_pack.approvals.domain.projection import TargetState, TargetStatus
from mlflow_plugins_pack.approvals.domain.targets import parse_target
from mlflow_plugins_pack.cli.approvals.arguments import (
    Registry,
    is_prompt_of,
    parse_version,
    registry_options,
    target_argument,
    version_of,
)
from mlflow_plugins_pack.cli.approvals.projections import approval_of, fields_of, status_of
from mlflow_plugins_pack.cli.output import echo, json_option, print_json
from mlflow_plugins_pack.cli.parameters import DURATION
from mlflow_plugins_pack.errors import (
    ApprovalRequiredError,
    ConfigurationError,
    DigestingError,
    NoOpenRequestError,
    StaleApprovalError,
)

STILL_WAITING = 3


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
    registry: Registry,
) -> None:
    """Wait until the request of MODEL_VERSION for TARGET is decided.

    Ends with 0 when it is approved (or applied already), with 1 when it is rejected, cancelled,
    expired, stale or superseded, with 3 when the time is up before a decision.
    """
    name, version = model_version
    client = registry.client()
    deadline, shown = time.monotonic() + timeout, ""
    while True:
        status = status_of(version_of(client, name, version).tags, target)
        if status is not None and status.text != shown:
            echo(f"{target}: {status.text}")
            shown = status.text
        if status is not None and _is_approved(status):
            return
        if status is None or status.state is not TargetState.PENDING:
            reason = "no such request exists" if status is None else f"it is {status.text}"
            raise NoOpenRequestError(
                f"no request of models:/{name}/{version} for {target} waits: {reason}. Nothing was "
                f"changed. To ask: mlflow-pack approvals request models:/{name}/{version} {target}."
            )
        left = deadline - time.monotonic()
        if left <= 0:
            echo("The request is not decided yet; wait again later.", err=True)
            raise click.exceptions.Exit(STILL_WAITING)
        time.sleep(min(interval, left))


def _is_approved(status: TargetStatus) -> bool:
    """Return whether people approved the request; a version that lost the target is not that."""
    if status.state is TargetState.APPLIED:
        return status.action != "demote" and status.basis.kind is not BasisKind.BREAK_GLASS
    return status.state is TargetState.APPROVED


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
    registry: Registry,
) -> None:
    """Make MODEL_VERSION the TARGET: the stock call, which goes through once it is approved.

    Ends with 0 when it is done, with 1 when it was refused; the first refusal files the request.
    Large files are read again before they are applied: it waits for that, and ends with 3 when the
    time is up.
    """
    deadline, shown = time.monotonic() + timeout, ""
    while True:
        try:
            _apply(model_version, target, archive_existing, registry)
        except MlflowException as exc:
            fields = fields_of(exc)
            if fields.get("pack_code") != DigestingError.code:
                raise
            progress = DigestProgress.from_fields(fields.get("progress") or {}).text
            if progress != shown:
                echo(f"The files are being read: {progress}")
                shown = progress
            left = deadline - time.monotonic()
            if left <= 0:
                echo("They are not read yet; apply again later.", err=True)
                raise click.exceptions.Exit(STILL_WAITING) from exc
            time.sleep(min(2, left))
        else:
            return


def _apply(
    model_version: tuple[str, int],
    target: str,
    archive_existing: bool,
    registry: Registry,
) -> None:
    name, version = model_version
    client = registry.client()
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
    echo(f"models:/{name}/{version} is {target}.")


@click.command()
@click.argument("model")
@click.argument("target", callback=target_argument, required=False)
@click.option(
    "--attested-by",
    "keys",
    multiple=True,
    metavar="FINGERPRINT",
    help="Require an attestation of these bytes, signed by this key (sha256:...), too. May be "
    "repeated: one of them must have signed.",
)
@json_option
@registry_options
def verify(
    model: str, target: str | None, keys: tuple[str, ...], as_json: bool, registry: Registry
) -> None:
    """Check that MODEL holds TARGET by an approval of exactly the bytes that are there now.

    MODEL is models:/NAME/VERSION, or models:/NAME@ALIAS, whose TARGET is the alias. Run it in the
    step that deploys: it downloads the files and compares their digest with the approved one. Ends
    with 0 if all is well, with 1 if not.
    """
    client = registry.client()
    name, version, target = _which(client, model, target)
    found = version_of(client, name, version)
    wanted = parse_target(target)
    holds = (
        wanted.name in found.aliases
        if wanted.kind == "alias"
        else found.current_stage == wanted.name
    )
    status, approval = status_of(found.tags, target), approval_of(found.tags, target)
    what = f"models:/{name}/{version}"
    if not holds or approval is None:
        is_so = "is not" if not holds else "is, but not by an approval,"
        state = status.text if status is not None else "no request"
        raise ApprovalRequiredError(
            f"{what} {is_so} {target} (its state: {state}). "
            "Nothing was changed. Do not deploy it; have it approved and applied first."
        )
    approved = approval.digest
    now = _digest(registry, name, version, found)
    if now != approved:
        raise StaleApprovalError(
            f"the bytes of {what} are not those approved as {target}: approved was {approved}, "
            f"there is {now}. Nothing was changed. Do not deploy it; find out who wrote there."
        )
    if keys:
        _check_attested(what, found.tags, name=name, digest=now, keys=keys)
    if as_json:
        about = {"model": name, "version": version, "target": target, "digest": now}
        print_json(about | {"request_id": approval.request_id})
    else:
        by = status.text if status is not None else f"request {approval.request_id}"
        echo(f"{what} is {target}: {by}; its bytes are those approved, {now}.")


def _check_attested(
    what: str, tags: dict[str, str], *, name: str, digest: str, keys: tuple[str, ...]
) -> None:
    from pydantic import ValidationError

    from mlflow_plugins_pack.approvals.domain import clock
    from mlflow_plugins_pack.approvals.policy.attested import AttestedBy

    try:
        asked = AttestedBy(keys=list(keys))
    except ValidationError as exc:
        raise click.UsageError("FINGERPRINT is sha256: and 64 hexadecimal digits") from exc
    why = asked.problem(name=name, digest=digest, tags=tags, approvers=0, now_ms=clock.now_ms())
    if why is not None:
        raise ApprovalRequiredError(
            f"{what} needs an attestation by {asked.describe()}, and {why}. Nothing was changed. "
            "Do not deploy it; ship it again with --sign and the right key."
        )


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


def _digest(registry: Registry, name: str, version: int, found: Any) -> str:
    """Read the version's bytes as its consumers do."""
    import mlflow

    from mlflow_plugins_pack.approvals.content import digest
    from mlflow_plugins_pack.approvals.database.mlflow_tables import Version

    client = registry.client()
    is_prompt = is_prompt_of(client, name)
    location = None if is_prompt else client.get_model_version_download_uri(name, str(version))
    if registry.is_server:
        mlflow.set_tracking_uri(registry.uri)
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
    return digest.downloaded_digest(about, _prompt_tags(found) if is_prompt else {})


def _prompt_tags(found: Any) -> dict[str, str | None]:
    # The client takes the tags a prompt consists of out of what it calls its tags.
    tags: dict[str, str | None] = dict(getattr(found, "_tags", None) or found.tags)
    return tags
