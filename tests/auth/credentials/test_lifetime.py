"""The credential's life as pure transitions."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflow_plugins_pack.auth.credentials import lifetime
from mlflow_plugins_pack.auth.credentials.lifetime import Credential, State, Step, next_step
from mlflow_plugins_pack.auth.credentials.secret import Secret, redact

seconds = st.floats(0, 1e6)


def credential(text: str = "t", life: float | None = None) -> Credential:
    return Credential((("Authorization", Secret(text)),), life)


def test_nothing_yet_is_fetched_and_a_static_one_is_used_for_ever() -> None:
    assert next_step(State(), 0, None) is Step.FETCH
    state = lifetime.fetched(State(), credential(), 0, "mark")
    assert next_step(state, 1e9, "mark") is Step.USE
    assert next_step(state, 1, "other mark") is Step.FETCH


@pytest.mark.parametrize(
    ("age", "step"),
    [
        (0, Step.USE),
        (3419, Step.USE),
        (3421, Step.REFRESH_AHEAD),
        (3589, Step.REFRESH_AHEAD),
        (3591, Step.FETCH),
        (3601, Step.FETCH),
    ],
)
def test_windows_of_an_hour(age: float, step: Step) -> None:
    state = lifetime.fetched(State(), credential(life=3600), 0, None)
    assert next_step(state, age, None) is step


def test_a_short_life_is_mostly_used() -> None:
    """A 20 s token must not live in its refresh window."""
    state = lifetime.fetched(State(), credential(life=20), 0, None)
    assert next_step(state, 18.9, None) is Step.USE
    assert next_step(state, 19.1, None) is Step.REFRESH_AHEAD
    assert next_step(state, 19.7, None) is Step.FETCH


def test_the_windows_are_those_of_the_whole_life() -> None:
    """A token that another process had before is not worn to its very end."""
    old = Credential((("Authorization", Secret("t")),), 0.9, age_seconds=19.1)
    state = lifetime.fetched(State(), old, 0, None)
    assert next_step(state, 0, None) is Step.REFRESH_AHEAD
    assert next_step(state, 0.6, None) is Step.FETCH


def test_an_outage_is_waited_for_by_those_who_had_a_credential() -> None:
    assert lifetime.outage_wait(lifetime.failed(State(), "down", 0, None, is_down=True), 0) is None
    state = lifetime.fetched(State(), credential(life=20), 0, None)
    assert lifetime.outage_wait(lifetime.failed(state, "refused", 21, None), 21) is None
    state = lifetime.failed(state, "down", 21, None, is_down=True)
    assert lifetime.outage_wait(state, 21) == 0.5
    assert lifetime.outage_wait(state, 79) == 0
    assert lifetime.outage_wait(state, 20 + lifetime.OUTAGE_SECONDS) is None


@given(st.none() | seconds, seconds, seconds)
def test_an_expired_credential_is_never_used(life: float | None, start: float, age: float) -> None:
    state = lifetime.fetched(State(), credential(life=life), start, None)
    for candidate in (state, lifetime.failed(state, "down", start + age, None)):
        if start + age >= candidate.expires_at:
            assert next_step(candidate, start + age, None) in (Step.FETCH, Step.FAIL)


def test_a_failure_keeps_what_is_valid_and_rests_longer_each_time() -> None:
    state = lifetime.fetched(State(), credential(life=3600), 0, None)
    rests = []
    now = 3430.0
    for _ in range(12):
        state = lifetime.failed(state, "down", now, None)
        rests.append(state.retry_at - now)
        assert next_step(state, now, None) is Step.USE
    assert rests == sorted(rests)
    assert rests[0] == 0.5
    assert rests[-1] == 60
    assert next_step(state, 3500, None) is Step.REFRESH_AHEAD


def test_without_a_valid_one_rests_stay_short_and_end_when_the_secret_changes() -> None:
    state = State()
    for _ in range(12):
        state = lifetime.failed(state, "down", 100, "mark")
    assert state.retry_at == 104
    assert next_step(state, 101, "mark") is Step.FAIL
    assert next_step(state, 101, "other") is Step.FETCH
    assert next_step(state, 104, "mark") is Step.FETCH


def test_a_refused_credential_has_ended_until_the_source_gives_it_again() -> None:
    for life in (None, 3600):
        state = lifetime.refused(lifetime.fetched(State(), credential(life=life), 0, None), 5)
        assert next_step(state, 5, None) is Step.FETCH
        down = lifetime.failed(state, "down", 6, None, is_down=True)
        assert lifetime.outage_wait(down, 6) == 0.5
        assert lifetime.outage_wait(down, 5 + lifetime.OUTAGE_SECONDS) is None
        again = lifetime.fetched(down, credential(life=life), 7, None)
        assert next_step(again, 7, None) is Step.USE


def test_a_rejected_credential_is_not_asked_for_again_at_once() -> None:
    state = lifetime.fetched(State(), credential("a"), 0, None)
    assert lifetime.may_refetch_after_rejection(state, 1)
    state = lifetime.rejected(state, 1)
    assert not lifetime.may_refetch_after_rejection(state, 5)
    assert lifetime.may_refetch_after_rejection(state, 11)
    assert not lifetime.may_refetch_after_rejection(
        lifetime.fetched(state, credential("a"), 2, 0), 5
    )
    assert lifetime.may_refetch_after_rejection(lifetime.fetched(state, credential("b"), 2, 0), 5)


@pytest.mark.parametrize(
    ("value", "life"),
    [
        (None, None),
        (3600, 3600),
        (1.5, 1.5),
        ("3600", 3600),
        (0, 0),
        (1e300, 366 * 86400),
        (math.inf, 366 * 86400),
    ],
)
def test_lifetimes(value: object, life: float | None) -> None:
    assert lifetime.parse_lifetime(value) == life


@pytest.mark.parametrize("value", [-1, "soon", "", True, [], math.nan, "-5", "1e3"])
def test_lifetimes_that_are_none(value: object) -> None:
    with pytest.raises(ValueError, match="expires_in"):
        lifetime.parse_lifetime(value)


@given(st.text(alphabet="abcdefghijklmnop0123456789_-./+=", min_size=16))
def test_a_long_word_is_redacted_wherever_it_stands(secret: str) -> None:
    for text in (secret, f"error: {secret} refused", f"token={secret}", f'"{secret}"'):
        assert secret not in redact(text)


@pytest.mark.parametrize(
    "text",
    [
        "password=hunter2",
        "Password: hunter2",
        "Authorization: Basic hunter2",
        '{"token": "hunter2"}',
        "api_key hunter2",
    ],
)
def test_a_short_secret_is_redacted_where_it_is_announced(text: str) -> None:
    assert "hunter2" not in redact(text)


def test_ordinary_words_are_kept() -> None:
    assert redact("vault: permission denied\n") == "vault: permission denied"
