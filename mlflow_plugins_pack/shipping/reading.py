"""Reads a version and what belongs to it from a server; every answer has a bound."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from mlflow.exceptions import MlflowException

from mlflow_plugins_pack.approvals.domain.attestation import AttestedApproval
from mlflow_plugins_pack.approvals.domain.projection import (
    APPROVAL_SUFFIX,
    REQUEST_SUFFIX,
    HolderApproval,
    TargetStatus,
)
from mlflow_plugins_pack.approvals.domain.tag_names import PROJECTION_PREFIX
from mlflow_plugins_pack.errors import NotShippableError, ReservedTagError
from mlflow_plugins_pack.shipping import record
from mlflow_plugins_pack.shipping.ends import End
from mlflow_plugins_pack.shipping.record import (
    Dataset,
    ModelPoint,
    ModelRecord,
    Point,
    RunRecord,
    SourceApproval,
    VersionRecord,
)

_WANTED = re.compile(
    r"(?:models:/)?(?P<name>[^/:@]+)(?:/(?P<version>[1-9]\d{0,8})|@(?P<alias>[\w-]+))"
)
_LOGGED_MODEL = re.compile(r"models:/(?P<id>m-[0-9a-zA-Z]+)/?")
_RUN_PATH = re.compile(r"runs:/(?P<run>[^/]+)/(?P<path>.+)")


def read_version(source: End, wanted: str) -> VersionRecord:
    """Read a version.

    Args:
        source: The server.
        wanted: ``models:/NAME/VERSION`` or ``models:/NAME@ALIAS``.

    Raises:
        NotShippableError: If it is a prompt, too large, or without files.
        MlflowException: If it does not exist or cannot be read.
    """
    match = _WANTED.fullmatch(wanted)
    if match is None:
        raise NotShippableError(
            f"{wanted!r} is not models:/NAME/VERSION or models:/NAME@ALIAS. Nothing was copied."
        )
    with source.acting() as client:
        registered = _registered(client, match["name"])
        if match["alias"]:
            found = client.get_model_version_by_alias(match["name"], match["alias"])
        else:
            found = client.get_model_version(match["name"], match["version"])
        run = _run(client, found.run_id)
        place = client.get_model_version_download_uri(found.name, str(found.version))
        model, location, path = _place(client, found, run, place)
    if not location:
        raise NotShippableError(
            f"models:/{found.name}/{found.version} names no place of its files that another server "
            f"could have ({str(found.source)[:300]!r}). Nothing was copied. Register it from a run "
            "or a logged model."
        )
    source.check(location)
    return VersionRecord(
        name=found.name,
        version=int(found.version),
        created=int(found.creation_timestamp or 0),
        location=location,
        path_in_run=path,
        description=found.description or None,
        tags=_bounded("tags of the version", dict(found.tags), record.MAX_TAGS),
        model_description=registered.description or None,
        model_tags=_bounded("tags of the model", dict(registered.tags), record.MAX_TAGS),
        run=run,
        model=model,
        approvals=tuple(_approvals(found.tags)),
    )


def _registered(client: Any, name: str) -> Any:
    try:
        return client.get_registered_model(name)
    except MlflowException as exc:
        # The stock client hides prompts.
        if exc.error_code != "RESOURCE_DOES_NOT_EXIST" or client.get_prompt(name) is None:
            raise
    raise NotShippableError(
        f"{name!r} is a prompt; models can be shipped. Nothing was copied. Register the prompt's "
        "text at the target."
    )


def _place(
    client: Any, found: Any, run: RunRecord | None, place: str
) -> tuple[ModelRecord | None, str | None, str | None]:
    """Return the logged model, where the files are, and their path below the run's artifacts."""
    match = _LOGGED_MODEL.fullmatch(place) or _LOGGED_MODEL.fullmatch(found.source or "")
    if match is not None:
        logged = client.get_logged_model(match["id"])
        return _model(logged, run), logged.artifact_location, None
    in_run = _RUN_PATH.fullmatch(place)
    if in_run is not None and run is not None and in_run["run"] == run.run_id:
        return None, posixpath.join(run.artifact_uri, in_run["path"]), in_run["path"].strip("/")
    if place.startswith(("runs:", "models:")):
        return None, None, None
    root = f"{run.artifact_uri.rstrip('/')}/" if run is not None else None
    path = place[len(root) :].strip("/") if root and place.startswith(root) else None
    return None, place, path or None


