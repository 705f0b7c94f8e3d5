"""Reads what runs and models recorded about themselves: text that any writer of a run can choose.

Each reader has a bound in size, depth and number of values; what is beyond it counts as unreadable.
"""

from __future__ import annotations

import json
import logging
import os
import posixpath
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import yaml

from mlflow_plugins_pack.approvals.content import location
from mlflow_plugins_pack.approvals.policy.facts import Lineage

_logger = logging.getLogger(__name__)

LARGEST_BYTES = 8 << 20
"""Largest MLmodel or lineage.json that is read."""
MAX_YAML_EVENTS = 100_000
MAX_DEPTH = 100
MAX_INPUTS = 100_000
# libyaml's parser where it is installed: ten times as fast.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def has_signature(text: str) -> bool | None:
    """Return whether an ``MLmodel`` file has a signature; None: it cannot be read.

    Only the keys of the outermost mapping are looked at; no value is built.
    """
    try:
        return any(
            key == "signature" and value not in _EMPTY for key, value in _outermost_pairs(text)
        )
    except (yaml.YAMLError, RecursionError, ValueError):
        return None


def model_file(text: str) -> dict[str, Any]:
    """Return the values of an ``MLmodel`` file; empty if it cannot be read, or is not MLflow's."""
    try:
        for _ in _outermost_pairs(text):  # which refuses what is too large, too deep or an alias
            pass
        found = yaml.load(text, Loader=_LOADER)  # noqa: S506 - a safe loader
    except _UNREADABLE:
        return {}
    return found if isinstance(found, dict) else {}


# The last ones for a scalar with a tag that it does not fit, such as `!!bool x` or `!!timestamp x`.
_UNREADABLE = (yaml.YAMLError, RecursionError, ValueError, LookupError, AttributeError, TypeError)
_EMPTY = frozenset({"", "null", "~", "false", "no", "off", "0"})
_STARTS = (yaml.MappingStartEvent, yaml.SequenceStartEvent)
_ENDS = (yaml.MappingEndEvent, yaml.SequenceEndEvent)


def _outermost_pairs(text: str) -> Iterator[tuple[str, str]]:
    """Yield each key of a YAML mapping with its value, or with ``{}`` or ``""`` for a collection.

    Raises:
        ValueError: If it is not a mapping, too deep or too large.
    """
    depth, key, is_opening = 0, None, False
    for number, event in enumerate(yaml.parse(text, Loader=_LOADER)):
        if number > MAX_YAML_EVENTS or depth > MAX_DEPTH:
            raise ValueError("too large")
        if is_opening and key is not None:  # a collection: empty if it ends at once
            yield key, "" if isinstance(event, _ENDS) else "{}"
            key, is_opening = None, False
        if isinstance(event, _STARTS):
            if depth == 0 and not isinstance(event, yaml.MappingStartEvent):
                raise ValueError("not a mapping")
            is_opening = depth == 1
            depth += 1
        elif isinstance(event, _ENDS):
            depth -= 1
        elif isinstance(event, yaml.AliasEvent) or (
            isinstance(event, yaml.ScalarEvent) and depth == 0
        ):
            raise ValueError("not written by MLflow")
        elif isinstance(event, yaml.ScalarEvent) and depth == 1:
            if key is None:
                key = event.value
            else:
                yield key, event.value.lower()
                key = None


def lineage_of(run: Any) -> Lineage | None:
    """Return what a run's ``lineage.*`` tags say; where they are shortened, ``lineage.json``."""
    place = location.run_location(run, "lineage")
    return lineage_in(run.data.tags, lambda: read_file(place, "lineage.json"))


def lineage_in(tags: Mapping[str, str], read_whole: Callable[[], str | None]) -> Lineage | None:
    """Return what the ``lineage.*`` tags of a run say.

    Args:
        tags: The run's tags.
        read_whole: Returns the run's ``lineage.json``, which has what the tags leave out.
    """
    inputs = parsed(tags.get("lineage.inputs"), list)
    if inputs is None:
        return None
    code = parsed(tags.get("lineage.code"), dict) or {}
    shortened = parsed(tags.get("lineage.truncated", "{}"), dict)
    is_complete = shortened is not None and not any(
        shortened.get(key) for key in ("inputs", "rolled_up", "dropped")
    )
    if not is_complete:
        whole = parsed(read_whole(), dict) or {}
        listed = whole.get("inputs")
        if isinstance(listed, list):
            inputs, is_named = _with_members(listed, whole.get("members"))
            is_complete = is_named and not whole.get("dropped")
    entries = [entry for entry in inputs[:MAX_INPUTS] if isinstance(entry, dict)]
    try:
        values = (entries, code, parsed(tags.get("lineage.coverage"), dict))
        entries, code, coverage = _whole(values)
    except RecursionError:  # nested just deep enough to be parsed
        return None
    commit, is_dirty = code.get("commit"), code.get("dirty")
    return Lineage(
        tuple(entries),
        is_complete and len(entries) == len(inputs),
        commit if isinstance(commit, str) else None,
        is_dirty if isinstance(is_dirty, bool) else None,
        _lacks(coverage or {}),
    )


