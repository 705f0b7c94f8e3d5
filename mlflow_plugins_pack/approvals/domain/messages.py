"""The text of every refusal; pure.

Each text says what happened and why, what was not changed, and what to do next. It reaches the
stock client as it is, so it names only what every client has: a version tag that the stock client
and UI can set, and the command line.
"""

# Long: all texts of the approvals in one place, so that they are worded alike.

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone

from mlflow_plugins_pack.approvals.domain.request_states import State, Tally
from mlflow_plugins_pack.approvals.domain.targets import Target

UNCHANGED = "Nothing was changed."


def moment(ms: int) -> str:
    """Format a time in milliseconds since the epoch, to the minute, UTC."""
    return datetime.fromtimestamp(ms / 1000, timezone.utc).strftime("%Y-%m-%dT%H:%MZ")


def how_to(command: str, name: str, version: int, target: Target) -> str:
    """Return the two ways to give a command, as part of a sentence."""
    return (
        f'set the tag approvals.{command} = "{target.tag}: your reason" on version {version}, '
        f"or run: mlflow-pack approvals {command} models:/{name}/{version} {target.tag} -m REASON"
    )


def _what(target: Target, name: str, action: str, version: int) -> str:
    if action == "promote":
        return f"{target} of '{name}'"
    return f"taking {target} of '{name}' away from version {version}"


def approval_required(
    *,
    target: Target,
    name: str,
    version: int,
    action: str,
    policy: str,
    tally: Tally,
    request_id: str,
    state: State,
    since_ms: int,
    filed: bool,
    reading: str | None = None,
    page: str | None = None,
) -> str:
    """Text of APPROVAL_REQUIRED; ``page`` is the address of the request's page, if it has one."""
    groups = " and from ".join(f"'{group}'" for group in tally.missing_groups)
    verb = "was filed" if filed else f"is {state.value} since {moment(since_ms)}"
    detail = f" ({tally})" if tally.rules else ""
    kept = "The request is kept; " if filed else ""
    unchanged = f"{kept}{target} was not changed." if filed else UNCHANGED
    on_page = f"open {page} or " if page else ""
    first = f"Its files are being read ({reading}); after that " if reading else ""
    return (
        f"{_what(target, name, action, version)} is protected by policy '{policy}'. "
        f"Version {version} has {tally.have} of {tally.need} approvals{detail}. "
        f"Request {request_id} {verb}; {first}an approver from {groups} must approve it: "
        f"{on_page}{how_to('approve', name, version, target)}. "
        f"Then make this call again. {unchanged}"
    )


def digesting(*, target: Target, name: str, version: int, how_far: str) -> str:
    """Text of DIGESTING."""
    return (
        f"the files of version {version} of '{name}' are being read ({how_far}), and only what was "
        f"read can become {target} or be approved for it. {UNCHANGED} Make this call again when "
        f"they are read; `mlflow-pack approvals apply models:/{name}/{version} {target.tag}` waits "
        "for that by itself."
    )


def source_not_pinned(*, name: str, version: int, location: str, why: str) -> str:
    """Text of SOURCE_NOT_PINNED."""
    return (
        f"no approval can be bound to version {version} of '{name}': its files are loaded from "
        f"{location!r}, and {why}. {UNCHANGED} Register the version again with the place of the "
        "files as its source: the artifact_location of a logged model, or the run's artifact_uri "
        "and the path. mlflow.register_model does that."
    )


def loaded_otherwise(*, name: str, version: int, file: str) -> str:
    """Text of SOURCE_NOT_PINNED where the name of a file is the reason."""
    return (
        f"no approval can be bound to version {version} of '{name}': by its name, MLflow's clients "
        f"do not load its file {file!r} as the server has it. {UNCHANGED} Log the model again with "
        "plain names: letters, digits, '.', '-' and '_', and no file that is alone in a folder of "
        "the same name."
    )


def source_not_allowed(
    *, name: str, version: int, location: str, policy: str, allowed: Sequence[str] | None
) -> str:
    """Text of SOURCE_NOT_ALLOWED."""
    where = " or ".join(allowed or ["the server's own artifact store"])
    return (
        f"the files of version {version} of '{name}' are at {location!r}, and policy '{policy}' "
        f"approves only files under {where}: elsewhere a consumer may load other bytes than the "
        f"server reads. {UNCHANGED} Log the model again to an experiment without an "
        "artifact_location of its own, and register that; or have the place added to the policy's "
        "sources_under."
    )


