"""What DVC's own files say of a data file; DVC itself is neither needed nor run.

Format: https://dvc.org/doc/user-guide/project-structure (``.dvc`` files and ``dvc.lock``). What is
broken counts as absent.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from mlflow_plugins_pack.lineage.files import FileState, file_state

_YAML_BYTES = 1 << 20
_LISTING_BYTES = 32 << 20
_MD5 = re.compile(r"[0-9a-f]{32}")
_MD5_OF_FOLDER = re.compile(r"([0-9a-f]{2})([0-9a-f]{30}\.dir)")


class Tracked(NamedTuple):
    """What DVC expects of a file.

    Attributes:
        name: ``md5:<hex>`` of what is tracked: the file, or the folder that it is in.
        md5: The file's; None for one that is not in the folder's version.
        size: Its bytes, if known.
        exact: Whether the md5 is that of the bytes; before DVC 3 line ends of text did not count.
    """

    name: str
    md5: str | None
    size: int | None
    exact: bool


class _Out(NamedTuple):
    place: str
    md5: str
    size: int | None
    exact: bool
    files: tuple[Any, ...]


class Records:
    """Looks for ``FILE.dvc`` next to a file and its folders, and for ``dvc.lock`` in these."""

    def __init__(self) -> None:
        self._near: dict[str, tuple[str, ...]] = {}
        self._outs: dict[str, tuple[FileState, dict[str, _Out]]] = {}
        self._listings: dict[tuple[str, str], dict[str, tuple[str, int | None]]] = {}

    def find(self, path: str) -> Tracked | None:
        """Return what is expected of an absolute path, or None if nothing is known."""
        for record in (f"{path}.dvc", *self._records(path.rpartition("/")[0])):
            outs = self._read(record)
            if (out := outs.get(path)) and _MD5.fullmatch(out.md5):
                return Tracked(f"md5:{out.md5}", out.md5, out.size, out.exact)
            folder = path if outs else ""
            while folder := folder.rpartition("/")[0]:
                if (out := outs.get(folder)) and (found := self._member(out, path)):
                    return found
        return None

    def _records(self, folder: str) -> tuple[str, ...]:
        """Return the records that may speak of a folder's files, up to its repository's root."""
        if folder not in self._near:
            found = [f"{folder}/dvc.lock", f"{folder}.dvc"] if folder else ["/dvc.lock"]
            near = tuple(name for name in found if os.path.isfile(name))  # noqa: PTH113
            if folder and not _is_root(folder):
                near += self._records(folder.rpartition("/")[0])
            self._near[folder] = near
        return self._near[folder]

    def _read(self, record: str) -> dict[str, _Out]:
        state = file_state(record)
        if state is None or state.size > _YAML_BYTES:
            return {}
        kept = self._outs.get(record)
        if kept is None or kept[0] != state:
            try:
                outs = {out.place: out for out in _outs(record, _load(record))}
            except Exception:  # noqa: BLE001  # it is not DVC's, or half written
                outs = {}
            kept = self._outs[record] = (state, outs)
        return kept[1]

    def _member(self, out: _Out, path: str) -> Tracked | None:
        key = (out.place, out.md5)
        if key not in self._listings:
            try:
                self._listings[key] = _listing(out)
            except (OSError, ValueError, TypeError, LookupError, AttributeError):
                self._listings[key] = {}
        listing = self._listings[key]
        md5, size = listing.get(path[len(out.place) + 1 :], (None, None))
        name = out.md5 or md5
        return Tracked(f"md5:{name}", md5, size, out.exact) if listing and name else None


def _load(file: str) -> Any:
    import yaml

    with open(file, "rb") as source:  # noqa: PTH123
        text = source.read(_YAML_BYTES + 1)
    if len(text) > _YAML_BYTES:
        raise ValueError(file)
    return yaml.safe_load(text)


def _outs(record: str, document: Any) -> Iterator[_Out]:
    folder = os.path.dirname(record)  # noqa: PTH120
    if not record.endswith("/dvc.lock"):
        yield from _of_stage(folder, document, document.get("wdir"))
        return
    # Paths of a lock are relative to the stage's working folder, which only dvc.yaml names.
    place = f"{folder}/dvc.yaml"
    state = file_state(place)
    written = _load(place).get("stages", {}) if state and state.size <= _YAML_BYTES else {}
    for name, stage in document.get("stages", {}).items():
        described = written.get(str(name).partition("@")[0]) or {}
        described = described.get("do", described)
        yield from _of_stage(folder, stage, described.get("wdir"))


def _of_stage(folder: str, stage: Any, wdir: Any) -> Iterator[_Out]:
    if wdir is not None and ("${" in wdir or "://" in wdir):
        return
    for out in stage.get("outs", ()):
        md5, size, files = out.get("md5", ""), out.get("size"), out.get("files", ())
        if isinstance(md5, str) and (md5 or files) and "://" not in out["path"]:
            yield _Out(
                os.path.normpath(os.path.join(folder, wdir or "", out["path"])),  # noqa: PTH118
                md5,
                size if isinstance(size, int) else None,
                out.get("hash") == "md5",
                tuple(files),
            )


def _listing(out: _Out) -> dict[str, tuple[str, int | None]]:
    """Return md5 and size of a tracked folder's files: from the record, or from DVC's cache."""
    listed: Any = out.files
    if not listed:
        parts = _MD5_OF_FOLDER.fullmatch(out.md5)
        folder = out.place
        while folder and not os.path.isdir(f"{folder}/.dvc"):  # noqa: PTH112
            folder = folder.rpartition("/")[0]
        if parts is None or not folder:
            return {}
        for cache in ("files/md5/", "") if out.exact else ("", "files/md5/"):
            place = f"{folder}/.dvc/cache/{cache}{parts[1]}/{parts[2]}"
            state = file_state(place)
            if state is not None and state.size <= _LISTING_BYTES:
                with open(place, "rb") as file:  # noqa: PTH123
                    listed = json.load(file)
                break
    return {str(each["relpath"]): (str(each["md5"]), each.get("size")) for each in listed}


def _is_root(folder: str) -> bool:
    return os.path.isdir(f"{folder}/.dvc") or os.path.exists(f"{folder}/.git")  # noqa: PTH110, PTH112