def _whole(values: Any) -> Any:
    """Return JSON values without halves of characters, which no page or database can hold."""
    text = json.dumps(values, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.loads(text.encode("utf-8", "replace"))
    return values


def _lacks(coverage: dict[str, Any]) -> tuple[str, ...]:
    """Return what a run's coverage says that capture did not see; empty only if it says all."""
    if coverage.get("complete") is True:
        return ()
    found = (
        [f"blind to {', '.join(_names(coverage.get('blind')))}"] if coverage.get("blind") else []
    )
    if coverage.get("programs"):
        found.append(f"without capture in {', '.join(_names(coverage['programs']))}")
    found += [text for key, text in _LACKS if coverage.get(key)]
    return tuple(found) or ("not said to be complete",)


_LACKS = (
    ("other_hosts", "without the ranks on other hosts"),
    ("unchecked", "without a look at the files when the run ended"),
    ("applies", "shared with other runs that were open"),
)


def _names(value: Any) -> list[str]:
    listed = value if isinstance(value, list) else [value]
    return [str(name)[:100] for name in listed[:10]]


def _quoted(name: str) -> str:
    try:
        return quote(os.fsencode(name))
    except UnicodeEncodeError:  # no name of a file: JSON can hold half of a character
        return quote(name, errors="replace")


def _with_members(inputs: list[Any], members: Any) -> tuple[list[Any], bool]:
    """Return the inputs with each file of a folder, and whether all files could be named."""
    named = members if isinstance(members, dict) else {}
    files: dict[str, int] = {}
    found: dict[str, Any] = {}
    listed = []
    for entry in inputs:
        if not isinstance(entry, dict) or not entry.get("files"):
            listed.append(entry)
            continue
        uri = str(entry.get("u"))
        names = named.get(uri, ())
        if uri not in files and isinstance(names, (list, tuple)):
            for name in names[:MAX_INPUTS]:
                found[uri + _quoted(str(name))] = entry
        files[uri] = files.get(uri, 0) + (entry["files"] if isinstance(entry["files"], int) else 1)
        listed.append(entry)
    is_named = all(
        isinstance(named.get(uri, ()), (list, tuple)) and len(named.get(uri, ())) >= count
        for uri, count in files.items()
    )
    return [*listed, *({**entry, "u": uri} for uri, entry in found.items())], is_named


def parsed(text: str | None, kind: type) -> Any:
    """Return a JSON text's value if it is of a kind; else None."""
    if text is None or len(text) > LARGEST_BYTES:
        return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, kind) else None


def read_file(place: str, name: str) -> str | None:
    """Return a small text file at an artifact location; None if it cannot be read or is large."""
    found = opened(place)
    return None if found is None else read_small(*found, name)


def opened(place: str) -> tuple[Any, str | None] | None:
    """Return the repository of an artifact location and the path in it; None: not to be reached."""
    try:
        return location.repository_for(place)
    except Exception as exc:  # noqa: BLE001 - whatever it is, what was not read is not known
        _logger.info("%s could not be opened: %r", place, exc)
        return None


def sizes(
    repository: Any, path: str | None, *, files: int = sys.maxsize, folders: int = sys.maxsize
) -> dict[str, int]:
    """Return the sizes in bytes of the files under a path of a repository, by their paths there.

    Args:
        repository: The artifact repository.
        path: The path; None: the repository's root.
        files: Most files that are returned.
        folders: Most folders that are listed, the path itself included.
    """
    found: dict[str, int] = {}
    start = len(path) + 1 if path else 0
    waiting = [path]
    try:
        for folder in waiting:
            for info in repository.list_artifacts(folder):
                if info.is_dir:
                    waiting += [info.path] if len(waiting) < folders else []
                elif len(found) < files:
                    found[info.path[start:]] = info.file_size or 0
    except Exception as exc:  # noqa: BLE001 - whatever it is, what was not read is not known
        _logger.info("The files under %r could not be listed: %r", path, exc)
    return found


def digests(repository: Any, path: str | None) -> dict[str, str]:
    """Return the SHA-256 in hex of the files under a path, where the repository knows it."""
    of_files = getattr(repository, "file_digests", None)
    try:
        return of_files(path) if callable(of_files) else {}
    except Exception as exc:  # noqa: BLE001 - whatever it is, what was not read is not known
        _logger.info("The digests of files under %r could not be read: %r", path, exc)
        return {}


def read_small(repository: Any, path: str | None, name: str) -> str | None:
    """Return the same of a repository, whose folder is listed first: its file may be large."""
    inside, name = posixpath.split(posixpath.join(path or "", name))
    size = sizes(repository, inside or None, folders=1).get(name)
    if size is None or size > LARGEST_BYTES:
        return None
    return read_text(repository, inside or None, name)


def read_text(repository: Any, path: str | None, name: str) -> str | None:
    """Return a text file of a repository; None if it cannot be read or is large."""
    inside = posixpath.join(path, name) if path else name
    try:
        with tempfile.TemporaryDirectory(prefix="mlflow-pack-evidence-") as folder:
            here = Path(folder) / "file"
            # Every repository has this method, and it is the one that shows no progress bar.
            repository._download_file(remote_file_path=inside, local_path=str(here))
            with here.open("rb") as stream:
                content = stream.read(LARGEST_BYTES + 1)
        return content.decode("utf-8") if len(content) <= LARGEST_BYTES else None
    except Exception as exc:  # noqa: BLE001 - whatever it is, what was not read is not known
        _logger.info("%s could not be read: %r", inside, exc)
        return None