def not_pinned_by_its_store(*, name: str, version: int, location: str, policy: str) -> str:
    """Text of SOURCE_NOT_PINNED for a store that can neither lock files nor show later writes."""
    return (
        f"policy '{policy}' requires pinned files, and those of version {version} of '{name}' at "
        f"{location!r} are not: the store can neither lock them nor show a later write without "
        f"reading them all. {UNCHANGED} Keep them in a cas- store, in a bucket of S3, Google Cloud "
        "Storage or Azure Blob, or on the server's disk."
    )


def rejected_before(
    *, target: Target, name: str, version: int, policy: str, request_id: str, reason: str
) -> str:
    """Text of APPROVAL_REQUIRED after a rejection."""
    return (
        f"{target} of '{name}' is protected by policy '{policy}'. Request {request_id} for version "
        f"{version} was rejected ({reason}), and asking again is a step of its own: "
        f"{how_to('request', name, version, target)}. {UNCHANGED}"
    )


def archive_not_covered(*, target: Target, name: str, version: int, request_id: str) -> str:
    """Text of APPROVAL_REQUIRED when the call would do more than was approved."""
    return (
        f"request {request_id} for version {version} and {target} of '{name}' was made without "
        "archive_existing_versions, so approval of it does not cover archiving the versions that "
        "are there. Make the call without it; or cancel the request, or once others have voted "
        f"have an approver reject it ({how_to('reject', name, version, target)}), and make this "
        f"call again. {UNCHANGED}"
    )


def two_policies(*, left: Target, entered: Target, name: str, version: int) -> str:
    """Text of APPROVAL_REQUIRED for a move from one policy's stage to another's."""
    return (
        f"version {version} of '{name}' is {left}, and taking it away from there needs the "
        f"approval of another policy than making it {entered}. {UNCHANGED} Move it to stage "
        f"'None' first, then to {entered}."
    )


def archives_into_protected(*, entered: Target, others: Sequence[int], name: str) -> str:
    """Text of APPROVAL_REQUIRED for a call that would archive versions, which needs approval."""
    which = ", ".join(map(str, others))
    return (
        f"making a version {entered} of '{name}' with archive_existing_versions would also make "
        f"version {which} stage 'Archived', which is protected, and needs an approval of its "
        f"own. {UNCHANGED} Make the call without archive_existing_versions, and move the others "
        "in calls of their own."
    )


def spelling(*, given: Target, protected: Target, name: str, policy: str) -> str:
    """Text of APPROVAL_REQUIRED for a look-alike of a protected alias."""
    return (
        f"{given} of '{name}' differs from the protected {protected} of policy '{policy}' only in "
        f"case or form, and could be taken for it. Use '{protected.name}'. {UNCHANGED}"
    )


def foreign_letters(*, target: Target, name: str) -> str:
    """Text of APPROVAL_REQUIRED for an alias that MySQL might take for a protected one."""
    return (
        f"{target} of '{name}' has letters outside ASCII, which this MySQL database may take for "
        f"those of a protected alias. Use ASCII letters, digits, _ and - here. {UNCHANGED}"
    )


def identity_required(what: str) -> str:
    """Text of IDENTITY_REQUIRED."""
    return (
        f"{what} needs a signed-in person, and this call has none. {UNCHANGED} Make it through a "
        "server that authenticates its users (mlflow server --app-name basic-auth), signed in; a "
        "direct connection to the database, a job process or an open server has no identity."
    )


def not_an_approver(
    *, user: str, target: Target, name: str, policy: str, groups: Sequence[str]
) -> str:
    """Text of NOT_AN_APPROVER."""
    listed = ", ".join(f"'{group}'" for group in groups) or "no group"
    return (
        f"'{user}' has no vote on {target} of '{name}': policy '{policy}' counts {listed}. "
        f"{UNCHANGED} Ask a member of these groups, or have the policy changed."
    )


def self_approval(*, user: str, role: str, target: Target, name: str, request_id: str) -> str:
    """Text of SELF_APPROVAL."""
    return (
        f"'{user}' {role}, and may not approve request {request_id} for {target} of '{name}'. "
        f"{UNCHANGED} Another approver must approve it."
    )


