"""What visitors do with requests; REST endpoints and pages share it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mlflow_plugins_pack.approvals.api.facts import read_version
from mlflow_plugins_pack.approvals.api.review import Review, not_found, require_user
from mlflow_plugins_pack.approvals.api.visitors import Visitor
from mlflow_plugins_pack.approvals.commands.runner import Command
from mlflow_plugins_pack.approvals.domain import clock
from mlflow_plugins_pack.approvals.domain.tag_names import COMMAND_PREFIX
from mlflow_plugins_pack.approvals.domain.targets import Target
from mlflow_plugins_pack.approvals.ledger.requests import Request, find_requests
from mlflow_plugins_pack.approvals.policy.facts import Facts
from mlflow_plugins_pack.approvals.reports import request_details, request_lists
from mlflow_plugins_pack.approvals.reports.request_details import RequestDetails


def details_of(review: Review, visitor: Visitor, request: Request) -> RequestDetails:
    """Return a request's details; the facts for its checks are read as the visitor may."""
    now = clock.now_ms()

    def read(facts: Sequence[Facts]) -> RequestDetails:
        return review.read(
            visitor, lambda s, policy: request_details.read(s, policy, request, now, facts)
        )

    details = read(())
    if details.rule is None or not any(check.needs for check in details.rule.checks):
        return with_files(review, visitor, details)
    numbers = [request.version]
    numbers += [details.holder.version] if details.holder is not None else []
    facts = [read_version(review, visitor, request.name, n).facts() for n in numbers]
    return with_files(review, visitor, read(facts))


def with_files(review: Review, visitor: Visitor, details: RequestDetails) -> RequestDetails:
    """Return the details with a look at whether the version's files were written since."""
    with review.acting(visitor):
        return details.with_files()


def ask(
    review: Review, visitor: Visitor, name: str, version: int, target: Target, text: str
) -> Request:
    """Ask for approval, as the stock command tag does: MLflow requires the permission EDIT.

    Raises:
        MlflowException: If MLflow or the policy refuses it.
    """
    require_user(visitor)
    review.require_read(visitor, name)
    _tag(review, visitor, name, version, target, "request", text)
    found = newest(review, visitor, name, version, target)
    if found is None:
        raise not_found(f"the request for version {version} of {name!r} and {target}")
    return found


def newest(
    review: Review, visitor: Visitor, name: str, version: int, target: Target
) -> Request | None:
    """Return the newest request for a version and target."""
    found = review.read(
        visitor,
        lambda s, _: find_requests(
            s, workspace=visitor.workspace, name=name, version=version, target=target
        ),
    )
    return found[0] if found else None


def act(review: Review, visitor: Visitor, request: Request, name: str, text: str) -> Request:
    """Vote, comment or cancel on a request, and return it as it is then.

    It is written as the server: reading the model and a vote by the policy are enough.

    Raises:
        MlflowException: If the policy refuses it.
    """
    about = (request.name, request.version, request.target)
    review.give(visitor, name, Command(*about, text or None, request.id))
    return again(review, visitor, request)


def break_glass(review: Review, visitor: Visitor, request: Request, text: str) -> Request:
    """Promote the version without approval in an emergency, by the stock command tag.

    Raises:
        MlflowException: If MLflow or the policy refuses it.
    """
    _tag(review, visitor, request.name, request.version, request.target, "break_glass", text)
    return again(review, visitor, request)


def _tag(
    review: Review,
    visitor: Visitor,
    name: str,
    version: int,
    target: Target,
    command: str,
    text: str,
) -> None:
    tag = {"key": f"{COMMAND_PREFIX}{command}", "value": f"{target.tag}: {text}"}
    body = {"name": name, "version": str(version), **tag}
    review.forward(visitor, "POST", "model-versions/set-tag", body)


def apply(review: Review, visitor: Visitor, request: Request) -> Request:
    """Make an approved change by the stock call, with the visitor's own credentials.

    Raises:
        MlflowException: If MLflow or the policy refuses it.
    """
    name, version, target = request.name, str(request.version), request.target
    body: dict[str, Any]
    if target.kind == "stage":
        body = {"name": name, "version": version, "stage": request.stage or target.name}
        body["archive_existing_versions"] = request.archive_existing
        review.forward(visitor, "POST", "model-versions/transition-stage", body)
    elif request.action == "demote":
        body = {"name": name, "alias": target.name}
        review.forward(visitor, "DELETE", "registered-models/alias", body)
    else:
        body = {"name": name, "alias": target.name, "version": version}
        review.forward(visitor, "POST", "registered-models/alias", body)
    return again(review, visitor, request)


def again(review: Review, visitor: Visitor, request: Request) -> Request:
    """Read a request again."""
    found = review.read(visitor, lambda s, _: request_lists.find(s, request.id))
    if found is None:
        raise not_found(f"the request {request.id!r}")
    return found


def edit_comment(review: Review, visitor: Visitor, comment_id: str, text: str | None) -> None:
    """Change the visitor's own comment, or delete it.

    Raises:
        MlflowException: If they have no comment of that id.
    """
    require_user(visitor)
    comment = comment_of(review, visitor, comment_id)
    if not review.may_read(visitor, comment["name"]):
        raise not_found(f"the comment {comment_id!r}")
    with review.acting(visitor) as store:
        store.commands.comments.edit(comment_id, text)


def comment_of(review: Review, visitor: Visitor, comment_id: str) -> Mapping[str, Any]:
    """Return a comment.

    Raises:
        MlflowException: If it does not exist.
    """
    found = review.read(visitor, lambda s, _: request_lists.find_comment(s, comment_id))
    if found is None or found["workspace"] != visitor.workspace:
        raise not_found(f"the comment {comment_id!r}")
    return found
