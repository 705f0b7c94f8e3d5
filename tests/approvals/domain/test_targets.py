from __future__ import annotations

import re
import time
import tracemalloc
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflow_plugins_pack.approvals.domain.identifiers import open_key, version_uid
from mlflow_plugins_pack.approvals.domain.matching import (
    LONGEST_NAME,
    fold,
    matches,
    matches_exactly,
)
from mlflow_plugins_pack.approvals.domain.tag_names import (
    COMMANDS,
    command_of,
    is_prompt_content,
    is_reserved_tag,
    parse_command,
)
from mlflow_plugins_pack.approvals.domain.targets import STAGES, Target, parse_target

aliases = st.from_regex(r"[A-Za-z0-9_\-]{1,20}", fullmatch=True)
targets = st.one_of(
    aliases.map(lambda name: Target("alias", name)),
    st.sampled_from(STAGES).map(lambda name: Target("stage", name)),
)


@given(targets)
def test_targets_survive_both_written_forms(target: Target) -> None:
    assert parse_target(target.key) == target
    if target.name not in ("alias", "stage"):
        assert parse_target(target.tag) == target


@given(targets, st.text(max_size=50))
def test_commands_split_at_the_right_colon(target: Target, text: str) -> None:
    if target.tag in ("alias", "stage"):
        return
    assert parse_command(f"{target.tag}: {text}") == (target, None, text.strip())
    assert parse_command(f"{target.key}:{text}") == (target, None, text.strip())
    assert parse_command(target.tag) == (target, None, "")
    assert parse_command(f"{target.tag} #0123abcd: {text}") == (target, "0123abcd", text.strip())


@pytest.mark.parametrize("text", ["", ":", " : x", "stage:", "stage:Prod", "a b", "x/y", "stage"])
def test_what_is_no_target(text: str) -> None:
    if text == "stage":  # a legal alias in MLflow, and so here
        assert parse_target(text) == Target("alias", "stage")
        return
    with pytest.raises(ValueError):
        parse_command(text)


@pytest.mark.parametrize(
    "lookalike",
    [
        *["Prod", "PROD", " prod ", "ｐｒｏｄ", "pród", "proð", "PROĐ", "ⓟrod", "𝐩𝐫𝐨𝐝"],
        *[
            "pr\u200bod",
            "pro\u00add",
            "p\x01rod",
            "prod\n",
            "pro\ua77a",
            "p\ua783od",
            "\U0001f17frod",
        ],
    ],
)
def test_lookalikes_fold_together(lookalike: str) -> None:
    assert fold(lookalike) == "prod"


@pytest.mark.parametrize("digit", ["\u0661", "\u0967", "\u2460", "\uff11", "\u00b9"])
def test_digits_of_other_scripts_fold_together(digit: str) -> None:
    assert fold(f"fraud-{digit}") == "fraud-1"


@pytest.mark.parametrize("other", ["pr\u03bfd", "prod\u2460\u2461", "ｐｒod-2", "\u5317", "\u00bd"])
def test_other_names_stay_others(other: str) -> None:
    assert fold(other) not in ("prod", "prod-", "")


@given(st.text(max_size=20))
def test_folding_twice_is_folding_once(name: str) -> None:
    assert fold(fold(name)) == fold(name) or not fold(name).isascii()


@given(st.text(max_size=20))
def test_unicode_forms_do_not_matter(name: str) -> None:
    for form in ("NFC", "NFD"):
        assert fold(unicodedata.normalize(form, name)) == fold(name)


@pytest.mark.parametrize(
    ("glob", "yes", "no"),
    [
        ("fraud-*", ["fraud-", "fraud-eu", "FRAUD-EU"], ["fraud", "x-fraud-eu", "fraud-a/b"]),
        ("credit/**", ["credit/a", "credit/a/b", "credit/"], ["credit", "xcredit/a"]),
        ("a?c", ["abc", "aXc"], ["ac", "abbc", "a/c"]),
        ("*", ["anything", ""], ["a/b"]),
        ("**", ["anything", "a/b"], []),
        ("a.b+c", ["a.b+c"], ["axb+c", "a.bbc"]),
        ("[ab]", ["[ab]"], ["a", "b"]),
    ],
)
def test_patterns(glob: str, yes: list[str], no: list[str]) -> None:
    assert [name for name in yes if not matches(glob, name)] == []
    assert [name for name in no if matches(glob, name)] == []