def run_in_the_name_of(run_id: str | None) -> str:
    """Return why the user that a run was created by has no vote, and how to contest that."""
    return (
        f"is the user in whose name run {run_id} of this version was created (if that is wrong, "
        "have the version registered from a run of its real author, or set "
        "defaults.prevent_run_user_approval: false in the policy)"
    )


def no_break_glass(*, user: str, target: Target, name: str, policy: str, group: str | None) -> str:
    """Text of NOT_AN_APPROVER for who may not promote without approval."""
    who = f"only '{group}' may" if group else "no one may"
    return (
        f"'{user}' may not make a version {target} of '{name}' without approval: by policy "
        f"'{policy}' {who}. {UNCHANGED} Ask them, or ask for approval."
    )


def break_glass_reason(*, target: Target) -> str:
    """Text of INVALID_COMMAND for break-glass without a reason."""
    return (
        f"break-glass for {target} needs a reason: approvals.break_glass = "
        f'"{target.tag}: your reason". {UNCHANGED} Say why.'
    )


def nothing_to_withdraw(*, user: str, target: Target, name: str, request_id: str) -> str:
    """Text of NO_OPEN_REQUEST for who has not voted."""
    return (
        f"'{user}' has no vote on request {request_id} for {target} of '{name}'. {UNCHANGED} "
        "Only a vote can be withdrawn."
    )


def too_late_to_withdraw(*, target: Target, name: str, version: int, request_id: str) -> str:
    """Text of INVALID_COMMAND for a vote on a request that is approved already."""
    return (
        f"request {request_id} for {target} of '{name}' is APPROVED, and its votes stand. "
        f"{UNCHANGED} To stop it, {how_to('reject', name, version, target)}."
    )


def not_for_consumers(*, name: str, version: int, user: str | None, policy: str) -> str:
    """Text of APPROVAL_REQUIRED for a reader who gets approved versions only."""
    who = f"'{user}'" if user else "a caller who is not signed in"
    return (
        f"version {version} of '{name}' is not approved, and by policy '{policy}' {who} gets "
        f"approved versions only. {UNCHANGED} Load a version that is approved, such as the one "
        "behind a protected alias."
    )


def no_comment(*, comment_id: str, user: str | None) -> str:
    """Text of NO_OPEN_REQUEST for a comment that is not there, or not the caller's."""
    return (
        f"'{user}' has written no comment with the id {comment_id!r}. {UNCHANGED} Only its author "
        "may edit or delete a comment."
    )


def no_own_comment(*, user: str, target: Target, name: str, version: int) -> str:
    """Text of NO_OPEN_REQUEST for a user who has not commented."""
    return (
        f"'{user}' has written no comment on version {version} of '{name}' and {target} that is "
        f"there still. {UNCHANGED} Only its author may edit or delete a comment."
    )


def no_holder(*, target: Target, name: str, version: int) -> str:
    """Text of INVALID_COMMAND for removing a target from a version that does not hold it."""
    return f"version {version} of '{name}' is not {target}. {UNCHANGED} Name the version that is."


def no_open_request(
    *, target: Target, name: str, version: int, last: State | None, reason: str | None
) -> str:
    """Text of NO_OPEN_REQUEST."""
    before = "" if last is None else f" The last one is {last.value}"
    before += f" ({reason})." if last is not None and reason else "." if last is not None else ""
    return (
        f"there is no open request for version {version} and {target} of '{name}'.{before} "
        f"{UNCHANGED} To make one, {how_to('request', name, version, target)}."
    )


def another_request(*, target: Target, name: str, version: int, request_id: str) -> str:
    """Text of NO_OPEN_REQUEST where the open request is not the one that the caller named."""
    return (
        f"the request that you name for version {version} and {target} of '{name}' is closed. "
        f"{UNCHANGED} Request {request_id} is open in its place, perhaps about other files: look "
        "at that one."
    )


def stale(*, target: Target, name: str, version: int, request_id: str, why: str) -> str:
    """Text of STALE_APPROVAL."""
    return (
        f"request {request_id} for version {version} and {target} of '{name}' no longer holds: "
        f"{why}. The request was closed as STALE; {target} was not changed. To have the version "
        f"approved as it is now, {how_to('request', name, version, target)}."
    )


