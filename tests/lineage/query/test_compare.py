"""What differs between two runs besides their data: parameters, metrics, packages and code."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from mlflow_plugins_pack.lineage.building import environment
from mlflow_plugins_pack.lineage.document.graph import Graph
from mlflow_plugins_pack.lineage.document.tags import to_tags
from mlflow_plugins_pack.lineage.query.compare import RunFacts, compare
from mlflow_plugins_pack.lineage.query.difference import from_git


def facts(code: dict[str, Any] | None = None, packages: tuple[str, ...] = (), **more: Any) -> Any:
    known = {"code": code or {}, "env": {"h": str(packages), "list": list(packages)}}
    return RunFacts("1" * 32, "train", Graph(facts=known), **more)


def test_parameters_metrics_and_packages() -> None:
    found = compare(
        facts(packages=("numpy-1.26.4", "old-1.0"), params={"a": "1"}, metrics={"loss": 0.5}),
        facts(packages=("numpy-2.0.0", "new-1.0"), params={"b": "2"}, metrics={"loss": 0.4}),
    )
    assert found.parameters == {"a": ("1", None), "b": (None, "2")}
    assert found.metrics == {"loss": (0.5, 0.4)}
    assert found.packages == {
        "new": (None, "1.0"),
        "numpy": ("1.26.4", "2.0.0"),
        "old": ("1.0", None),
    }
    assert "env.list" not in found.facts
    assert not compare(facts(), facts())


def test_code_whose_text_was_kept() -> None:
    found = compare(
        facts({"h": "1", "text": "rate = 1\nx\n"}), facts({"h": "2", "text": "rate = 2\nx\n"})
    )
    assert [line for line in found.code if line[:1] in "+-"][2:] == ["-rate = 1", "+rate = 2"]
    assert found.code_note == ""


def test_code_whose_text_was_not_kept() -> None:
    found = compare(facts({"h": "1"}), facts({"h": "2"}), lambda _first, _second: None)
    assert found.code == ()
    assert "MLFLOW_PACK_LINEAGE_CODE" in found.code_note
    assert compare(facts({"h": "1"}), facts({"h": "1"})).code_note == ""


def test_code_of_commits_comes_from_the_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    def git(*arguments: str) -> str:
        user = ["-c", "user.name=x", "-c", "user.email=x@y"]
        done = subprocess.run(
            ["git", *user, *arguments], check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    git("init", "-q")
    commits = []
    for rate in "12":
        (tmp_path / "train.py").write_text(f"rate = {rate}\n")
        git("add", "train.py")
        git("commit", "-qm", rate)
        commits.append({"commit": git("rev-parse", "HEAD")})
    found = compare(facts(commits[0]), facts({**commits[1], "dirty": True}), from_git)
    assert {"-rate = 1", "+rate = 2"} <= set(found.code)
    assert "not committed" in found.code_note
    unknown = {"commit": "f" * 40}
    assert from_git(commits[0], unknown) is None
    assert from_git(commits[0], {"commit": "--output=x"}) is None


def test_text_of_code_and_packages_stay_out_of_the_tags() -> None:
    known = {"code": {"h": "1", "text": "hunter2"}, "env": environment.environment()}
    tags = to_tags(Graph(facts=known))
    assert "hunter2" not in str(tags)
    assert known["env"]["packages"] == len(known["env"]["list"])
    assert "list" not in tags["lineage.env"]


@pytest.mark.parametrize(
    ("remote", "shown"),
    [
        ("https://u:hunter2@host/a.git?x=1", "https://host/a.git"),
        ("git@host:team/a.git", "ssh://host/team/a.git"),
        ("/srv/a.git", "/srv/a.git"),
    ],
)
def test_address_of_a_repository_has_no_secret(remote: str, shown: str) -> None:
    assert environment._without_user(remote) == shown
