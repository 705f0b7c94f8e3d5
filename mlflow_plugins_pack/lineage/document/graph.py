"""The record of one run as plain values: entries, their order, union and digests; pure."""

from __future__ import annotations

import hashlib
import json
import os
import posixpath
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import quote, unquote_to_bytes, urlsplit

SCHEMA_VERSION = "1"

FULL, SAMPLED, STAT = "full", "sampled", "stat"
DATA, CONFIG, MODEL, INTERMEDIATE = "data", "config", "model", "intermediate"

_CONFIG_SUFFIXES = ".yaml .yml .toml .ini .cfg .conf .properties .env"
_MODEL_SUFFIXES = ".joblib .pt .pth .ckpt .onnx .safetensors .keras .tflite .ubj .cbm .gguf .skops"
_ROLES = {
    **dict.fromkeys(_CONFIG_SUFFIXES.split(), CONFIG),
    **dict.fromkeys(_MODEL_SUFFIXES.split(), MODEL),
}
_STRENGTH = {FULL: 0, SAMPLED: 1, STAT: 2}
# Characters that a path may hold unquoted in a URI (RFC 3986, pchar without %).
_SAFE = "/~!$&'()*+,;=:@-._"


@dataclass(frozen=True)
class Entry:
    """One input or output.

    Attributes:
        uri: ``file:///...``, ``s3://...``; ends in ``/`` for a rolled-up folder.
        digest: ``sha256:<hex>``, or None.
        size: Bytes, or None.
        modified: Seconds since 1970, or None.
        version: Version or entity tag of an object store; ``dvc:md5:...`` or ``git:...`` of a local
            file that these track; or None.
        origin: The artifact that a local file was downloaded from, or None.
        role: ``data``, ``config``, ``model`` or ``intermediate`` (written by the run itself).
        via: Layer that saw it.
        coverage: How much of the content ``digest`` covers: ``full``, ``sampled`` or ``stat``.
        changed: The content is not the one that was read.
        shared: Read before the run began, by its parent or before the first run of the process.
        files: Number of files of a rolled-up folder, or None.
        dataset: Name and digest, with ``@`` in between, of the dataset that the person logged for
            it, or None.
        columns: Columns of a table that were named, in alphabetical order.
    """

    uri: str
    digest: str | None = None
    size: int | None = None
    modified: int | None = None
    version: str | None = None
    role: str = DATA
    via: str = "audit"
    coverage: str = STAT
    changed: bool = False
    shared: bool = False
    files: int | None = None
    origin: str | None = None
    dataset: str | None = None
    columns: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the entry in the short keys of the tags, absent values left out."""
        values: dict[str, Any] = {
            "u": self.uri,
            "h": self.digest,
            "n": self.size,
            "m": self.modified,
            "v": self.version,
            "r": self.role,
            "via": self.via,
            "c": self.coverage,
            "changed": self.changed or None,
            "shared": self.shared or None,
            "files": self.files,
            "from": self.origin,
            "ds": self.dataset,
            "cols": list(self.columns) or None,
        }
        return {key: value for key, value in values.items() if value is not None}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Entry:
        """Read what `to_json` wrote.

        Raises:
            KeyError: If the URI is missing.
            TypeError: If a value has another type: anyone who may write a run may write tags.
            ValueError: If a text is not Unicode.
        """
        texts = {key: _text(value[key]) for key in _TEXTS if value.get(key) is not None}
        counts = {key: _count(value[key]) for key in _COUNTS if value.get(key) is not None}
        return cls(
            uri=texts["u"],
            digest=texts.get("h"),
            size=counts.get("n"),
            modified=counts.get("m"),
            version=texts.get("v"),
            role=texts.get("r", DATA),
            via=texts.get("via", "audit"),
            coverage=texts.get("c", STAT),
            changed=bool(value.get("changed")),
            shared=bool(value.get("shared")),
            files=counts.get("files"),
            origin=texts.get("from"),
            dataset=texts.get("ds"),
            columns=tuple(map(_text, value.get("cols") or ())),
        )

    @property
    def content(self) -> str:
        """The best known identity of the content, independent of where it is stored."""
        if self.digest:
            return self.digest
        if self.version:
            return f"version:{self.version}"
        return f"stat:{self.uri}:{self.size}:{self.modified}"


@dataclass(frozen=True)
class Graph:
    """What one run read and wrote.

    Attributes:
        inputs: In the order of their URIs.
        outputs: In the order of their URIs.
        upstream_runs: Runs whose files this run read, or whose artifacts it fetched.
        upstream_models: Model versions that it fetched, as ``models:/name/3``.
        dropped: Opens of files beyond the limit, which are in no entry.
        members: Names of the files behind the entries that stand for a whole folder, by its URI.
    """

    inputs: tuple[Entry, ...] = ()
    outputs: tuple[Entry, ...] = ()
    upstream_runs: tuple[str, ...] = ()
    upstream_models: tuple[str, ...] = ()
    dropped: int = 0
    facts: Mapping[str, Any] = field(default_factory=dict)
    members: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def folder_of(self, uri: str, entries: Iterable[Entry]) -> Entry | None:
        """Return that one of some entries which stands for a folder that a file was read from."""
        folder, _, name = uri.rpartition("/")
        if unquote_to_bytes(name) not in map(os.fsencode, self.members.get(f"{folder}/", ())):
            return None
        return next((e for e in entries if e.uri == f"{folder}/"), None)

    def union(self, newer: Graph) -> Graph:
        """Return the entries of both; where both have a content, the newer entry counts."""
        return Graph(
            inputs=_union(self.inputs, newer.inputs),
            outputs=_union(self.outputs, newer.outputs),
            upstream_runs=tuple(dict.fromkeys((*self.upstream_runs, *newer.upstream_runs))),
            upstream_models=tuple(dict.fromkeys((*self.upstream_models, *newer.upstream_models))),
            dropped=self.dropped + newer.dropped,
            facts={**self.facts, **newer.facts},
            members={
                **self.members,
                **newer.members,
                **{
                    folder: tuple(sorted({*self.members[folder], *newer.members[folder]}))
                    for folder in self.members.keys() & newer.members.keys()
                },
            },
        )

    def to_json(self) -> dict[str, Any]:
        """Return the document that becomes ``lineage/lineage.json``."""
        return {
            "schema": SCHEMA_VERSION,
            "digest": inputs_digest(self.inputs),
            "inputs": [entry.to_json() for entry in self.inputs],
            "outputs": [entry.to_json() for entry in self.outputs],
            "upstream_runs": list(self.upstream_runs),
            "upstream_models": list(self.upstream_models),
            "dropped": self.dropped,
            **({"members": {k: list(v) for k, v in self.members.items()}} if self.members else {}),
            **self.facts,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Graph:
        """Read what `to_json` wrote; keys of later versions are ignored.

        Raises:
            KeyError: If an entry has no URI.
            TypeError: If a value has another type.
            ValueError: If a text is not Unicode.
        """
        facts = {key: value[key] for key in ("code", "env", "coverage") if key in value}
        members = value.get("members", {})
        if not all(isinstance(found, dict) for found in (*facts.values(), members)):
            raise TypeError("facts and members are objects")
        return cls(
            inputs=tuple(Entry.from_json(entry) for entry in value.get("inputs", ())),
            outputs=tuple(Entry.from_json(entry) for entry in value.get("outputs", ())),
            upstream_runs=tuple(map(_text, value.get("upstream_runs", ()))),
            upstream_models=tuple(map(_text, value.get("upstream_models", ()))),
            dropped=_count(value.get("dropped", 0)),
            facts=facts,
            members={key: tuple(map(_name, names)) for key, names in members.items()},
        )


_TEXTS = ("u", "h", "v", "r", "via", "c", "from", "ds")
_COUNTS = ("n", "m", "files")


def _name(value: object) -> str:
    """Return a file's name, which may hold surrogate escapes."""
    if not isinstance(value, str):
        raise TypeError("it is not a text")
    return value


