"""Comparing a candidate with the holder; Markdown; charts."""

from __future__ import annotations

import difflib
import hashlib
import random
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mlflow_plugins_pack.approvals.api.version_files import VersionFiles
from mlflow_plugins_pack.approvals.content import recorded
from mlflow_plugins_pack.approvals.web import candidate, comparison, markdown, plots


@pytest.mark.parametrize(
    ("metric", "direction"),
    [
        ("auc", 1),
        ("val_accuracy", 1),
        ("test/f1", 1),
        ("valLoss", -1),
        ("rmse", -1),
        ("latency_ms", -1),
        ("rows", 0),
        ("accessories", 0),
        ("flossing", 0),
    ],
)
def test_which_way_is_better_is_read_from_the_name(metric: str, direction: int) -> None:
    assert comparison.direction_of(metric) == direction


def test_metrics() -> None:
    new = {"auc": 0.93, "loss": 0.5, "rows": 2.0, "f1": float("nan"), "only_new": 1.0}
    old = {"auc": 0.91, "loss": 0.4, "rows": 1.0, "f1": 0.5, "only_old": 1.0}
    found = {row.name: row for row in comparison.metrics(new, old, has_holder=True)}
    assert {name: row.change for name, row in found.items()} == {
        "auc": "better",
        "loss": "worse",
        "rows": "changed",
        "f1": "changed",
        "only_new": "new",
        "only_old": "gone",
    }
    assert found["auc"].detail == "+0.02 (+2.2%)"
    alone = comparison.metrics(new, {}, has_holder=False)
    assert {row.change for row in alone} == {"same"}  # without a holder nothing differs


def test_data_with_other_bytes_is_told_from_new_and_gone() -> None:
    def entry(name: str, digest: str) -> dict[str, object]:
        return {"u": f"s3://d/{name}", "h": f"sha256:{digest}", "n": 2048, "r": "data"}

    rows = comparison.data(
        [entry("a", "1"), entry("b", "2"), entry("new", "3")],
        [entry("a", "1"), entry("b", "9"), entry("old", "3")],
        has_holder=True,
    )
    assert [(row.name, row.change) for row in rows] == [
        ("s3://d/a", "same"),
        ("s3://d/b", "changed"),
        ("s3://d/new", "new"),
        ("s3://d/old", "gone"),
    ]
    assert rows[0].candidate == "2.0 KiB, sha256:1"


def test_a_size_that_no_file_has_is_not_shown() -> None:
    (row,) = comparison.data([{"u": "a", "n": 10**400, "h": "sha256:ab"}], [], has_holder=False)
    assert row.candidate == "sha256:ab"


def test_text_diff() -> None:
    kinds = [kind for kind, _ in comparison.text_diff("a\nb", "a\nc")]
    assert kinds == ["at", "same", "del", "add"]
    long = comparison.text_diff("", "\n".join(map(str, range(1000))), limit=10)
    assert (len(long), long[-1][0]) == (11, "at")


def test_a_diff_leads_from_one_text_to_the_other() -> None:
    chance = random.Random(1)
    for _ in range(50):
        old = [chance.choice("abcdefgh") for _ in range(chance.randint(2, 60))]
        new = [line if chance.random() < 0.9 else "other" for line in old]
        new[chance.randrange(len(new)) :] += ["more"] * chance.randint(0, 3)
        lines = comparison.text_diff("\n".join(old), "\n".join(new))
        gone = Counter(line[1:] for kind, line in lines if kind == "del")
        came = Counter(line[1:] for kind, line in lines if kind == "add")
        assert Counter(old) - gone + came == Counter(new)
    lines = comparison.text_diff("\n".join("abcdefgh"), "\n".join("abcdeXgh"))
    assert [line for _, line in lines] == list(
        difflib.unified_diff("abcdefgh", "abcdeXgh", lineterm="")
    )[2:]


