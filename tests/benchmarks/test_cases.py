"""Each benchmark runs at a tiny scale: it is code too, and its own checks must hold."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from benchmarks.cases import CASES, SURVEYS
from benchmarks.frame import Figure, interleave
from benchmarks.report import table
from tests.support.servers import clean_environment, find_program

ROOT = Path(__file__).parent.parent.parent
NEEDS = {
    "alias-postgresql": ("postgresql", "psql"),
    "alias-mariadb": ("mariadb", "mariadbd"),
    "runs-": ("postgresql", "psql"),
}


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", *arguments],
        cwd=ROOT,
        env=clean_environment(MLFLOW_DISABLE_TELEMETRY="true"),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )


def test_blocks_alternate_and_pair() -> None:
    order: list[str] = []

    def side(name: str, value: float) -> dict[str, float]:
        order.append(name)
        return {"time": value}

    (figure,) = interleave(
        {"stock": lambda: side("stock", 6.0), "pack": lambda: side("pack", 3.0)},
        [Figure("time", "s", goal=">= 1x")],
        3,
        lambda _line: None,
    )
    assert order == ["stock", "pack", "pack", "stock", "stock", "pack"]
    assert figure.ratios() == [2.0, 2.0, 2.0]
    assert figure.added() == [-3.0, -3.0, -3.0]
    assert "2.00x" in table("case", [figure])


def test_further_sides_take_turns_too() -> None:
    order: list[str] = []

    def side(name: str, value: float) -> dict[str, float]:
        order.append(name)
        return {"time": value}

    values = {"stock": 6.0, "pack": 3.0, "boto3": 1.5}
    (figure,) = interleave(
        {name: partial(side, name, value) for name, value in values.items()},
        [Figure("time", "s")],
        2,
        lambda _line: None,
    )
    assert order == ["stock", "pack", "boto3", "boto3", "pack", "stock"]
    assert figure.others == {"boto3": [1.5, 1.5]}
    assert "1.50 s (0.50x)" in table("case", [figure])


def test_an_unknown_case_is_wrong_usage() -> None:
    done = run("no-such-case")
    assert done.returncode == 2
    assert "no case is named no-such-case" in done.stderr


def test_the_list_names_every_case() -> None:
    done = run("--list")
    assert done.returncode == 0
    assert [line.split()[0] for line in done.stdout.splitlines()] == [
        case.name for case in (*CASES, *SURVEYS)
    ]


# Of the cases that differ only in where the data is, or in how many clients there are, some.
_DIRECT = [
    case.name
    for case in CASES
    if case.name.startswith("artifacts-") and not {"proxied", "far"} & {*case.name.split("-")}
]
GROUPS = {
    "artifacts": ["artifacts-small-s3", "artifacts-file-disk"],
    "artifacts-nightly": [*_DIRECT, "artifacts-small-far-s3", "artifacts-proxied-tiny-8-s3"],
    **{
        name: [case.name for case in CASES if case.name.startswith(name)]
        for name in ("alias-sqlite", "approved-sqlite", "request", "import", "lineage", "runs-")
    },
}
_NIGHTLY = {"artifacts-nightly", "import", "lineage", "runs-"}


@pytest.mark.parametrize(
    "group",
    [pytest.param(g, marks=pytest.mark.nightly if g in _NIGHTLY else ()) for g in GROUPS],
)
def test_each_case_runs(group: str, tmp_path: Path) -> None:
    if group in NEEDS:
        find_program(*NEEDS[group])
    names = sorted(GROUPS[group])
    file = tmp_path / "figures.json"
    done = run(
        *(*names, "--scale", "0.01", "--blocks", "1", "--json", str(file), "--work", str(tmp_path))
    )
    assert done.returncode == 0, done.stderr[-3000:]
    written = json.loads(file.read_text())
    assert written["machine"]["cores"] > 0
    assert sorted(case["name"] for case in written["cases"]) == names
    for case in written["cases"]:
        for figure in case["figures"]:
            assert len(figure["stock"]) == len(figure["pack"]) == 1
            assert all(value >= 0 for value in figure["stock"] + figure["pack"]), figure
        assert case["name"] in done.stdout


@pytest.mark.nightly
@pytest.mark.parametrize("name", ["alias-postgresql", "alias-mariadb"])
def test_alias_on_a_server_database(name: str) -> None:
    part, program = NEEDS[name]
    find_program(part, program)
    done = run(name, "--scale", "0.02", "--blocks", "1")
    assert done.returncode == 0, done.stderr[-3000:]
    assert "alias write" in done.stdout