def _run(client: Any, run_id: str | None) -> RunRecord | None:
    if not run_id:
        return None
    found = client.get_run(run_id)
    inputs = found.inputs.dataset_inputs if found.inputs else []
    outputs = found.outputs.model_outputs if found.outputs else []
    return RunRecord(
        run_id=found.info.run_id,
        name=found.info.run_name,
        experiment=client.get_experiment(found.info.experiment_id).name,
        status=found.info.status,
        started=found.info.start_time,
        ended=found.info.end_time,
        artifact_uri=found.info.artifact_uri,
        params=_bounded("parameters", dict(found.data.params), record.MAX_PARAMS),
        tags=_bounded("tags of the run", dict(found.data.tags), record.MAX_TAGS),
        metrics=tuple(_bounded("metrics", dict(found.data.metrics), record.MAX_METRICS)),
        datasets=tuple(map(_dataset, _bounded("datasets", inputs, record.MAX_DATASETS))),
        output_steps={output.model_id: int(output.step or 0) for output in outputs},
    )


def _dataset(used: Any) -> Dataset:
    about = used.dataset
    return Dataset(
        about.name,
        about.digest,
        about.source_type,
        about.source,
        about.schema,
        about.profile,
        tuple((tag.key, tag.value) for tag in used.tags or ()),
    )


def _model(found: Any, run: RunRecord | None) -> ModelRecord:
    measured = list(_bounded("metrics of the model", found.metrics or [], record.MAX_POINTS))
    own = [m for m in measured if run is not None and m.run_id == run.run_id]
    return ModelRecord(
        model_id=found.model_id,
        name=found.name,
        model_type=found.model_type or None,
        params=_bounded("parameters of the model", dict(found.params or {}), record.MAX_PARAMS),
        tags=_bounded("tags of the model", dict(found.tags or {}), record.MAX_TAGS),
        points=tuple(
            ModelPoint(
                Point(m.key, float(m.value), int(m.timestamp), int(m.step or 0)),
                m.dataset_name,
                m.dataset_digest,
            )
            for m in own
        ),
        other_points=len(measured) - len(own),
    )


def history(source: End, run: RunRecord) -> Iterator[list[Point]]:
    """Yield the history of each metric of a run.

    Raises:
        NotShippableError: If there are too many points.
    """
    left = record.MAX_POINTS
    for key in run.metrics:
        with source.acting() as client:
            found = client.get_metric_history(run.run_id, key)
        left -= len(found)
        if left < 0:
            raise _too_many("points of metrics", record.MAX_POINTS)
        yield [Point(key, float(m.value), int(m.timestamp), int(m.step or 0)) for m in found]


def _approvals(tags: Mapping[str, str]) -> Iterator[SourceApproval]:
    """Yield the approvals by which a version holds aliases and stages, as its tags show them."""
    for key, value in sorted(tags.items()):
        if not key.startswith(PROJECTION_PREFIX) or not key.endswith(APPROVAL_SUFFIX):
            continue
        target = key.removeprefix(PROJECTION_PREFIX).removesuffix(APPROVAL_SUFFIX)
        try:
            held = HolderApproval.from_json(value)
            asked = TargetStatus.from_json(
                tags.get(f"{PROJECTION_PREFIX}{target}{REQUEST_SUFFIX}", "")
            )
        except ValueError:
            continue
        if held.digest and asked.request_id == held.request_id and asked.state.is_approved:
            approved = AttestedApproval(target, held.request_id, asked.approvers)
            yield SourceApproval(held.digest, approved)


def enforces_approvals(source: End, version: VersionRecord) -> bool:
    """Return whether the source keeps clients from writing the tags that show its approvals.

    It is asked to write such a tag; a stock server does, and would do so for anyone.
    """
    key = f"{PROJECTION_PREFIX}ship-asks{APPROVAL_SUFFIX}"
    with source.acting() as client:
        try:
            client.set_model_version_tag(version.name, str(version.version), key, "")
        except MlflowException as exc:
            fields = getattr(exc, "json", None)
            return isinstance(fields, dict) and fields.get("pack_code") == ReservedTagError.code
        client.delete_model_version_tag(version.name, str(version.version), key)
    return False


def _bounded(what: str, found: Any, most: int) -> Any:
    if isinstance(found, Collection) and len(found) > most:
        raise _too_many(what, most)
    return found


def _too_many(what: str, most: int) -> NotShippableError:
    return NotShippableError(
        f"the version has more than {most:,} {what}. Nothing was registered. It cannot be shipped."
    )
