"""What a record may lack, in words; pure."""

from __future__ import annotations

from mlflow_plugins_pack.lineage.document.graph import Graph

NO_RECORD = ("no lineage was recorded",)


def lacking(record: Graph | None) -> tuple[str, ...]:
    """Return what a run's record may lack; empty if it is known to be complete.

    Args:
        record: What the run read and wrote; None if it has no record.
    """
    if record is None:
        return NO_RECORD
    coverage = record.facts.get("coverage") or {}
    found = [
        text
        for key, text in (
            ("blind", f"blind to {_listed(coverage.get('blind'))}"),
            ("programs", f"without capture in {_listed(coverage.get('programs'))}"),
            ("other_hosts", "without the ranks on other hosts"),
            ("unchecked", "files not looked at when the run ended"),
            ("applies", "other runs were open at the same time"),
        )
        if coverage.get(key)
    ]
    if record.dropped:
        found.append(f"without {record.dropped} more files that were seen")
    if not found and coverage.get("complete") is not True:
        found.append("not every layer was on" if coverage else "its coverage is not known")
    return tuple(found)


def _listed(names: object) -> str:
    return ", ".join(map(str, names)) if isinstance(names, (list, tuple)) else str(names)
