"""Reads what a reviewer of one request asks: what it needs, what of it is met, what was said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy.orm import Session

from mlflow_plugins_pack.approvals.content import digest
from mlflow_plugins_pack.approvals.database import mlflow_tables
from mlflow_plugins_pack.approvals.database.mlflow_tables import Version
from mlflow_plugins_pack.approvals.domain.basis import Basis
from mlflow_plugins_pack.approvals.domain.request_states import Rule, State, Tally, due_state, tally
from mlflow_plugins_pack.approvals.enforcement import requirements
from mlflow_plugins_pack.approvals.enforcement.change import ProposedChange
from mlflow_plugins_pack.approvals.ledger import check_tags
from mlflow_plugins_pack.approvals.ledger.ledger import Ledger
from mlflow_plugins_pack.approvals.ledger.requests import Decision, Request, comments_on
from mlflow_plugins_pack.approvals.ledger.snapshot import snapshot_reader
from mlflow_plugins_pack.approvals.policy import eligibility, freeze_windows
from mlflow_plugins_pack.approvals.policy.facts import Facts, Subject
from mlflow_plugins_pack.approvals.policy.models import Policy, PolicyRule
from mlflow_plugins_pack.approvals.reports.request_lists import rules_of, votes_of

MAX_COMMENTS = 200
"""The newest ones; every user who may read a model may write any number of them."""


@dataclass(frozen=True)
class CheckResult:
    """A check of the policy, and what the version lacks.

    Attributes:
        check: The check in the policy file's words.
        problems: What the version lacks; empty: it passes.
    """

    check: str
    problems: tuple[str, ...]


@dataclass(frozen=True)
class RequestDetails:
    """A request and what it depends on.

    Attributes:
        request: The request, EXPIRED where its time has run out.
        version: The version that it is about; None: it was deleted, or made again.
        holder: The version that holds the target now.
        rule: The policy that decides; None: nothing protects the target now.
        rules: The approvals that are needed.
        votes: The votes, oldest first.
        tally: What the votes count for.
        basis: What an approval would rest on.
        may_approve: The people whose approval would count in addition.
        comments: The newest comments on the version and target, oldest first.
        checks: The checks of the policy.
        frozen_until: When a freeze ends, in milliseconds since the epoch; 0: not frozen; None: it
            lasts more than a month.
        policy_changed: Whether the policy is another one than when the request was made.
        files_changed: Whether the version's files were written since the request was made, if that
            was looked at; None: only reading them all would tell.
        content_tags: A prompt's tags, which are its content.
    """

    request: Request
    version: Version | None
    holder: Version | None
    rule: PolicyRule | None
    rules: tuple[Rule, ...]
    votes: tuple[Decision, ...]
    tally: Tally
    basis: Basis
    may_approve: tuple[str, ...]
    comments: tuple[dict[str, Any], ...]
    checks: tuple[CheckResult, ...]
    frozen_until: int | None
    policy_changed: bool
    files_changed: bool | None = None
    content_tags: Mapping[str, str | None] = field(default_factory=dict)

    def with_files(self) -> RequestDetails:
        """Return the details with a look at the version's files; slow, so not in a transaction."""
        request, version = self.request, self.version
        if version is None or request.digest is None or not request.state.is_open:
            return self
        files = digest.Files(version)
        changed = files.differ_from(self.content_tags, request.digest, request.file_marks)
        return replace(self, files_changed=changed)

    @property
    def has_all_comments(self) -> bool:
        """Whether there were no more comments than are returned."""
        return len(self.comments) < MAX_COMMENTS

    def actions_of(self, policy: Policy, user: str | None) -> tuple[str, ...]:
        """Return what a person may do with the request now.

        Whether MLflow lets them apply it or ask again, MLflow decides.
        """
        if user is None:
            return ()
        request, own = self.request, [v for v in self.votes if v.approver == user]
        found = ["comment"]
        if not request.state.is_open:
            return tuple(found)
        is_member = any(user in rule.members for rule in self.rules)
        if request.state is State.PENDING and user in self.may_approve and not own:
            found.append("approve")
        if is_member:
            found.append("reject")
        if request.state is State.PENDING and own:
            found.append("withdraw")
        others = any(vote.approver != request.requester for vote in self.votes)
        if request.requester == user and request.action != "review" and not others:
            found.append("cancel")
        if request.state is State.APPROVED and request.action != "review":
            found.append("apply")
        if self.rule is not None and policy.may_break_glass(self.rule, user):
            found += ["break_glass"] if request.action == "promote" else []
        return tuple(found)


