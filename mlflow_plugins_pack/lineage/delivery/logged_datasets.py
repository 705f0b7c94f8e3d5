"""Datasets that the person logs with `mlflow.log_input`, as part of the record.

A dataset whose source was also seen by capture is one entry with it. One whose source capture
cannot see, such as a table of Spark or of a warehouse, becomes an entry of its own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from mlflow_plugins_pack.lineage.document.graph import (
    DATA,
    Entry,
    Graph,
    file_uri,
    object_uri,
    path_of,
    role_of,
    without_secrets,
)

VIA = "logged"
OWN = "lineage.recorded"
"""Key of the tag that marks a dataset which the pack logged itself."""
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_IN_MEMORY = "code"
"""MLflow's source type of data that has no place: it names the code that made it."""


@dataclass(frozen=True)
class LoggedDataset:
    """A dataset as a person logged it.

    Attributes:
        label: Its name and digest, with ``@`` in between.
        places: Where it comes from, as URIs in the form of the record's.
        version: Version of these places, if the source has one.
    """

    label: str
    places: tuple[str, ...]
    version: str | None = None


def of_run(run: Any) -> list[LoggedDataset]:
    """Return the datasets that a person logged to a run and whose source is known."""
    found = []
    for item in getattr(getattr(run, "inputs", None), "dataset_inputs", None) or ():
        if any(tag.key == OWN for tag in item.tags):
            continue
        dataset = item.dataset
        places, version = places_of(dataset.source_type, dataset.source)
        if places:
            found.append(LoggedDataset(f"{dataset.name}@{dataset.digest}", places, version))
    return found


def places_of(source_type: str, source: str) -> tuple[tuple[str, ...], str | None]:
    """Return the places of a dataset's source and their version.

    Args:
        source_type: As MLflow names it, such as ``local`` or ``delta_table``.
        source: JSON that the source made of itself.
    """
    try:
        said = json.loads(source)
    except (ValueError, RecursionError):
        return (), None
    if source_type == _IN_MEMORY or not isinstance(said, dict):
        return (), None
    version = said.get("delta_table_version")
    places = tuple(dict.fromkeys(_places(source_type, said)))
    return places, None if version is None else f"delta:{version}"


def _places(source_type: str, said: dict[str, Any]) -> Iterator[str]:
    if source_type == "hugging_face" and said.get("path"):
        revision = f"@{said['revision']}" if said.get("revision") else ""
        yield f"hf://datasets/{quote(str(said['path']))}{revision}"
        return
    for key in ("uri", "url", "path"):
        if said.get(key):
            yield _normal(str(said[key]))
            return
    for key in ("table_name", "delta_table_name"):
        if said.get(key):
            yield table_uri(str(said[key]))
            return
    if said.get("sql"):
        from mlflow_plugins_pack.lineage.capture.libraries.sql_statements import shape, tables_of

        for table in tables_of(shape(str(said["sql"]), "spark"), "spark").read:
            yield table_uri(".".join(part for part in table if part))


def table_uri(name: str) -> str:
    """Return the URI of a table that a catalog names; its server is not known."""
    return f"table:///{quote(name, safe='.-_$')}"


def _normal(place: str) -> str:
    """Return a path or URI as the record writes it."""
    if place.startswith("file:"):
        return file_uri(path_of("file://" + place.removeprefix("file:").removeprefix("//")))
    if not _URI.match(place):
        return place if place.startswith(("runs:/", "models:/")) else file_uri(_absolute(place))
    scheme, _, rest = without_secrets(place).partition("://")
    if scheme in ("http", "https"):
        return f"{scheme}://{rest}"
    bucket, _, key = rest.partition("/")
    return object_uri("s3" if scheme in ("s3a", "s3n") else scheme, bucket, unquote(key))


def _absolute(path: str) -> str:
    return str(Path(path).absolute())


def merged(graph: Graph, logged: Iterable[LoggedDataset], home: str = "") -> Graph:
    """Return a record joined with the datasets that a person logged.

    Args:
        graph: What capture saw.
        logged: The datasets.
        home: Home folder, where the record may have ``~`` in its place.
    """
    entries = list(graph.inputs)
    for dataset in logged:
        for place in dataset.places:
            names = {place.rstrip("/"), _redacted(place, home).rstrip("/")}
            at = [n for n, entry in enumerate(entries) if entry.uri.rstrip("/") in names]
            for number in at:
                entries[number] = replace(entries[number], dataset=dataset.label)
            if not at:
                role = role_of(place) if place.startswith("file://") else DATA
                shown = _redacted(place, home)
                entries.append(
                    Entry(shown, version=dataset.version, role=role, via=VIA, dataset=dataset.label)
                )
    return replace(graph, inputs=tuple(sorted(entries, key=lambda e: (e.uri, e.content))))


def _redacted(uri: str, home: str) -> str:
    return file_uri(path_of(uri), home) if home and uri.startswith("file://") else uri
