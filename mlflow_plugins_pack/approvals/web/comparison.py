"""Compares a candidate with the holder of its target: metrics, parameters, data; pure."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Change = Literal["same", "better", "worse", "changed", "new", "gone"]

_LOWER_IS_BETTER = re.compile(
    r"(^|[_\-./ ])(loss|error|err|mse|rmse|mae|msle|rmsle|logloss|log_loss|perplexity|wer|cer"
    r"|latency|duration|seconds|time|bytes|bias|drift|psi)([_\-./ ]|$)"
)
_HIGHER_IS_BETTER = re.compile(
    r"(^|[_\-./ ])(acc|accuracy|auc|roc_auc|pr_auc|f1|fbeta|precision|recall|r2|score|gini|ndcg|map"
    r"|mrr|bleu|iou|dice|sensitivity|specificity|tpr|tnr|throughput|silhouette)([_\-./ ]|$)"
)


@dataclass(frozen=True)
class Row:
    """One name with its value in the candidate and in the holder.

    Attributes:
        name: The metric, parameter, tag or file.
        candidate: The candidate's value as text; None: it has none.
        holder: The holder's value.
        change: How they differ.
        detail: The difference in words or numbers.
    """

    name: str
    candidate: str | None
    holder: str | None
    change: Change
    detail: str = ""


def direction_of(metric: str) -> int:
    """Return 1 if more of a metric is better, -1 if less is, 0 where its name does not say."""
    name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", metric).lower()
    if _LOWER_IS_BETTER.search(name):
        return -1
    return 1 if _HIGHER_IS_BETTER.search(name) else 0


def metrics(
    candidate: Mapping[str, float], holder: Mapping[str, float], *, has_holder: bool
) -> list[Row]:
    """Compare metrics; which way is better is read from their names."""
    return [
        _metric(name, candidate.get(name), holder.get(name), has_holder=has_holder)
        for name in sorted({*candidate, *holder})
    ]


def _metric(name: str, new: float | None, old: float | None, *, has_holder: bool) -> Row:
    shown = (_figure(new), _figure(old))
    if new is None or old is None:
        change: Change = "gone" if new is None else "new" if has_holder else "same"
        return Row(name, *shown, change)
    if new == old or (math.isnan(new) and math.isnan(old)):
        return Row(name, *shown, "same")
    if not (math.isfinite(new) and math.isfinite(old)):
        return Row(name, *shown, "changed")
    difference = new - old
    detail = f"{difference:+.4g}"
    if old != 0:
        detail += f" ({difference / abs(old):+.1%})"
    towards = direction_of(name) * difference
    change = "changed" if towards == 0 else "better" if towards > 0 else "worse"
    return Row(name, *shown, change, detail)


def _figure(value: float | None) -> str | None:
    return None if value is None else f"{value:.6g}"


def texts(
    candidate: Mapping[str, str], holder: Mapping[str, str], *, has_holder: bool
) -> list[Row]:
    """Compare parameters or tags."""
    rows = []
    for name in sorted({*candidate, *holder}):
        new, old = candidate.get(name), holder.get(name)
        change: Change = "same" if new == old or not has_holder else "changed"
        if new is None or (old is None and has_holder):
            change = "gone" if new is None else "new"
        rows.append(Row(name, new, old, change))
    return rows


def data(
    candidate: Iterable[Mapping[str, Any]], holder: Iterable[Mapping[str, Any]], *, has_holder: bool
) -> list[Row]:
    """Compare what two runs read: the same place with other bytes counts as changed."""
    rows = []
    new, old = _by_place(candidate), _by_place(holder)
    for place in sorted({*new, *old}):
        a, b = new.get(place), old.get(place)
        change: Change = "same"
        if a is None or (b is None and has_holder):
            change = "gone" if a is None else "new"
        elif b is not None and not _has_same_bytes(a, b):
            change = "changed"
        shown = [None if entry is None else _bytes_of(entry) for entry in (a, b)]
        note = "changed after it was read" if a is not None and a.get("changed") else ""
        rows.append(Row(place, shown[0], shown[1], change, note))
    return rows


def _by_place(entries: Iterable[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    return {str(e.get("u", "")): e for e in entries if e.get("r", "data") != "intermediate"}


def _has_same_bytes(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    if a.get("h") and b.get("h"):
        return bool(a["h"] == b["h"])
    return bool((a.get("v"), a.get("n"), a.get("m")) == (b.get("v"), b.get("n"), b.get("m")))


def _bytes_of(entry: Mapping[str, Any]) -> str:
    parts = []
    if isinstance(entry.get("n"), int) and 0 <= entry["n"] < 1 << 63:
        parts.append(size(entry["n"]))
    if isinstance(entry.get("files"), int):
        parts.append(f"{entry['files']} files")
    if isinstance(entry.get("h"), str):
        parts.append(entry["h"][:19])
    elif isinstance(entry.get("v"), str):
        parts.append(f"version {entry['v'][:24]}")
    return ", ".join(parts) or "not known"


def size(count: int) -> str:
    """Return a number of bytes with a binary unit."""
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


_MAX_DIFF_LINES = 1000
"""Of each text where they differ: the time of a comparison grows with the third power."""
_CONTEXT = 3


def text_diff(holder: str, candidate: str, *, limit: int = 400) -> list[tuple[str, str]]:
    """Return a unified diff as pairs of a kind (``add``, ``del``, ``same``, ``at``) and a line."""
    old, new = holder.splitlines(), candidate.splitlines()
    start = _common(old, new)
    end = min(_common(old[::-1], new[::-1]), min(len(old), len(new)) - start)
    first = max(0, start - _CONTEXT)
    old, new = (lines[first : len(lines) - max(0, end - _CONTEXT)] for lines in (old, new))
    if max(len(old), len(new)) > _MAX_DIFF_LINES:
        where = f"lines {first + 1} to {first + len(old)} became {len(new)} others"
        return [("at", f"{where}: too many to compare here")]
    found = []
    matcher = difflib.SequenceMatcher(None, old, new)
    for group in matcher.get_grouped_opcodes(_CONTEXT):
        found.append(("at", _place(group, first)))
        for kind, a, b, c, d in group:
            if kind == "equal":
                found += [("same", f" {line}") for line in old[a:b]]
            else:
                found += [("del", f"-{line}") for line in old[a:b]]
                found += [("add", f"+{line}") for line in new[c:d]]
    rest = len(found) - limit
    return found[:limit] + ([("at", f"{rest} more lines")] if rest > 0 else [])


def _common(one: Sequence[str], other: Sequence[str]) -> int:
    """Return how many lines are the same at the beginning of two texts."""
    pairs = enumerate(zip(one, other, strict=False))
    differing = (number for number, (a, b) in pairs if a != b)
    return next(differing, min(len(one), len(other)))


def _place(group: Sequence[tuple[str, int, int, int, int]], first: int) -> str:
    _, a, _, c, _ = group[0]
    _, _, b, _, d = group[-1]
    return f"@@ -{first + a + 1},{b - a} +{first + c + 1},{d - c} @@"
