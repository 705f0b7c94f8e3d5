"""What lineage uses of MLflow's insides; a failure here names what a new MLflow changed."""

from __future__ import annotations

import inspect

import mlflow
import pytest
from mlflow.tracking import fluent

from mlflow_plugins_pack.lineage import mlflow_internals as adapter

pytestmark = pytest.mark.compat


def test_end_run_asks_the_monitors_after_setting_the_run_terminated() -> None:
    source = inspect.getsource(fluent.end_run)
    assert source.index("set_terminated") < source.index(
        "last_active_run_id in run_id_to_system_metrics_monitor"
    )
    assert source.index("_last_active_run_id.set") < source.index("set_terminated")
    assert isinstance(fluent.run_id_to_system_metrics_monitor, dict)


def test_active_runs_of_all_threads_are_listed() -> None:
    assert isinstance(fluent._active_run_stack.get_all_thread_values(), dict)
    assert fluent._active_run_stack.get() == []
    assert adapter.active_run() is None
    assert adapter.other_threads_runs() == []


def test_providers_match_stock_base_classes() -> None:
    from mlflow.tracking.context.abstract_context import RunContextProvider
    from mlflow.tracking.request_header.abstract_request_header_provider import (
        RequestHeaderProvider,
    )

    from mlflow_plugins_pack.lineage.plugin import LineageContextProvider, LineageFlushTick

    for ours, base in (
        (LineageContextProvider, RunContextProvider),
        (LineageFlushTick, RequestHeaderProvider),
    ):
        for name in ("in_context", "tags", "request_headers"):
            if hasattr(base, name):
                assert inspect.signature(getattr(ours, name)).parameters.keys() == (
                    inspect.signature(getattr(base, name)).parameters.keys()
                )


def test_reporting_dict_is_a_dict_that_tells() -> None:
    asked: list[str] = []
    monitors = adapter.ReportingDict({"a": 1}, asked.append)
    assert "a" in monitors
    assert "b" not in monitors
    assert 3 not in monitors
    assert asked == ["a", "b"]
    monitors["c"] = 2
    assert monitors.pop("c") == 2
    assert monitors == {"a": 1}


def test_store_reports_the_end_of_a_run_in_a_frame_that_is_found() -> None:
    from mlflow.store.tracking.rest_store import RestStore

    parameters = list(inspect.signature(RestStore.update_run_info).parameters)
    assert parameters == ["self", "run_id", "run_status", "end_time", "run_name"]
    found: list[str | None] = []

    def update_run_info(run_id: str, run_status: int, end_time: int | None) -> None:
        found.append(adapter.run_id_being_ended())

    update_run_info("abc", 3, 17)
    update_run_info("abc", 3, None)
    assert found == ["abc", None]
    assert adapter.run_id_being_ended() is None


def test_status_is_on_the_call_stack_while_a_run_is_ended() -> None:
    from mlflow.tracking._tracking_service.client import TrackingServiceClient

    parameters = list(inspect.signature(TrackingServiceClient.set_terminated).parameters)
    assert parameters[:3] == ["self", "run_id", "status"]

    def set_terminated(run_id: str, status: str | None) -> str | None:
        return adapter.status_being_set()

    assert set_terminated("abc", "FAILED") == "FAILED"
    assert set_terminated("abc", None) == "FINISHED"
    assert adapter.status_being_set() is None


def test_what_is_fetched_ends_in_methods_that_are_there() -> None:
    from mlflow.store.artifact.models_artifact_repo import ModelsArtifactRepository
    from mlflow.store.artifact.runs_artifact_repo import RunsArtifactRepository
    from mlflow.tracking._model_registry.client import ModelRegistryClient
    from mlflow.utils.autologging_utils import safety

    from mlflow_plugins_pack.lineage.capture import call_stack

    run_id = "0" * 32
    assert RunsArtifactRepository.parse_runs_uri(f"runs:/{run_id}/a/b")[0] == run_id
    for method in (
        RunsArtifactRepository.download_artifacts,
        ModelsArtifactRepository.download_artifacts,
        ModelRegistryClient.create_model_version,
        mlflow.MlflowClient.download_artifacts,
    ):
        assert callable(method)
    source = inspect.getsource(ModelsArtifactRepository.__init__)
    assert "self.model_name" in source
    assert "self.model_version" in source
    assert str(safety.__file__).endswith(call_stack._ORIGINAL_CALLED)


def test_limits_are_those_that_the_tags_are_made_for() -> None:
    from mlflow.utils import validation

    from mlflow_plugins_pack.lineage.document import datasets, tags

    assert validation.MAX_TAG_VAL_LENGTH >= tags.LIMIT_BYTES
    assert validation.MAX_DATASET_DIGEST_SIZE == datasets.DIGEST_CHARACTERS
    assert validation.MAX_DATASET_NAME_SIZE == datasets._NAME_CHARACTERS
    assert validation.MAX_DATASET_SOURCE_SIZE > datasets._SOURCE_CHARACTERS
    assert validation.MAX_DATASETS_PER_BATCH >= datasets.LIMIT


def test_missing_insides_are_survived(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "run_id_to_system_metrics_monitor",
        "_active_run_stack",
        "_last_active_run_id",
    ):
        if name != "_active_run_stack":
            monkeypatch.delattr(fluent, name)
    assert not adapter.watch_run_ends(lambda _: None)
    assert adapter.last_ended_run() is None
    assert mlflow.active_run() is None
