"""Checks, freeze windows and expressions: pure, so tried on every value that can come."""

from __future__ import annotations

import builtins
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from mlflow_plugins_pack.approvals.policy import checks, expressions, freeze_windows
from mlflow_plugins_pack.approvals.policy.checks import (
    ExpressionCheck,
    LineageCheck,
    SignatureCheck,
    TagCheck,
)
from mlflow_plugins_pack.approvals.policy.facts import Facts, Lineage, Subject
from mlflow_plugins_pack.approvals.policy.freeze_windows import Freeze
from mlflow_plugins_pack.approvals.policy.origin import Origin

NOW = 1_800_000_000_000


def subject(**facts: Any) -> Subject:
    return Subject(7, facts.pop("tags", {}), Facts(**facts), holder=facts.pop("holder", None))


def lacking(check: Any, about: Subject) -> str:
    return "; ".join(checks.problems([check], about, lambda check, user: user == "ci", NOW))


# --- tags -------------------------------------------------------------------------------------


@given(
    st.none() | st.sampled_from(["passed", "failed"]),
    st.none()
    | st.tuples(st.sampled_from(["passed", "failed"]), st.sampled_from(["ci", "me", None])),
    st.integers(0, 20),
    st.booleans(),
    st.none() | st.integers(1, 20),
)
def test_a_tag_passes_only_as_it_was_seen_written(
    value: str | None, seen: Any, age: int, has_writers: bool, max_age: int | None
) -> None:
    written = (
        None
        if seen is None
        else SimpleNamespace(value=seen[0], writer=seen[1], set_at=NOW - age * 1000)
    )
    check = TagCheck(
        tag="tests", equals="passed", writers=["ci"] if has_writers else [], max_age=max_age
    )
    about = Subject(1, {} if value is None else {"tests": value}, Facts(), lambda tag: written)
    trusted = seen is not None and seen[0] == value
    expected = (
        value == "passed"
        and (not has_writers or (trusted and seen[1] == "ci"))
        and (max_age is None or (trusted and age <= max_age))
    )
    assert (lacking(check, about) == "") == expected


# --- signature, origin ------------------------------------------------------------------------


@pytest.mark.parametrize(("known", "passes"), [(True, True), (False, False), (None, False)])
def test_a_signature_is_there_or_lacking(known: bool | None, passes: bool) -> None:
    found = lacking(SignatureCheck(signature="required"), subject(has_signature=known))
    assert found == ("" if passes else "a model signature, and its MLmodel file has none")


@given(st.lists(st.sampled_from([("alias", "staging"), ("stage", "Staging"), ("alias", "dev")])))
def test_promotion_comes_from_one_of_the_places(held: list[tuple[str, str]]) -> None:
    origin = Origin(stages=["Staging"], aliases=["staging"])
    expected = ("alias", "staging") in held or ("stage", "Staging") in held
    assert (origin.problems(held) == []) == expected


# --- lineage ----------------------------------------------------------------------------------

ENTRIES = st.lists(
    st.fixed_dictionaries(
        {
            "u": st.sampled_from(
                [
                    "s3://curated/a.csv",
                    "s3://curated/x/b.csv",
                    "s3://Curated/a.csv",
                    "s3://curated/../raw/a.csv",
                    "s3://curated/%2e%2e/raw/a.csv",
                    "s3://raw/pii/c.csv",
                    "s3://curated/PII/c.csv",
                    "file:///etc/config.yaml",
                ]
            )
        },
        optional={"r": st.sampled_from(["data", "config", "model", "intermediate"])},
    ),
    max_size=4,
)


@given(ENTRIES, st.booleans())
def test_inputs_are_where_the_policy_wants_them(entries: list[Any], is_complete: bool) -> None:
    check = LineageCheck(
        lineage="required", inputs_under=["s3://curated/**"], inputs_never=["**/pii/**"]
    )
    known = Lineage(tuple(entries), is_complete, "c0ffee", False)
    data = [e["u"] for e in entries if e.get("r", "data") in ("data", "model")]
    expected = (
        bool(data)
        and is_complete
        and all(u.startswith("s3://curated/") and "/raw/" not in u for u in data)
        and not any("/pii/" in e["u"].lower() for e in entries)
    )
    assert (lacking(check, subject(lineage=known)) == "") == expected


@pytest.mark.parametrize(
    ("commit", "dirty", "says"),
    [
        ("c0ffee", False, ""),
        ("c0ffee", True, "code of a clean commit, and the run's differs from its commit"),
        ("c0ffee", None, "code of a clean commit, and the run's differs from its commit"),
        (None, None, "code of a clean commit, and the run's has no commit"),
    ],
)
def test_code_is_a_clean_commit(commit: str | None, dirty: bool | None, says: str) -> None:
    check = LineageCheck(lineage="required", clean_git=True)
    known = Lineage(({"u": "s3://x/y"},), True, commit, dirty)
    assert lacking(check, subject(lineage=known)) == says


@pytest.mark.parametrize(
    ("lacks", "is_whole", "says"),
    [
        ((), True, ""),
        (("blind to spark",), True, "complete lineage, and the run's is blind to spark"),
        ((), False, "the whole list of inputs, and the run's is shortened or cannot be read"),
    ],
)
def test_lineage_is_complete(lacks: tuple[str, ...], is_whole: bool, says: str) -> None:
    known = Lineage(({"u": "s3://x/y"},), is_whole, None, None, lacks)
    assert lacking(LineageCheck(lineage="complete"), subject(lineage=known)) == says
    assert lacking(LineageCheck(lineage="required"), subject(lineage=known)) == ""