def test_no_pair_of_texts_takes_long_to_compare() -> None:
    """Small files that share lines in another order: minutes for the library."""
    words = [f"{chr(97 + n % 26)}{chr(97 + n // 26)}" for n in range(101)]
    old, new = "\n".join(words * 200), "\n".join(words[::-1] * 200)
    began = time.process_time()
    assert comparison.text_diff(old, new) == [
        ("at", "lines 1 to 20200 became 20200 others: too many to compare here")
    ]
    assert comparison.text_diff(f"{old}\na\nz", f"{old}\nb\nz")[-3:] == [
        ("del", "-a"),
        ("add", "+b"),
        ("same", " z"),
    ]
    comparison.text_diff(old[:2900], new[:2900])
    assert time.process_time() - began < 2


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "[x](javascript:alert(1))",
        "[x](JaVaScRiPt:alert(1))",
        "[x](data:text/html,<script>alert(1)</script>)",
        "![x](https://evil.example/pixel.png)",
        "<https://ok.example><svg onload=alert(1)>",
        "[x](vbscript:x)",
        '[x](https://a.example "onmouseover=alert(1) ")',
        "[a]: javascript:alert(1)\n\n[a]",
    ],
)
def test_markdown_lets_no_active_content_through(text: str) -> None:
    found = str(markdown.render(text)).lower()
    for tag in ("<script", "<img", "<svg", "<iframe"):
        assert tag not in found
    for scheme in ("javascript:", "data:", "vbscript:"):
        assert f'href="{scheme}' not in found
    assert " onerror=" not in found.replace("&lt;img src=x onerror=", "")


def test_markdown_renders_what_reviewers_write() -> None:
    found = str(markdown.render("**yes**, see [it](https://a.example/x)\n\n- `a`"))
    assert "<strong>yes</strong>" in found
    assert 'href="https://a.example/x" rel="nofollow noopener noreferrer ugc"' in found
    assert "<li><code>a</code></li>" in found


def test_plots_leave_out_what_is_not_finite() -> None:
    found = plots.plot("loss", [(0, 2.0), (1, float("nan")), (2, 1.0)], [])
    assert found is not None
    assert (found.candidate, found.low, found.high) == ("0.0,10.0 600.0,140.0", "1", "2")
    assert plots.plot("loss", [(0, 2.0)], []) is None
    assert plots.plot("loss", [(5, 1.0), (5, 1.0)], [(0, float("inf"))]) is not None


def _version(sizes: dict[str, int], digests: dict[str, str]) -> VersionFiles:
    found: Any = SimpleNamespace(sizes=sizes, digests=digests)
    return found


def test_files_of_one_size_differ_by_their_digests() -> None:
    sizes = {"weights": 9, "MLmodel": 5, "here": 1}
    new = _version(sizes, {"weights": "a" * 64, "MLmodel": "b" * 64, "here": "d" * 64})
    old = _version({"weights": 9, "MLmodel": 5}, {"weights": "c" * 64, "MLmodel": "b" * 64})
    rows = {row.name: (row.candidate, row.change) for row in candidate._files([new, old], set())}
    assert rows == {
        "weights": ("9 B, sha256:aaaaaaaaaaaa", "changed"),
        "MLmodel": ("5 B, sha256:bbbbbbbbbbbb", "same"),
        "here": ("1 B, sha256:dddddddddddd", "new"),
    }
    # Another store knows no digests: nothing is compared with nothing.
    rows = {
        row.name: (row.candidate, row.change)
        for row in candidate._files([new, _version(sizes, {})], {"MLmodel"})
    }
    assert rows["weights"] == ("9 B", "same")
    assert rows["MLmodel"] == ("5 B", "changed")
    assert candidate._files([_version({}, {})], set()) == ()


def test_a_store_of_content_tells_the_digests_of_files(tmp_path: Path) -> None:
    (tmp_path / "weights").write_bytes(b"weights")
    found = recorded.opened(f"cas-file://{tmp_path}/store/1/run/artifacts")
    assert found is not None
    found[0].log_artifact(str(tmp_path / "weights"), "model")
    expected = {"weights": hashlib.sha256(b"weights").hexdigest()}
    assert recorded.digests(found[0], "model") == expected
    assert recorded.digests(found[0], "none") == {}
    assert recorded.digests(object(), "model") == {}