def read(
    session: Session, policy: Policy, request: Request, now_ms: int, facts: Sequence[Facts] = ()
) -> RequestDetails:
    """Return the details of a request.

    Args:
        session: To read with.
        policy: In force.
        request: The request.
        now_ms: Milliseconds since the epoch.
        facts: What is known of the version, and of the holder of its target.
    """
    ledger = Ledger(session, now_ms, None, policy)
    read_snapshot = snapshot_reader(session, request.workspace, under_lock=True)
    known = read_snapshot(request.name, request.version, request.target)
    version = known.version
    if version is not None and version.uid != request.version_uid:
        version = None
    votes = tuple(votes_of(session, [request.id]).get(request.id, ()))
    state = due_state(request.state, now_ms, request.expires_at, request.valid_until)
    shown = request if state is request.state else replace(request, state=state)
    rule = None
    if version is not None:
        protection = policy.protection(
            version.workspace,
            version.name,
            request.target,
            is_prompt=version.is_prompt,
            has_files=version.has_files,
        )
        rule = protection[0] if protection is not None else None
    rules, basis = rules_of(policy, request) or (), Basis()
    results: tuple[CheckResult, ...] = ()
    if version is not None and rule is not None:
        change = ProposedChange("promote", request.target, version, rule, known, request.stage)
        rules, basis = requirements.rules_of(ledger, change, request)
        results = _check(ledger, change, facts, request.digest)
    is_pending = state is State.PENDING
    people = eligibility.approvers(policy.defaults, request, votes)
    missing = eligibility.missing_approvers(policy.defaults, rules, request, votes)
    closed = freeze_windows.closed(rule.freeze, now_ms) if rule is not None else None
    is_prompt = version is not None and version.is_prompt
    tags = mlflow_tables.version_tags(session, version) if version and is_prompt else {}
    comments = comments_on(
        session, request.version_uid, target_key=request.target.key, newest=MAX_COMMENTS
    )
    return RequestDetails(
        request=shown,
        version=version,
        holder=known.holder,
        rule=rule,
        rules=rules,
        votes=votes,
        tally=tally(rules, people),
        basis=basis,
        may_approve=tuple(missing) if is_pending else (),
        comments=tuple(comments),
        checks=results,
        frozen_until=closed.reopens(now_ms) if closed is not None else 0,
        policy_changed=policy.sha256 != request.policy_sha256,
        content_tags=tags,
    )


def _check(
    ledger: Ledger, change: ProposedChange, facts: Sequence[Facts], digest: str | None
) -> tuple[CheckResult, ...]:
    """Return what each check of the policy says now."""
    version, holder, session = change.version, change.holder, ledger.session
    of_version, of_holder = (*facts, Facts(), Facts())[:2]
    other = None
    if holder is not None and holder.uid != version.uid:
        other = Subject(holder.version, mlflow_tables.version_tags(session, holder), of_holder)
    subject = Subject(
        version.version,
        mlflow_tables.version_tags(session, version),
        of_version,
        lambda tag: check_tags.find(ledger, version, tag),
        other,
        version.name,
        digest,
    )
    found = []
    if change.rule.from_ is not None:
        held = mlflow_tables.holdings(session, version.workspace, version.name)
        mine = [(target.kind, target.name) for target, v in held if v.uid == version.uid]
        wanted = change.rule.from_
        text = "from " + " or ".join([f"stage {s}" for s in wanted.stages] + list(wanted.aliases))
        found.append(CheckResult(text, tuple(wanted.problems(mine))))
    for check in change.rule.checks:
        problems = check.problems(subject, ledger.policy.is_writer, ledger.now_ms)
        found.append(CheckResult(check.describe(), tuple(problems)))
    return tuple(found)
