"""Computes the fact ``coverage``: how complete a run's record is, and what was not seen."""

from __future__ import annotations

import os
from typing import Any

from mlflow_plugins_pack.lineage.attribution.runs import FULLY
from mlflow_plugins_pack.lineage.capture import (
    folder_descriptors,
    import_hooks,
    mentions,
    own_code,
    usage,
)
from mlflow_plugins_pack.lineage.capture.libraries.sql_statements import not_parsed
from mlflow_plugins_pack.lineage.capture.libraries.table import LAYERS, NOT_SEEN_INTO, SEEN_INTO
from mlflow_plugins_pack.lineage.capture.observing.observe import unobserved, unobserved_types

_OF_LAYERS = (("boto", "botocore"), ("azure", "azure.storage.blob"), ("sql", "sqlalchemy"))


def coverage(
    layers: tuple[str, ...],
    *,
    unchecked: bool = False,
    applies: str = FULLY,
    captured_programs: int = 0,
) -> dict[str, Any]:
    """Return which layers were on, and what the program used that they cannot see.

    Args:
        layers: The layers that were on.
        unchecked: The files did not answer when the run ended.
        applies: How far the capture applies to the run, as in `RunState`.
        captured_programs: How many programs that were started reported that they capture too.

    Returns:
        ``layers`` and ``complete``; if it is not, also what it lacks: ``blind`` (libraries and
        functions), ``programs``, ``other_hosts``, ``unchecked``, ``applies``.
    """
    blind = {library for library in NOT_SEEN_INTO if usage.is_used(library)}
    blind |= {name for name in unobserved if usage.is_used(name.partition(".")[0])}
    blind |= {name for name in unobserved_types if _may_be_called(name, unchecked=unchecked)}
    if not unchecked:
        blind |= mentions.unseen()
    if "wrap" not in layers:
        blind |= {library for library in SEEN_INTO if usage.is_used(library)}
    off = (library for layer, library in _OF_LAYERS if layer not in layers)
    blind |= {library for library in off if usage.is_used(library)}
    blind |= {*import_hooks.failures, *not_parsed, *folder_descriptors.missed}
    lacking: dict[str, Any] = {
        "blind": sorted(blind),
        "programs": usage.unseen_programs(captured_programs),
        "other_hosts": _has_other_hosts(),
        "unchecked": unchecked,
        "applies": applies if applies != FULLY else None,
    }
    lacking = {key: value for key, value in lacking.items() if value}
    complete = not lacking and set(layers) == set(LAYERS)
    return {"layers": list(layers), "complete": complete, **lacking}


def _may_be_called(name: str, *, unchecked: bool) -> bool:
    library, _, type_name = name.partition(".")
    return usage.is_used(library) if unchecked else own_code.is_named(type_name)


def _has_other_hosts() -> bool:
    """Return whether ranks of this training run on hosts that report to another rank 0."""
    ranks = [os.environ.get(name, "") for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE")]
    return all(text.isdigit() for text in ranks) and int(ranks[0]) > int(ranks[1])
