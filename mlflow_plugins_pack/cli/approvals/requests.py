"""``approvals list``, ``show``, ``comments``: which requests exist, where a version stands.

Against a server they read the tags of versions through stock REST endpoints, and the review app
where there is one; against a database they read the tables.
"""

from __future__ import annotations

from typing import Any

import click

from mlflow_plugins_pack.approvals.domain.messages import moment
from mlflow_plugins_pack.approvals.domain.tag_names import PROMPT_FLAG_TAG
from mlflow_plugins_pack.approvals.domain.targets import parse_target
from mlflow_plugins_pack.cli.approvals import review_api
from mlflow_plugins_pack.cli.approvals.arguments import (
    Registry,
    is_prompt_of,
    parse_version,
    registry_options,
)
from mlflow_plugins_pack.cli.approvals.projections import as_row, statuses_of
from mlflow_plugins_pack.cli.output import echo, json_option, print_json, print_rows, quoted
from mlflow_plugins_pack.errors import ConfigurationError, NoOpenRequestError


@click.command("list")
@click.option("--all", "also_closed", is_flag=True, help="Closed requests too.")
@json_option
@registry_options
def list_requests(also_closed: bool, as_json: bool, registry: Registry) -> None:
    """List requests; by default the open ones."""
    none = "There are no requests." if also_closed else "No request waits."
    if registry.is_server:
        rows = _projections(registry, also_closed=also_closed)
        columns = ["model", "version", "target", "status"]
        print_rows(rows, columns, as_json=as_json, if_none=none)
        return
    from mlflow_plugins_pack.approvals.reports import databases, listings

    with databases.connected(registry.uri) as connection:
        rows = listings.requests_in(connection, only_open=not also_closed)
    for row in rows:
        row["approved_by"] = ", ".join(
            vote["approver"] for vote in row["votes"] if vote["verdict"] == "approve"
        )
    columns = ["request", "model", "version", "target", "action", "state", "requester"]
    print_rows(rows, [*columns, "approved_by"], as_json=as_json, if_none=none)


def _projections(registry: Registry, *, also_closed: bool) -> list[dict[str, Any]]:
    """Return a row for each request that the tags of a server's versions show."""
    client = registry.client()
    rows: list[dict[str, Any]] = []
    # A search leaves prompts out unless it asks for them.
    for wanted in (None, f"tags.`{PROMPT_FLAG_TAG}` = 'true'"):
        token = None
        while True:
            page = client.search_model_versions(wanted, max_results=1000, page_token=token)
            for version in page:
                about = {"model": version.name, "version": int(version.version)}
                rows += [
                    about | as_row(target, status)
                    for target, status in statuses_of(version.tags).items()
                    if also_closed or status.state.is_open
                ]
            token = page.token
            if not token:
                break
    return rows


@click.command()
@click.argument("model_version", callback=parse_version)
@json_option
@registry_options
def show(model_version: Any, as_json: bool, registry: Registry) -> None:
    """Show where MODEL_VERSION (models:/NAME/VERSION) stands for each target."""
    name, version = model_version
    if registry.is_server:
        client = registry.client()
        is_prompt = is_prompt_of(client, name)
        if is_prompt:
            found = client.get_prompt_version(name, version)
        else:
            found = client.get_model_version(name, str(version))
        rows = [as_row(target, status) for target, status in statuses_of(found.tags).items()]
        shown = {"model": name, "version": version, "aliases": list(found.aliases)}
        shown |= {"stage": None if is_prompt else found.current_stage, "targets": rows}
        requests = review_api.details_of(registry.uri, name, version)
        if requests is not None:
            shown["requests"] = requests
        if as_json:
            print_json(shown)
            return
        echo(f"{'prompts' if is_prompt else 'models'}:/{name}/{version}")
        if shown["stage"] not in (None, "None"):
            echo(f"stage: {shown['stage']}")
        echo(f"aliases: {', '.join(found.aliases) or 'none'}")
        if rows:
            print_rows(rows, ["target", "status"], as_json=False)
        else:
            echo("No requests.")
        for request in requests or ():
            _print_details(request)
        return
    from mlflow_plugins_pack.approvals.reports import databases, listings

    with databases.connected(registry.uri) as connection:
        requests = listings.requests_in(connection, name=name, version=version)
        uids = listings.uids_of(connection, name, version)
        said = listings.comments_of(connection, uids)
    if not requests and not said:
        raise NoOpenRequestError(
            f"models:/{name}/{version} has neither requests nor comments. "
            "Check the name and the number."
        )
    if as_json:
        print_json({"requests": requests, "comments": said})
        return
    for request in requests:
        _print_request(request)
    _print_comments(said)


