"""The tree of errors that the module draws is the one that Python knows."""

from __future__ import annotations

import re
from collections.abc import Iterator

from mlflow.exceptions import MlflowException

from mlflow_plugins_pack import errors


def drawn() -> Iterator[tuple[str, str]]:
    """Yield class and base of each line of the drawing."""
    above: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        if found := re.match(r"    ([ │├└─]*)([A-Z]\w+)( |$)", line):
            depth = len(found[1]) // 4
            del above[depth:]
            yield found[2], above[-1] if above else ""
            above.append(found[2])


def defined(base: type) -> Iterator[tuple[str, str]]:
    """Yield class and first base of each error of the module."""
    for error in base.__subclasses__():
        if error.__module__ == errors.__name__:
            if error.__bases__[0] is base:
                yield error.__name__, base.__name__
            yield from defined(error)


def test_the_tree_is_the_one_that_is_drawn() -> None:
    lines = list(drawn())
    assert lines[0] == ("MlflowException", "")
    assert len(lines) > 40
    assert sorted(lines[1:]) == sorted(set(defined(MlflowException)))


def test_codes_name_one_situation() -> None:
    found = [error for name, _ in drawn() if (error := getattr(errors, name, None)) is not None]
    codes = [error.code for error in found if getattr(error, "code", "")]
    assert len(codes) > 15
    twice = {code for code in codes if codes.count(code) > 1}
    # One situation of two plugins: approved bytes and the approved text of a prompt.
    assert twice <= {"CONTENT_LOCKED"}
