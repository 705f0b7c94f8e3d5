"""The datasets of a record in MLflow's own tables, by which searches find its run; pure.

A tag that lists an input can be searched only by reading that tag of every run. A dataset is a row
of its own, so one search with a list of digests finds all runs that have one of them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import unquote

from mlflow_plugins_pack.lineage.document.graph import (
    DATA,
    FULL,
    INTERMEDIATE,
    MODEL,
    Entry,
    Graph,
    last_name,
)

READ, WRITE = "read", "write"
LIMIT = 100
"""Most datasets of a run for what it read, and as many for what it wrote."""
DIGEST_CHARACTERS = 36
_NAME_CHARACTERS = 500
_SOURCE_CHARACTERS = 65_000
_WRITTEN = "w"
_STOCK_SCHEMES = frozenset({"s3", "gs", "wasbs"})
"""Schemes that stock MLflow has a source type for, of the same name."""
OWN_SOURCE_TYPE = "plugins-pack"
"""The type of `dataset_source.RecordedSource`."""


@dataclass(frozen=True)
class Dataset:
    """A dataset as MLflow stores it.

    Attributes:
        name: For people, and to search by.
        digest: At most 36 characters.
        context: ``read`` or ``write``.
        source_type: A source type that MLflow knows.
        source: JSON of the source.
        profile: JSON of sizes.
    """

    name: str
    digest: str
    context: str
    source_type: str
    source: str
    profile: str = "{}"


def read_digest(entry: Entry) -> str:
    """Return the digest of the dataset of something read: the start of its sha256.

    Content that was not hashed is the same only in the same place, with the same version, or size
    and time. MLflow merges datasets of equal name and digest within an experiment.
    """
    if entry.digest:
        return entry.digest.removeprefix("sha256:")[:DIGEST_CHARACTERS]
    return _hashed(f"{entry.uri}\0{entry.content}")


def written_digest(entry: Entry) -> str:
    """Return the digest of the dataset of something written, which is not that of reading it.

    A search by digest thus finds either the runs that read a content, or those that wrote it.
    """
    return f"{_WRITTEN}{read_digest(entry)}"[:DIGEST_CHARACTERS]


def name_digest(name: str) -> str:
    """Return the digest of the dataset that stands for a run id or ``models:/NAME/VERSION``."""
    return _hashed(name)


def dataset_name(uri: str) -> str:
    """Return the name of the dataset of a place."""
    return last_name(uri)[:_NAME_CHARACTERS]


def datasets(listed: Graph) -> Iterator[Dataset]:
    """Return the datasets of a record as its tags list it."""
    # What the person logged has a dataset already.
    read = [e for e in listed.inputs if e.role in (DATA, MODEL) and e.dataset is None]
    written = [entry for entry in listed.outputs if entry.role != INTERMEDIATE]
    for entries, context, digest_of in (
        (read, READ, read_digest),
        (written, WRITE, written_digest),
    ):
        for entry in entries[:LIMIT]:
            source_type, source = _source(entry)
            if len(source) <= _SOURCE_CHARACTERS:
                sizes = (("bytes", entry.size), ("files", entry.files))
                profile = json.dumps({key: value for key, value in sizes if value is not None})
                name = dataset_name(entry.uri)
                yield Dataset(name, digest_of(entry), context, source_type, source, profile)
    for run_id in listed.upstream_runs[:LIMIT]:
        yield _upstream(f"runs:/{run_id}", name_digest(run_id))
    for model in listed.upstream_models[:LIMIT]:
        yield _upstream(model, name_digest(model))


def _upstream(uri: str, digest: str) -> Dataset:
    return Dataset(uri, digest, READ, "local", json.dumps({"uri": uri}))


def _source(entry: Entry) -> tuple[str, str]:
    """Return type and JSON of the source by which MLflow loads an entry again."""
    scheme = entry.uri.partition("://")[0]
    if scheme in _STOCK_SCHEMES:
        # Stock sources take a key as it is, not percent-encoded.
        return scheme, json.dumps({"uri": unquote(entry.uri)})
    if scheme in ("http", "https"):
        return "http", json.dumps({"url": entry.uri})
    values = {
        "uri": entry.uri,
        "digest": entry.digest if entry.coverage == FULL else None,
        "version": entry.version,
        "from": entry.origin,
    }
    known = {key: value for key, value in values.items() if value is not None}
    return OWN_SOURCE_TYPE, json.dumps(known)


def _hashed(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:DIGEST_CHARACTERS]