def test_no_lineage_is_lacking_and_a_long_list_of_problems_is_short() -> None:
    check = LineageCheck(lineage="required", inputs_under=["s3://curated/**"])
    assert lacking(check, subject()) == "recorded lineage, and its run has none"
    many = Lineage(tuple({"u": f"s3://raw/{n}"} for n in range(9)), True, None, None)
    assert lacking(check, subject(lineage=many)).endswith("; 4 more")


# --- expressions ------------------------------------------------------------------------------

NOTHING = "a member of nothing was asked for; write: holder == null || ..."
TYPES = "it compares or combines values of different types (metrics are like 3.0, not 3)"
HOLDER = Subject(3, {}, Facts(metrics={"auc": 0.9}))


@pytest.mark.parametrize(
    ("text", "holder", "says"),
    [
        ("metrics.auc >= 0.9 && metrics.auc >= holder.metrics.auc", HOLDER, ""),
        ("holder == null || metrics.auc >= holder.metrics.auc", None, ""),
        ("holder == null || metrics.auc >= holder.metrics.auc", HOLDER, ""),
        ("metrics['val/auc'] > 0.4 && tags.team == 'risk' && version == 7", None, ""),
        ("double(params.lr) < 1.0", None, ""),
        ("metrics.auc > 0.99", None, "metrics.auc > 0.99, and it is false"),
        (
            "metrics.f1 > 0.5",
            None,
            "metrics.f1 > 0.5, and it has no value: there is no 'f1'",
        ),
        (
            "metrics.auc > holder.metrics.auc",
            None,
            "metrics.auc > holder.metrics.auc, and it has no value: " + NOTHING,
        ),
        (
            "metrics.auc == 1",
            None,
            "metrics.auc == 1, and it has no value: " + TYPES,
        ),
        ("metrics.auc", None, "metrics.auc, and it has no value: it gives 0.95, not true or false"),
    ],
)
def test_expressions(text: str, holder: Subject | None, says: str) -> None:
    facts = Facts(metrics={"auc": 0.95, "val/auc": 0.5}, params={"lr": "0.1"})
    about = Subject(7, {"team": "risk"}, facts, holder=holder)
    assert lacking(ExpressionCheck(expr=text), about) == says


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("metrics.auc >=", "'metrics.auc >=' is not a CEL expression"),
        ("metric.auc > 0.5", "there is no 'metric'; an expression has metrics, params, tags"),
    ],
)
def test_expressions_that_are_none_are_found_in_the_policy(text: str, says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        ExpressionCheck(expr=text)


@given(st.text(max_size=30), st.dictionaries(st.text(max_size=5), st.floats(), max_size=3))
def test_any_expression_gives_true_false_or_a_reason(text: str, metrics: dict[str, float]) -> None:
    try:
        expressions.check_expression(text)
    except ValueError:
        return
    found = expressions.evaluate(text, {"metrics": metrics})
    assert isinstance(found, (bool, str))


def test_without_the_extra_the_policy_is_invalid(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any) -> Any:
        if name == "celpy":
            raise ImportError("No module named 'celpy'")
        return real(name, *args)

    expressions._program.cache_clear()
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ValidationError, match=r"pip install 'mlflow-plugins-pack\[cel\]'"):
        ExpressionCheck(expr="metrics.auc > 0.9")


# --- freeze -----------------------------------------------------------------------------------


@given(st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1)))  # noqa: DTZ001
def test_a_weekday_is_frozen_from_midnight_to_midnight(moment: datetime) -> None:
    zone = ZoneInfo("Europe/Berlin")
    now = moment.replace(tzinfo=timezone.utc)
    window = Freeze(cron="* * * * FRI", tz="Europe/Berlin")
    local = now.astimezone(zone)
    now_ms = int(now.timestamp() * 1000)
    assert window.is_closed(now_ms) == (local.weekday() == 4)
    if local.weekday() == 4:
        end = datetime(local.year, local.month, local.day, tzinfo=zone) + timedelta(days=1)
        assert window.reopens(now_ms) == int(end.timestamp() * 1000)


@given(st.integers(0, 2**42), st.integers(0, 23))
def test_an_hour_is_frozen_for_its_minutes(now_ms: int, hour: int) -> None:
    window = Freeze(cron=f"* {hour} * * *")
    now = datetime.fromtimestamp(now_ms // 1000, timezone.utc)
    assert window.is_closed(now_ms) == (now.hour == hour)


def test_a_window_without_an_end_says_so() -> None:
    window = Freeze(cron="* * * * *")
    assert window.reopens(NOW) is None
    assert freeze_windows.closed([Freeze(cron="0 0 1 1 *"), window], NOW) is window
    assert freeze_windows.closed([Freeze(cron="0 0 1 1 *")], NOW) is None


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"cron": "* * * *"}, "a cron expression has five fields"),
        ({"cron": "* * * * * *"}, "a cron expression has five fields"),
        ({"cron": "61 * * * *"}, "'61 \\* \\* \\* \\*' is not a cron expression: Bad minute"),
        ({"cron": "0 0 31 2 *"}, "is not a cron expression"),
        ({"cron": "* * * * *", "tz": "Mars/Base"}, "'Mars/Base' is not a time zone"),
        ({"cron": "* * * * *", "tz": "../etc"}, "is not a time zone"),
    ],
)
def test_windows_that_are_none(values: dict[str, str], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        Freeze(**values)


def test_a_check_is_one_class_in_one_place() -> None:
    """No other module names the classes: adding a check touches only the module of the checks."""
    package = Path(checks.__file__).parents[2]
    names = {check.__name__ for check in checks.Check.__subclasses__()}
    assert len(names) == len({check.kind for check in checks.Check.__subclasses__()}) > 3
    for path in package.rglob("*.py"):
        if path != Path(checks.__file__):
            text = path.read_text(encoding="utf-8")
            assert [name for name in names if name in text] == [], path
