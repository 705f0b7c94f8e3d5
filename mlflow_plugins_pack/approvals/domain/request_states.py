"""The states of a request and the counting of votes; pure, the clock is an argument.

One person counts for one rule only: with a lead in both groups, "one lead and one of risk" still
takes two people. Votes are assigned to rules by a maximum matching, so no vote is wasted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from enum import Enum

from mlflow_plugins_pack.approvals.domain.matching import fold


class State(str, Enum):
    """State of a request."""

    PENDING = "PENDING"
    APPROVED = "APPROVED"
    APPLIED = "APPLIED"
    REJECTED = "REJECTED"
    CANCELLED = "CANCELLED"
    EXPIRED = "EXPIRED"
    STALE = "STALE"
    SUPERSEDED = "SUPERSEDED"

    @property
    def is_open(self) -> bool:
        """Whether votes and application are still possible."""
        return self in OPEN


OPEN = frozenset({State.PENDING, State.APPROVED})
_CLOSING = frozenset(
    {State.REJECTED, State.CANCELLED, State.EXPIRED, State.STALE, State.SUPERSEDED}
)
TRANSITIONS: Mapping[State, AbstractSet[State]] = {
    State.PENDING: _CLOSING | {State.APPROVED},
    State.APPROVED: _CLOSING | {State.APPLIED},
    **{state: frozenset() for state in State if state not in OPEN},
}


class IllegalTransition(ValueError):  # noqa: N818 - a programming error, never shown to users
    """A request cannot go from its state to the one asked for."""


def check_transition(before: State, after: State) -> None:
    """Raise IllegalTransition unless the step is in the table."""
    if after not in TRANSITIONS[before]:
        raise IllegalTransition(f"{before.value} -> {after.value}")


@dataclass(frozen=True)
class Rule:
    """The number of people of a group who must approve.

    Attributes:
        group: the group's name, for display.
        count: how many members must approve.
        members: the group's members now.
    """

    group: str
    count: int
    members: frozenset[str]


@dataclass(frozen=True)
class Tally:
    """The votes that each rule has.

    Attributes:
        counts: for each rule, in order, how many people count for it.
        rules: the rules.
    """

    rules: tuple[Rule, ...]
    counts: tuple[int, ...]

    @property
    def have(self) -> int:
        """Votes that count."""
        return sum(self.counts)

    @property
    def need(self) -> int:
        """Votes needed."""
        return sum(rule.count for rule in self.rules)

    @property
    def is_complete(self) -> bool:
        """Whether every rule holds."""
        return self.have == self.need

    @property
    def missing_groups(self) -> tuple[str, ...]:
        """Groups whose votes are missing, in the policy's order."""
        pairs = zip(self.rules, self.counts, strict=True)
        return tuple(rule.group for rule, count in pairs if count < rule.count)

    def __str__(self) -> str:
        pairs = zip(self.rules, self.counts, strict=True)
        return ", ".join(f"{rule.group} {count}/{rule.count}" for rule, count in pairs)


def tally(rules: Sequence[Rule], voters: Iterable[str]) -> Tally:
    """Count votes against rules, each voter for at most one rule.

    Args:
        rules: The rules, all of which must hold.
        voters: Names of the people whose approval counts.

    Returns:
        A largest possible assignment (augmenting paths over seats, Berge 1957). Names that differ
        only in case or form are one person, whatever a sign-in makes of them.
    """
    seats = [index for index, rule in enumerate(rules) for _ in range(rule.count)]
    taken: dict[int, str] = {}

    def place(voter: str, visited: set[int]) -> bool:
        for seat, rule_index in enumerate(seats):
            if seat in visited or voter not in rules[rule_index].members:
                continue
            visited.add(seat)
            if seat not in taken or place(taken[seat], visited):
                taken[seat] = voter
                return True
        return False

    seated: set[str] = set()
    for voter in sorted(set(voters)):
        if fold(voter) not in seated and place(voter, set()):
            seated.add(fold(voter))
    counts = [0] * len(rules)
    for seat in taken:
        counts[seats[seat]] += 1
    return Tally(tuple(rules), tuple(counts))


def is_satisfiable(rules: Sequence[Rule]) -> bool:
    """Return whether the rules would hold if every member approved."""
    return tally(rules, {member for rule in rules for member in rule.members}).is_complete


def due_state(
    state: State, now_ms: int, expires_at_ms: int | None, valid_until_ms: int | None
) -> State:
    """Return EXPIRED where the time of an open request has run out, else its state."""
    limit = {State.PENDING: expires_at_ms, State.APPROVED: valid_until_ms}.get(state)
    return State.EXPIRED if limit is not None and now_ms >= limit else state
