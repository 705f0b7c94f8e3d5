"""The pages of models: which there are, who held each target, and the form to ask for approval."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.utils.search_utils import SearchUtils
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from mlflow_plugins_pack.approvals.api import actions
from mlflow_plugins_pack.approvals.api.dependencies import ReviewOf, VisitorOf
from mlflow_plugins_pack.approvals.api.review import Review, not_found
from mlflow_plugins_pack.approvals.api.visitors import Visitor
from mlflow_plugins_pack.approvals.domain import clock
from mlflow_plugins_pack.approvals.domain.projection import REQUEST_SUFFIX, TargetStatus
from mlflow_plugins_pack.approvals.domain.review_pages import ROOT
from mlflow_plugins_pack.approvals.domain.tag_names import PROJECTION_PREFIX, PROMPT_FLAG_TAG
from mlflow_plugins_pack.approvals.domain.targets import parse_target
from mlflow_plugins_pack.approvals.policy.models import Policy
from mlflow_plugins_pack.approvals.reports import holders, request_lists
from mlflow_plugins_pack.approvals.reports.request_lists import Filters
from mlflow_plugins_pack.approvals.web.forms import Form
from mlflow_plugins_pack.approvals.web.rendering import Pages, status_of

router = APIRouter(prefix=ROOT, include_in_schema=False)

Name = Annotated[str, Query(min_length=1, max_length=256)]
_PAGE_SIZE = 50
_MAX_VERSIONS = 100
_LARGEST_OFFSET = (1 << 31) - 1


@router.get("/models")
def models(
    request: Request,
    review: ReviewOf,
    visitor: VisitorOf,
    text: Annotated[str, Query(max_length=256)] = "",
    page_token: Annotated[str, Query(max_length=1000)] = "",
) -> HTMLResponse:
    """Show the models that the visitor may read."""
    _check_token(page_token)
    params: dict[str, Any] = {"max_results": _PAGE_SIZE, "page_token": page_token}
    if text:
        # A quote cannot be written in MLflow's filters.
        params["filter"] = f"name ILIKE '%{text.replace(chr(39), '_').replace('%', '_')}%'"
    answer = review.server.call(
        "GET", "registered-models/search", visitor.credentials, params=params
    )
    rows = [
        {
            "name": model["name"],
            "aliases": [(a["alias"], a["version"]) for a in model.get("aliases", ())],
            "latest": max((int(v["version"]) for v in model.get("latest_versions", ())), default=0),
        }
        for model in answer.get("registered_models", ())
    ]
    return Pages(request, review, visitor).page(
        "models.html",
        section="Models",
        models=rows,
        text=text,
        token=answer.get("next_page_token", ""),
    )


def _check_token(token: str) -> None:
    """Refuse a token that MLflow did not write: it answers many of them with an error of its own.

    Raises:
        MlflowException: ``INVALID_PARAMETER_VALUE``.
    """
    try:
        offset = SearchUtils.parse_start_offset_from_page_token(token)
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError):
        offset = -1
    if not 0 <= offset <= _LARGEST_OFFSET:
        raise MlflowException(
            "This part of the list does not exist. Nothing was changed. Begin with the first part.",
            INVALID_PARAMETER_VALUE,
        )


@router.get("/models/model")
def model(
    request: Request, review: ReviewOf, visitor: VisitorOf, name: Name, version: str = ""
) -> HTMLResponse:
    """Show a model or prompt."""
    return _page(request, review, visitor, name, version)


@router.post("/models/model")
def ask(request: Request, review: ReviewOf, visitor: VisitorOf, name: Name, form: Form) -> Response:
    """Ask for approval of a version."""
    number = form.get("version", "")
    try:
        try:
            version, target = int(number), parse_target(form.get("target", ""))
        except ValueError as exc:
            raise MlflowException(f"{exc}. Nothing was changed.", INVALID_PARAMETER_VALUE) from exc
        text = form.get("text", "").strip()
        found = actions.ask(review, visitor, name, version, target, text)
    except MlflowException as exc:
        return _page(
            request, review, visitor, name, number, problem=exc.message, status=status_of(exc)
        )
    pages = Pages(request, review, visitor)
    return RedirectResponse(pages.url(f"/requests/{found.id}", done="request"), 303)


def _page(
    request: Request,
    review: Review,
    visitor: Visitor,
    name: str,
    chosen: str = "",
    problem: str = "",
    status: int = 200,
) -> HTMLResponse:
    if not review.may_read(visitor, name):
        raise not_found(f"the model or prompt {name!r}")
    model = review.server.call(
        "GET", "registered-models/get", visitor.credentials, params={"name": name}
    ).get("registered_model", {})
    tags = {tag["key"]: tag.get("value", "") for tag in model.get("tags", ())}
    is_prompt = tags.get(PROMPT_FLAG_TAG, "").lower() == "true"
    now = clock.now_ms()

    def read(session: Any, policy: Policy) -> dict[str, Any]:
        about: dict[str, Any] = {"workspace": visitor.workspace, "user": visitor.user}
        open_requests = request_lists.listed(
            session, policy, "open", now_ms=now, filters=Filters(model=name), **about
        )
        timelines = holders.timelines(session, visitor.workspace, name)
        rules = policy.rules_for(visitor.workspace, name, is_prompt=is_prompt)
        protected = dict.fromkeys(target for rule in rules for target in rule.all_targets())
        return {
            "open": open_requests,
            "timelines": [(parse_target(key), found) for key, found in timelines.items()],
            "protected": list(protected),
        }

    return Pages(request, review, visitor).page(
        "model.html",
        status=status,
        section="Models",
        name=name,
        is_prompt=is_prompt,
        versions=_versions(review, visitor, name, model, is_prompt=is_prompt),
        chosen=int(chosen) if chosen.isdecimal() else 0,
        problem=problem,
        **review.read(visitor, read),
    )


def _versions(
    review: Review, visitor: Visitor, name: str, model: dict[str, Any], *, is_prompt: bool
) -> list[dict[str, Any]]:
    quoted = "'" + name.replace("'", "''") + "'" if "'" not in name else f'"{name}"'
    wanted = f"name = {quoted}"
    if is_prompt:
        wanted += f" AND tags.`{PROMPT_FLAG_TAG}` = 'true'"
    answer = review.server.call(
        "GET",
        "model-versions/search",
        visitor.credentials,
        params={"filter": wanted, "max_results": _MAX_VERSIONS, "order_by": "version_number DESC"},
    )
    aliases: dict[str, list[str]] = {}
    for alias in model.get("aliases", ()):
        aliases.setdefault(str(alias["version"]), []).append(alias["alias"])
    return [
        {
            "version": int(found["version"]),
            "created": int(found.get("creation_timestamp") or 0),
            "holds": [
                *aliases.get(str(found["version"]), ()),
                *([f"stage {found['current_stage']}"] if _stage(found) else []),
            ],
            "states": _states(found),
        }
        for found in answer.get("model_versions", ())
    ]


def _stage(version: dict[str, Any]) -> bool:
    return version.get("current_stage") not in (None, "", "None")


def _states(version: dict[str, Any]) -> list[tuple[str, str]]:
    """Return what the projection tags of a version say."""
    found = []
    for tag in version.get("tags", ()):
        key = tag["key"]
        if key.startswith(PROJECTION_PREFIX) and key.endswith(REQUEST_SUFFIX):
            target = key[len(PROJECTION_PREFIX) : -len(REQUEST_SUFFIX)]
            try:
                found.append((target, TargetStatus.from_json(tag.get("value", "")).text))
            except ValueError:
                continue
    return sorted(found)
