"""The methods of MLflow's client that lineage's searches use, with a visitor's own credentials.

So MLflow's permissions decide which runs and versions an answer has. The server may be part of this
process, which stock's client cannot reach.
"""

from __future__ import annotations

import re
from typing import Any

from mlflow.entities import Experiment, LoggedModel, Run
from mlflow.entities.model_registry import ModelVersion, RegisteredModel
from mlflow.exceptions import MlflowException
from mlflow.protos import model_registry_pb2 as registry
from mlflow.protos import service_pb2 as service
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST
from mlflow.store.entities.paged_list import PagedList
from mlflow.utils.proto_json_utils import parse_dict

from mlflow_plugins_pack.approvals.api.review import Review
from mlflow_plugins_pack.approvals.api.visitors import Visitor

_FEW = 2
_MODEL_ID = re.compile(r"[0-9A-Za-z_-]{1,256}")


class VisitorClient:
    """Asks the server in a visitor's place, the same question once.

    Each method is that of `MlflowClient`.

    Args:
        review: The review app's parts.
        visitor: Who asks.
    """

    def __init__(self, review: Review, visitor: Visitor) -> None:
        self._review, self._visitor = review, visitor
        self._answers: dict[str, dict[str, Any]] = {}

    def _ask(
        self, method: str, path: str, answer: Any, values: dict[str, Any], *, is_kept: bool = False
    ) -> Any:
        sent = {name: value for name, value in values.items() if value is not None}
        where = {"params": sent} if method == "GET" else {"json": sent}
        # A walk upstream and one downstream ask the same to begin with.
        question = f"{path} {sent!r}"
        if question not in self._answers:

            def ask() -> dict[str, Any]:
                return self._review.server.call(method, path, self._visitor.credentials, **where)

            self._answers[question] = (
                self._review.kept(self._visitor, question, ask) if is_kept else ask()
            )
        parse_dict(self._answers[question], answer)
        return answer

    def search_experiments(self, max_results: int, page_token: str | None) -> PagedList[Any]:
        """Return a page of the experiments that the visitor may read."""
        values = {"max_results": max_results, "page_token": page_token}
        answer = service.SearchExperiments.Response()
        found = self._ask("GET", "experiments/search", answer, values, is_kept=True)
        return PagedList(map(Experiment.from_proto, found.experiments), found.next_page_token)

    def search_runs(
        self,
        experiment_ids: list[str],
        filter_string: str,
        max_results: int,
        page_token: str | None,
    ) -> PagedList[Any]:
        """Return a page of the runs that a filter matches."""
        values = {
            "experiment_ids": experiment_ids,
            "filter": filter_string,
            "max_results": max_results,
            "page_token": page_token,
        }
        # So few runs are asked for to know whether there are any.
        is_kept = max_results <= _FEW
        answer = service.SearchRuns.Response()
        found = self._ask("POST", "runs/search", answer, values, is_kept=is_kept)
        return PagedList(map(Run.from_proto, found.runs), found.next_page_token)

    def get_run(self, run_id: str) -> Any:
        """Return a run."""
        found = self._ask("GET", "runs/get", service.GetRun.Response(), {"run_id": run_id})
        return Run.from_proto(found.run)

    def get_logged_model(self, model_id: str) -> Any:
        """Return a logged model.

        Raises:
            MlflowException: If there is none of that id, or it is not an id.
        """
        if not _MODEL_ID.fullmatch(model_id):  # it is a part of the address
            raise MlflowException(
                f"There is no logged model {model_id!r}. Nothing was read.", RESOURCE_DOES_NOT_EXIST
            )
        found = self._ask("GET", f"logged-models/{model_id}", service.GetLoggedModel.Response(), {})
        return LoggedModel.from_proto(found.model)

    def get_registered_model(self, name: str) -> Any:
        """Return a registered model."""
        found = self._ask(
            "GET",
            "registered-models/get",
            registry.GetRegisteredModel.Response(),
            {"name": name},
        )
        return RegisteredModel.from_proto(found.registered_model)

    def get_model_version(self, name: str, version: str) -> Any:
        """Return a version."""
        found = self._ask(
            "GET",
            "model-versions/get",
            registry.GetModelVersion.Response(),
            {"name": name, "version": version},
        )
        return ModelVersion.from_proto(found.model_version)

    def get_model_version_by_alias(self, name: str, alias: str) -> Any:
        """Return the version behind an alias."""
        found = self._ask(
            "GET",
            "registered-models/alias",
            registry.GetModelVersionByAlias.Response(),
            {"name": name, "alias": alias},
        )
        return ModelVersion.from_proto(found.model_version)

    def search_model_versions(
        self, filter_string: str, max_results: int, page_token: str | None
    ) -> PagedList[Any]:
        """Return a page of the versions that a filter matches."""
        values = {"filter": filter_string, "max_results": max_results, "page_token": page_token}
        found = self._ask(
            "GET", "model-versions/search", registry.SearchModelVersions.Response(), values
        )
        return PagedList(map(ModelVersion.from_proto, found.model_versions), found.next_page_token)

    def list_artifacts(self, _run_id: str, _path: str) -> list[Any]:
        """Return nothing: records are read from the tags, whose shortened ones say so.

        Stock's client would read the artifact with the rights of this process.
        """
        return []