def _text(value: object) -> str:
    text = _name(value)
    text.encode()  # a lone surrogate is in no URI, and cannot be printed or hashed
    return text


def _count(value: object) -> int:
    if type(value) is not int:
        raise TypeError("it is not a number")
    return value


def _union(older: tuple[Entry, ...], newer: tuple[Entry, ...]) -> tuple[Entry, ...]:
    merged: dict[tuple[str, str], Entry] = {}
    for entry in (*older, *newer):
        key = (entry.uri, entry.content)
        known = merged.get(key)
        if known is not None and known.shared != entry.shared:
            entry = replace(entry, shared=False)
        merged[key] = entry
    return tuple(merged[key] for key in sorted(merged))


def inputs_digest(inputs: Iterable[Entry]) -> str:
    """Return one digest for the contents of all data, wherever the files lie.

    Two runs with the same digest read the same bytes. Configuration, and files that the run wrote
    itself, do not count.
    """
    contents = sorted({e.content for e in inputs if e.role in (DATA, MODEL)})
    return "sha256:" + hashlib.sha256("\n".join(contents).encode()).hexdigest()


def merkle(entries: Iterable[Entry]) -> str:
    """Return a folder's digest: over its files' sorted URIs and contents."""
    hasher = hashlib.sha256()
    for entry in sorted(entries, key=lambda e: e.uri):
        # JSON keeps the two apart whatever characters they hold.
        hasher.update(json.dumps([entry.uri, entry.content]).encode() + b"\n")
    return "sha256:" + hasher.hexdigest()