@given(st.text(alphabet="ab*?/.-", max_size=8), st.text(alphabet="ab/.-", max_size=8))
def test_patterns_against_a_second_opinion(glob: str, name: str) -> None:
    # An independent matcher: the classic recursion, one character at a time.
    def match(pattern: str, text: str) -> bool:
        if not pattern:
            return not text
        if pattern.startswith("**"):
            return match(pattern[2:], text) or (bool(text) and match(pattern, text[1:]))
        if pattern[0] == "*":
            skip = bool(text) and text[0] != "/" and match(pattern, text[1:])
            return match(pattern[1:], text) or skip
        if not text:
            return False
        same = text[0] != "/" if pattern[0] == "?" else text[0] == pattern[0]
        return same and match(pattern[1:], text[1:])

    # "***" may be read two ways that mean the same; keep to one.
    if "***" not in glob:
        assert matches(glob, name) == match(glob, name)


def test_identities_differ_in_every_field() -> None:
    base = ("w", "m", 1, 1000, "s", "l", "r")
    others = [("x", *base[1:]), ("w", "n", *base[2:]), ("w", "m", 2, *base[3:])]
    others += [(*base[:3], 1001, *base[4:]), (*base[:4], None, "l", "r"), (*base[:6], None)]
    uids = {version_uid(*fields) for fields in [base, *others]}  # type: ignore[arg-type]
    assert len(uids) == 7
    assert all(re.fullmatch("[0-9a-f]{64}", uid) for uid in uids)
    # No field can pretend to be its neighbour.
    assert version_uid("a", "b", 1, None, "c", "d", None) != version_uid(
        "a", "b", 1, None, "cd", "", None
    )
    assert open_key("w", "u", Target("alias", "a")) != open_key("w", "u", Target("stage", "a"))


def test_reserved_tags() -> None:
    assert [command_of(f"approvals.{name}") for name in COMMANDS] == list(COMMANDS)
    assert command_of("Approvals.APPROVE") == "approve"
    assert command_of("approvals.other") is None
    assert is_reserved_tag("mlflow_approvals.anything")
    assert is_reserved_tag("MLFLOW_appróvals.prod")
    assert not is_reserved_tag("approvals_note")
    assert is_prompt_content("mlflow.prompt.text")
    assert is_prompt_content("MLFLOW.Prompt.Text")
    assert is_prompt_content("_mlflow_prompt_model_config")
    assert not is_prompt_content("mlflow.prompt.associatedRunIds")
    assert not is_prompt_content("owner")


@given(
    st.lists(st.sampled_from(["a", "b", "/", "*", "**", "?", "ü"]), max_size=7).map("".join),
    st.text("ab/ü\n", max_size=9),
)
def test_matching_is_that_of_the_regular_expression(glob: str, name: str) -> None:
    parts = {"**": ".*", "*": "[^/]*", "?": "[^/]"}
    tokens = re.split(r"(\*\*|\*|\?)", glob)
    pattern = "".join(parts.get(token, re.escape(token)) for token in tokens)
    expected = re.fullmatch(pattern, name, re.DOTALL) is not None
    assert matches_exactly(glob, name) is expected


def test_matching_takes_linear_time_and_keeps_no_long_names() -> None:
    began = time.monotonic()
    assert not matches_exactly("**a**a**a**a**a**b", "a" * LONGEST_NAME)
    assert not matches_exactly("*a*a*a*a*a*b", "a" * LONGEST_NAME)
    assert not matches("gov-*", "x" * 20_000_000)
    assert fold("ü" * 20_000_000) == "u" * LONGEST_NAME
    assert time.monotonic() - began < 2
    tracemalloc.start()
    for number in range(20):
        matches("gov-*", str(number) * 1_000_000)
        fold(str(number) * 1_000_000)
    assert tracemalloc.get_traced_memory()[0] < 2_000_000
    tracemalloc.stop()
