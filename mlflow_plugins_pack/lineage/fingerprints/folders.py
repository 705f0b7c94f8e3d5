"""Whole folders in place of their files, for a run that read more files than it may list; pure.

A folder's digest covers name, size and modification time of its files as they were when they were
read: reading 100,000 small files again, to hash them, would cost as much as the training's own
reading. Which folders are folded depends on which files were read, not on their order.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from mlflow_plugins_pack.lineage.capture.event import Event
from mlflow_plugins_pack.lineage.files import unpacked

File = tuple[str, int | None, int | str | None]
"""A file of a folder: name, bytes, and time of change in nanoseconds or an object's version."""


class Split(NamedTuple):
    """Places as they are to be listed.

    Attributes:
        single: Keys of what is listed one by one.
        folders: The files of folded folders, by the folder's place without a slash at its end.
        dropped: How many places are in neither, because no folder holds two of them.
    """

    single: list[str]
    folders: dict[str, list[File]]
    dropped: int


def split(reads: Mapping[str, Event], more: Mapping[str, int], limit: int) -> Split:
    """Choose the folders to fold: the fullest ones, and all that are as full, until all fits.

    Args:
        reads: Events by their keys.
        more: `packed` states of further files by path; none of them in ``reads``.
        limit: Most entries.
    """
    if len(reads) + len(more) <= limit:
        return Split([*reads, *more], {}, 0)
    groups: dict[str, list[tuple[str, File]]] = defaultdict(list)
    for key, event in reads.items():
        folder, _, name = event.where.rpartition("/")
        if event.state is not None:
            groups[folder].append((key, (name, event.state.size, event.state.mtime_ns)))
        else:
            groups[folder].append((key, (name, event.size, event.version)))
    for place, state in more.items():
        folder, _, name = place.rpartition("/")
        groups[folder].append((place, (name, *unpacked(state))))
    total, least = len(reads) + len(more), 2
    for files, folders in sorted(Counter(map(len, groups.values())).items(), reverse=True):
        if files < 2 or total <= limit:
            break
        total -= (files - 1) * folders
        least = files
    folded = {f: [file for _, file in group] for f, group in groups.items() if len(group) >= least}
    single = sorted(key for f, group in groups.items() if f not in folded for key, _ in group)
    room = max(0, limit - len(folded))
    return Split(single[:room], folded, max(0, len(single) - room))


def digest(files: Iterable[File]) -> str:
    """Return a folder's digest: over its files' sorted names, sizes and times or versions.

    One line a file: name, size and time, with a zero byte between them.
    """
    lines = sorted([f"{name}\0{size}\0{mark}\n" for name, size, mark in files])
    return "sha256:" + hashlib.sha256(os.fsencode("".join(lines))).hexdigest()