def roll_up(folder: str, entries: list[Entry]) -> Entry:
    """Return one entry for the files of a folder.

    Args:
        folder: URI that ends in ``/`` and starts every entry's.
        entries: At least one.
    """
    roles = {entry.role for entry in entries}
    sizes = [entry.size for entry in entries if entry.size is not None]
    return Entry(
        uri=folder,
        digest=merkle(entries),
        size=sum(sizes) if sizes else None,
        modified=max((e.modified for e in entries if e.modified is not None), default=None),
        role=roles.pop() if len(roles) == 1 else DATA,
        via=sorted({entry.via for entry in entries})[0],
        coverage=max((entry.coverage for entry in entries), key=lambda c: _STRENGTH.get(c, 2)),
        changed=any(entry.changed for entry in entries),
        shared=all(entry.shared for entry in entries),
        files=sum(entry.files or 1 for entry in entries),
    )


def parent_uri(uri: str) -> str | None:
    """Return the folder that holds a URI, with a slash at its end; None at the root."""
    scheme, separator, rest = uri.rstrip("/").partition("://")
    authority, slash, path = rest.partition("/")
    if not separator or not slash or not path:
        return None
    folder = posixpath.dirname(path)
    return f"{scheme}://{authority}/{folder}/" if folder else f"{scheme}://{authority}/"


def file_uri(path: str, home: str = "") -> str:
    """Return the URI of an absolute local path; every byte that needs it is percent-encoded.

    Args:
        path: Absolute; may hold surrogate escapes, as Python's file functions give them.
        home: Folder to write as ``~``; empty to write paths as they are.
    """
    home = home.rstrip("/")
    if home and (path == home or path.startswith(f"{home}/")):
        path = "/~" + path[len(home) :]
    return "file://" + quote(os.fsencode(path), safe=_SAFE)


def path_of(uri: str, home: str = "") -> str:
    """Return the local path of a `file_uri`."""
    path = os.fsdecode(unquote_to_bytes(uri.removeprefix("file://")))
    if home and (path == "/~" or path.startswith("/~/")):
        return home.rstrip("/") + path[2:]
    return path


def object_uri(scheme: str, bucket: str, key: str) -> str:
    """Return an object's URI, percent-encoded."""
    encoded = quote(key.encode("utf-8", "surrogateescape"), safe=_SAFE)
    return f"{scheme}://{quote(bucket, safe='@.-_')}/{encoded}"


def without_secrets(uri: str) -> str:
    """Return a URI without user information, query and fragment: places where secrets travel."""
    parts = urlsplit(uri)
    if not parts.scheme or not parts.netloc:
        return re.split(r"[?#]", uri, maxsplit=1)[0]
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def role_of(path: str) -> str:
    """Return the role that a file's name suggests."""
    return _ROLES.get(path[path.rfind(".") :].lower(), DATA)


def shown_uri(uri: str) -> str:
    """Return a URI for people: a local one as its path, nothing percent-encoded."""
    text = unquote_to_bytes(uri).decode("utf-8", "backslashreplace").removeprefix("file://")
    return text[1:] if text.startswith("/~/") else text


def last_name(uri: str) -> str:
    """Return the last part of a URI's path, decoded for people."""
    name = uri.rstrip("/").rpartition("/")[2]
    return unquote_to_bytes(name).decode("utf-8", "replace") or uri
