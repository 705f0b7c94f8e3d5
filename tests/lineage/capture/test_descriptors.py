"""Files that no call names: below an open folder's descriptor, and as standard input."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mlflow_plugins_pack.lineage.capture import folder_descriptors
from tests.support import servers

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the kernel does not tell")

READING = """
import json, os, sys
from mlflow_plugins_pack.lineage.capture import standard_input
from mlflow_plugins_pack.lineage.session import session
session.start()
found = [standard_input.newly_read()]
sys.stdin.readline()
{then}
found += [standard_input.newly_read(), standard_input.newly_read()]
print(json.dumps([[one and one[0] for one in found], standard_input.may_be_missed()]))
"""


def _is_named(*_args: Any, **_named: Any) -> bool:
    return folder_descriptors.is_named_in(sys._getframe(1))


_called = functools.partial(_is_named)
"""Stands for `os.open`, as a native function: returns whether its caller gives the argument."""


def test_whether_a_call_has_a_folder_shows_in_the_callers_code() -> None:
    folder, named = 3, {"dir_fd": 3}
    assert _called("a", 0, dir_fd=folder)
    assert _called("a", 0, dir_fd=folder + 0, other=1)
    assert not _called("a", 0)
    assert not _called("a", ("dir_fd",), other=1)
    assert not _called(*("a", 0), **named)
    many = "\n".join(f"x = {number}.5" for number in range(300))
    values: dict[str, Any] = {"called": _called}
    exec(f"{many}\nfound = called('a', 0, dir_fd=3)\nnot_found = called('a', 0)", values)
    assert (values["found"], values["not_found"]) == (True, False)


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    monkeypatch.setattr(folder_descriptors, "missed", set())
    monkeypatch.chdir(tmp_path)
    opened = []
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}-of-descriptors.csv").write_text("x")
        opened.append(os.open(name, os.O_RDONLY))
    yield opened
    for number in opened:
        os.close(number)


def test_a_path_is_below_the_open_folder_that_has_it(folders: list[int], tmp_path: Path) -> None:
    def found(path: str, creates: bool = False) -> str | None:
        return folder_descriptors.found_below(path, sys._getframe(), creates=creates)

    def told(path: str, dir_fd: int | None) -> str | None:
        return folder_descriptors.found_below(path, sys._getframe(), creates=False)

    name = "one-of-descriptors.csv"
    assert found(name) == str(tmp_path / "one" / name)
    assert found("missing-of-descriptors.csv") == str(tmp_path / "missing-of-descriptors.csv")
    assert not folder_descriptors.missed
    assert told(name, folders[1]) == str(tmp_path / "other" / name)
    assert told(name, None) == str(tmp_path / name)
    assert found("new-of-descriptors.csv", creates=True) is None
    assert folder_descriptors.missed == {"dir_fd"}


def test_a_folder_is_told_by_its_number(folders: list[int], tmp_path: Path) -> None:
    located = folder_descriptors.located
    assert located("x/../a.csv", folders[0]) == str(tmp_path / "one" / "a.csv")
    assert located("a.csv", -1) == str(tmp_path / "a.csv")
    assert located("/a.csv", folders[0]) == "/a.csv"
    assert not folder_descriptors.missed
    assert located("a.csv", 9_999) is None
    assert folder_descriptors.missed == {"dir_fd"}


def _input_of(program: str, folder: Path) -> list[Any]:
    given = folder / "given.csv"
    given.write_text("a,b\n")
    with given.open() as file:
        done = subprocess.run(
            [sys.executable, "-c", program],
            cwd=folder,
            env=servers.clean_environment(),
            stdin=file,
            text=True,
            capture_output=True,
            timeout=60,
            check=True,
        )
    found: list[Any] = json.loads(done.stdout)
    return found


def test_a_file_as_standard_input_is_reported_once_it_was_read(tmp_path: Path) -> None:
    found = _input_of(READING.format(then=""), tmp_path)
    assert found == [[None, str(tmp_path / "given.csv"), None], False]


def test_one_that_has_another_content_by_now_may_be_missed(tmp_path: Path) -> None:
    then = "os.rename('given.csv', 'x'); open('given.csv', 'w').close(); os.remove('x')"
    assert _input_of(READING.format(then=then), tmp_path) == [[None, None, None], True]