@click.command()
@click.argument("model_version", callback=parse_version)
@json_option
@registry_options
def comments(model_version: Any, as_json: bool, registry: Registry) -> None:
    """List the comments on MODEL_VERSION, oldest first.

    From a server they come through the review app; a version's tags do not have them.
    """
    name, version = model_version
    if registry.is_server:
        requests = review_api.details_of(registry.uri, name, version)
        if requests is None:
            raise ConfigurationError(
                "Comments of a server are read through the review app, and it has none here. "
                "Nothing was read. Set MLFLOW_PACK_REVIEW_URL to the app's address, or give the "
                "registry's database."
            )
        listed = {row["id"]: row for request in requests for row in request["comments"]}
        rows = sorted(listed.values(), key=lambda row: (row["created_at"], row["id"]))
    else:
        from mlflow_plugins_pack.approvals.reports import databases, listings

        with databases.connected(registry.uri) as connection:
            uids = listings.uids_of(connection, name, version)
            rows = listings.comments_of(connection, uids)
    if as_json:
        print_json(rows)
        return
    _print_comments(rows)
    if not rows:
        echo("There are no comments.")


def _print_comments(rows: list[dict[str, Any]]) -> None:
    for comment in rows:
        author = comment["author"] or "unknown"
        about = f" on {parse_target(comment['target']).tag}" if comment.get("target") else ""
        edited = ", edited" if comment.get("edited_at") else ""
        when = moment(comment["created_at"])
        echo(f"{when} {author}{about}{edited}: {quoted(comment['text'])}")


def _print_details(request: dict[str, Any]) -> None:
    """Print a request as its page shows it."""
    _print_request({**request, "request": request["id"], "creator": None, "run_user": None})
    echo(f"  policy: {request['policy']}")
    if request["expires_at"] and request["state"] == "PENDING":
        echo(f"  waits until {moment(request['expires_at'])}")
    if request["approvals_needed"]:  # none are needed once the version is the target
        basis = "" if request["basis"] == "votes" else f" ({request['basis']})"
        echo(f"  approvals: {request['approvals']} of {request['approvals_needed']}{basis}")
    for rule in request["needs"]:
        echo(f"  needs {rule['count']} of {rule['group']}: {', '.join(rule['members'])}")
    if request["holder"] is not None:
        echo(f"  version {request['holder']} is {request['target']} now")
    if request["may_approve"]:
        echo(f"  may still approve: {', '.join(request['may_approve'])}")
    for check in request["checks"]:
        echo(f"  {'lacks' if check['problems'] else 'passes'}: {check['check']}")
        for problem in check["problems"]:
            echo(f"    requires {problem}")
    if request["frozen_until"] != 0:
        until = request["frozen_until"]
        echo(f"  frozen {f'until {moment(until)}' if until else 'for more than a month'}")
    if request.get("files_changed"):
        echo("  its files were written since; votes count only if they are the same still")
    if request["policy_changed"]:
        echo("  the policy has changed since; the one in force decides")
    if request["available_actions"]:
        actions = ", ".join(request["available_actions"]).replace("_", "-")
        echo(f"  you may: {actions}")
    _print_comments(request["comments"])


def _print_request(request: dict[str, Any]) -> None:
    reason = f" ({quoted(request['reason'])})" if request["reason"] else ""
    echo(
        f"Request {request['request']}: {request['action']} models:/{request['model']}/"
        f"{request['version']} to {request['target']}: {request['state']}{reason}"
    )
    echo(f"  asked by {request['requester']} at {moment(request['created_at'])}")
    if request["creator"]:
        echo(f"  registered by {request['creator']}, who may not approve it by default")
    if request["run_user"]:
        echo(
            f"  its run was created in the name of {request['run_user']}, who may not approve it "
            "by default"
        )
    if request["comment"]:
        echo(f"  {quoted(request['comment'])}")
    if request["digest"]:
        echo(f"  bytes {request['digest']}")
    elif request["action"] == "promote":
        echo("  its files are being read; it can be approved after that")
    for vote in request["votes"]:
        said = f": {quoted(vote['comment'])}" if vote["comment"] else ""
        echo(f"  {moment(vote['decided_at'])} {vote['approver']} {vote['verdict']}{said}")
