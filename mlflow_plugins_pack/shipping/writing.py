"""Writes a run, a logged model and a version at the target; each call may be repeated.

What is created carries the id of what it stands for from its first moment, so that a shipment that
was interrupted finds it again.
"""

from __future__ import annotations

import contextlib
import io
import itertools
from collections.abc import Iterable, Iterator
from typing import Any

from mlflow.exceptions import MlflowException

from mlflow_plugins_pack.errors import NotShippableError
from mlflow_plugins_pack.shipping import record
from mlflow_plugins_pack.shipping.record import (
    Dataset,
    ModelRecord,
    Point,
    RunRecord,
    VersionRecord,
    carried_tags,
)

_METRICS_AT_ONCE = 1_000
_TAGS_AT_ONCE = 100
_DATASETS_AT_ONCE = 100


def find_version(client: Any, name: str, shipment_id: str) -> Any:
    """Return the version that a shipment registered, or None."""
    found = client.search_model_versions(
        f"name = {_quoted(name)} AND tags.`{record.ID_TAG}` = '{shipment_id}'", max_results=10
    )
    return min(found, key=lambda one: int(one.version), default=None)


def _quoted(text: str) -> str:
    if "'" not in text:
        return f"'{text}'"
    if '"' not in text:
        return f'"{text}"'
    raise NotShippableError(
        f"The model's name {text!r} has both kinds of quotation marks, so no server can be asked "
        "for it. Nothing was copied. Give another name with --as."
    )


def experiment_of(client: Any, name: str) -> str:
    """Return the id of an experiment, which is created if it does not exist.

    Raises:
        NotShippableError: If it was deleted.
    """
    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return str(client.create_experiment(name))
        except MlflowException as exc:
            if exc.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            found = client.get_experiment_by_name(name)
    if found is None or found.lifecycle_stage != "active":
        raise NotShippableError(
            f"The experiment {name!r} is deleted at the target. Nothing was copied. Restore it, or "
            "name another one with --experiment."
        )
    return str(found.experiment_id)


# --- the run --------------------------------------------------------------------------------------


def run_of(client: Any, experiment_id: str, run: RunRecord, link: str) -> Any:
    """Return the run that stands for one of the source, created if it does not exist."""
    found = client.search_runs(
        [experiment_id], f"tags.`{record.RUN_TAG}` = '{run.run_id}'", max_results=1
    )
    if found:
        return found[0]
    tags = {record.RUN_TAG: run.run_id, record.FROM_TAG: link}
    if user := run.tags.get("mlflow.user"):
        tags["mlflow.user"] = user
    return client.create_run(experiment_id, run.started, tags, run.name)


def write_run(client: Any, run_id: str, run: RunRecord, history: Iterable[list[Point]]) -> int:
    """Write parameters, tags, datasets and metrics; return the number of points."""
    from mlflow.entities import Metric, Param, RunTag

    params = [Param(key, value) for key, value in run.params.items()]
    for some in _batches(params, _TAGS_AT_ONCE):
        client.log_batch(run_id, params=some)
    tags = [RunTag(key, value) for key, value in carried_tags(run.tags).items()]
    for more in _batches(tags, _TAGS_AT_ONCE):
        client.log_batch(run_id, tags=more)
    for used in _batches(run.datasets, _DATASETS_AT_ONCE):
        client.log_inputs(run_id, datasets=[_dataset_input(one) for one in used])
    count = 0
    for points in _batches(itertools.chain.from_iterable(history), _METRICS_AT_ONCE):
        client.log_batch(run_id, metrics=[Metric(*point) for point in points])
        count += len(points)
    return count


def _dataset_input(used: Dataset) -> Any:
    from mlflow.entities import Dataset as MlflowDataset
    from mlflow.entities import DatasetInput, InputTag

    return DatasetInput(
        MlflowDataset(
            used.name, used.digest, used.source_type, used.source, used.schema, used.profile
        ),
        [InputTag(key, value) for key, value in used.tags],
    )


def end_run(client: Any, run_id: str, run: RunRecord) -> None:
    """Set the run to the status and the end that it has at the source."""
    if run.ended is not None or run.status != "RUNNING":
        # It prints where the run can be seen.
        with contextlib.redirect_stdout(io.StringIO()):
            client.set_terminated(run_id, run.status, run.ended)


# --- the logged model -----------------------------------------------------------------------------


def model_of(
    client: Any, experiment_id: str, run_id: str | None, version: VersionRecord, link: str
) -> Any:
    """Return the logged model that stands for one of the source, created if it does not exist.

    A version without a logged model gets one, for its files to have a place.
    """
    model = version.model
    mark = model.model_id if model is not None else version.shipment_id
    found = client.search_logged_models(
        [experiment_id], f"tags.`{record.MODEL_TAG}` = '{mark}'", max_results=1
    )
    if found:
        return found[0]
    tags = {record.MODEL_TAG: mark, record.FROM_TAG: link}
    if model is None:
        return client.create_logged_model(experiment_id, version.name, run_id, tags)
    tags |= carried_tags(model.tags)
    return client.create_logged_model(
        experiment_id, model.name, run_id, tags, dict(model.params), model.model_type
    )


def write_model(
    client: Any, run_id: str | None, model_id: str, model: ModelRecord | None, step: int
) -> None:
    """Write a model's metrics, and that its run logged it."""
    from mlflow.entities import LoggedModelOutput, Metric

    if run_id is None:
        return
    for points in _batches(model.points if model else (), _METRICS_AT_ONCE):
        client.log_batch(
            run_id,
            metrics=[
                Metric(
                    *one.point,
                    model_id=model_id,
                    dataset_name=one.dataset_name,
                    dataset_digest=one.dataset_digest,
                    run_id=run_id,
                )
                for one in points
            ],
        )
    outputs = client.get_run(run_id).outputs
    # The server appends, so a second call would add it again.
    if not any(one.model_id == model_id for one in (outputs.model_outputs if outputs else ())):
        client.log_outputs(run_id, [LoggedModelOutput(model_id, step)])


def finish_model(client: Any, model_id: str) -> None:
    """Mark a logged model as complete."""
    from mlflow.entities import LoggedModelStatus

    if client.get_logged_model(model_id).status != LoggedModelStatus.READY:
        client.finalize_logged_model(model_id, LoggedModelStatus.READY)


# --- the version ----------------------------------------------------------------------------------


def register(
    client: Any,
    name: str,
    version: VersionRecord,
    *,
    place: str,
    run_id: str | None,
    model_id: str | None,
    tags: dict[str, str],
) -> Any:
    """Register the version; the last thing that is written at the target.

    Raises:
        NotShippableError: If the target has a prompt of that name.
    """
    try:
        client.create_registered_model(
            name, carried_tags(version.model_tags), version.model_description
        )
    except MlflowException as exc:
        if exc.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
        if client.get_prompt(name) is not None:
            raise NotShippableError(
                f"{name!r} is a prompt at the target. Nothing was registered. Give another name "
                "with --as."
            ) from exc
    return client.create_model_version(
        name,
        place,
        run_id,
        tags=carried_tags(version.tags) | tags,
        description=version.description,
        # Waiting is for registries that copy files.
        await_creation_for=0,
        model_id=model_id,
    )


def _batches(items: Iterable[Any], length: int) -> Iterator[list[Any]]:
    rest = iter(items)
    while some := list(itertools.islice(rest, length)):
        yield some