def review_of_other_files(*, target: Target, name: str, version: int, request_id: str) -> str:
    """Text of STALE_APPROVAL where an emergency change is reviewed."""
    return (
        f"the files of version {version} of '{name}', which break-glass made {target}, have "
        f"changed since, so review {request_id} is about other bytes than are served now. Your "
        "vote was not counted. Reject the review, or have an approved version take the target."
    )


def holder_changed(
    *,
    target: Target,
    name: str,
    version: int,
    request_id: str,
    before: int | None,
    now: int | None,
) -> str:
    """Text of HOLDER_CHANGED."""
    old, new = (f"version {v}" if v is not None else "no version" for v in (before, now))
    return (
        f"when request {request_id} for version {version} was made, {target} of '{name}' was held "
        f"by {old}, now by {new}. The request was closed as STALE; {target} was not changed. "
        f"If version {version} is still wanted, {how_to('request', name, version, target)}."
    )


def checks_failed(
    *, target: Target, name: str, version: int, policy: str, problems: Sequence[str]
) -> str:
    """Text of CHECKS_FAILED."""
    return (
        f"version {version} of '{name}' may not become {target}: policy '{policy}' requires "
        f"{'; '.join(problems)}. {UNCHANGED} Put this right, then make this call again."
    )


def frozen(
    *, target: Target, name: str, policy: str, cron: str, tz: str, until_ms: int | None
) -> str:
    """Text of FROZEN."""
    until = "for more than a month" if until_ms is None else f"until {moment(until_ms)}"
    return (
        f"{target} of '{name}' is frozen {until}: policy '{policy}' allows no change in the window "
        f"'{cron}' ({tz}). {UNCHANGED} The approval is kept; make this call again after that."
    )


def protected_delete(*, what: str, held: Sequence[tuple[Target, int]]) -> str:
    """Text of PROTECTED_DELETE."""
    listed = ", ".join(f"{target} (version {version})" for target, version in held)
    return (
        f"{what} holds what policies protect: {listed}. Deleting it would take that away. "
        f"{UNCHANGED} Move the alias or stage to another version, or have it taken away, first."
    )


def protected_rename(*, name: str, new_name: str, held: Sequence[tuple[Target, int]]) -> str:
    """Text of PROTECTED_RENAME."""
    listed = ", ".join(f"{target} (version {version})" for target, version in held)
    return (
        f"'{name}' cannot become '{new_name}': under one of the names policies protect what it "
        f"holds: {listed}. {UNCHANGED} Have these taken away before, and approved again after."
    )


def nothing_protected(*, target: Target, name: str) -> str:
    """Text of INVALID_COMMAND where no approval is needed."""
    return (
        f"no policy protects {target} of '{name}', so no approval is needed. {UNCHANGED} "
        "Set it directly, or check the spelling."
    )


def no_version(name: str, version: int) -> str:
    """Text of NO_OPEN_REQUEST for a version that does not exist."""
    return f"'{name}' has no version {version}. {UNCHANGED} Check the name and the number."


def not_the_requester(*, request_id: str, requester: str) -> str:
    """Text of NOT_AN_APPROVER for cancelling another person's request."""
    return (
        f"request {request_id} was made by '{requester}', who alone may cancel it; an approver "
        f"may reject it. {UNCHANGED}"
    )


def votes_were_cast(*, target: Target, name: str, version: int, request_id: str) -> str:
    """Text of NOT_AN_APPROVER for cancelling a request that others have voted on."""
    return (
        f"request {request_id} for version {version} and {target} of '{name}' has votes, and its "
        f"requester may cancel it only before another user has voted. {UNCHANGED} An approver may "
        f"reject it: {how_to('reject', name, version, target)}."
    )


def kept_changing(name: str) -> str:
    """Text of REGISTRY_BUSY for a model that changed in every attempt."""
    return f"'{name}' kept changing while it was looked at. {UNCHANGED} Try again."


def already_holder(*, target: Target, name: str, version: int) -> str:
    """Text of INVALID_COMMAND for asking for what is so already."""
    return f"version {version} of '{name}' is {target} already. {UNCHANGED} No request is needed."
