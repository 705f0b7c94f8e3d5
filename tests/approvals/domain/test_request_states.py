from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflow_plugins_pack.approvals.domain.request_states import (
    OPEN,
    TRANSITIONS,
    IllegalTransition,
    Rule,
    State,
    check_transition,
    due_state,
    is_satisfiable,
    tally,
)

people = st.sampled_from("abcdef")
rules = st.lists(
    st.builds(
        Rule,
        group=st.sampled_from(["g", "h", "i"]),
        count=st.integers(0, 3),
        members=st.frozensets(people, max_size=4),
    ),
    max_size=3,
)


def test_the_table_is_the_documented_one() -> None:
    ends = {"REJECTED", "CANCELLED", "EXPIRED", "STALE", "SUPERSEDED"}
    for before, after in itertools.product(State, State):
        legal = (before is State.PENDING and after.value in ends | {"APPROVED"}) or (
            before is State.APPROVED and after.value in ends | {"APPLIED"}
        )
        if legal:
            check_transition(before, after)
        else:
            with pytest.raises(IllegalTransition):
                check_transition(before, after)


def test_every_closed_state_is_an_end() -> None:
    assert {state for state in State if TRANSITIONS[state]} == OPEN


def test_one_person_under_two_spellings_counts_once() -> None:
    """A sign-in may take names without regard to case, and give them as they were typed."""
    people = frozenset({"Bob@example.com", "bob@example.com"})
    assert not is_satisfiable([Rule("leads", 2, people)])
    assert tally([Rule("leads", 1, people)], people).is_complete
    # A spelling that does not count leaves the other's vote as it is.
    assert tally([Rule("leads", 1, frozenset({"bob"}))], ["BOB", "bob"]).is_complete


def _best(rules: list[Rule], voters: frozenset[str]) -> int:
    """Try every way to seat voters."""
    if not voters:
        return 0
    voter, rest = min(voters), voters - {min(voters)}
    best = _best(rules, rest)
    for index, rule in enumerate(rules):
        if rule.count and voter in rule.members:
            left = [*rules]
            left[index] = Rule(rule.group, rule.count - 1, rule.members)
            best = max(best, 1 + _best(left, rest))
    return best


@given(rules, st.frozensets(people, max_size=5))
def test_the_tally_wastes_nobody_and_counts_nobody_twice(
    rules: list[Rule], voters: frozenset[str]
) -> None:
    found = tally(rules, voters)
    assert found.have == _best(rules, voters)
    assert all(0 <= have <= rule.count for have, rule in zip(found.counts, rules, strict=True))
    assert found.is_complete == (found.have == sum(rule.count for rule in rules))
    assert bool(found.missing_groups) != found.is_complete


@given(rules, st.frozensets(people, max_size=5), people)
def test_one_more_vote_never_harms(rules: list[Rule], voters: frozenset[str], more: str) -> None:
    assert tally(rules, voters | {more}).have >= tally(rules, voters).have


@given(rules, st.frozensets(people, max_size=5))
def test_outsiders_count_nothing(rules: list[Rule], voters: frozenset[str]) -> None:
    assert tally(rules, [*voters, "outsider", *voters]) == tally(rules, voters)


def test_one_person_in_two_groups_counts_once() -> None:
    both = [Rule("leads", 1, frozenset("ab")), Rule("risk", 1, frozenset("a"))]
    assert str(tally(both, "a")) in ("leads 1/1, risk 0/1", "leads 0/1, risk 1/1")
    assert tally(both, "ab").is_complete
    assert not is_satisfiable([Rule("g", 1, frozenset("a")), Rule("h", 1, frozenset("a"))])


@given(
    st.sampled_from(State),
    st.integers(0, 10),
    st.none() | st.integers(0, 10),
    st.none() | st.integers(0, 10),
)
def test_time_runs_out_for_open_requests_only(
    state: State, now: int, expires: int | None, valid: int | None
) -> None:
    after = due_state(state, now, expires, valid)
    limit = {State.PENDING: expires, State.APPROVED: valid}.get(state)
    expected = State.EXPIRED if limit is not None and now >= limit else state
    assert after is expected
