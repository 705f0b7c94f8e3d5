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
        folders: Keys of the files of folded folders, by the folder's place without a slash at its
            end. Not what is known of these files: the garbage collector would visit each tuple.
        dropped: How many places are in neither, because no folder holds two of them.
    """

    single: list[str]
    folders: dict[str, list[str]]
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
    groups: dict[str, list[str]] = defaultdict(list)
    for key, event in reads.items():
        groups[_folder(event.where)].append(key)
    for place in more:
        groups[place[: place.rfind("/")]].append(place)
    total, least = len(reads) + len(more), 2
    for files, folders in sorted(Counter(map(len, groups.values())).items(), reverse=True):
        if files < 2 or total <= limit:
            break
        total -= (files - 1) * folders
        least = files
    folded = {folder: keys for folder, keys in groups.items() if len(keys) >= least}
    single = sorted(key for folder, keys in groups.items() if folder not in folded for key in keys)
    room = max(0, limit - len(folded))
    return Split(single[:room], folded, max(0, len(single) - room))


def _folder(place: str) -> str:
    return place.rpartition("/")[0]


def files(keys: Iterable[str], reads: Mapping[str, Event], more: Mapping[str, int]) -> list[File]:
    """Return what is known of the files of a folder.

    Args:
        keys: Of the folder's files, as `split` returned them.
        reads: As `split` was given them.
        more: The same.
    """
    return [_file_of(reads[key]) if key in reads else _further(key, more[key]) for key in keys]


def _file_of(event: Event) -> File:
    name = event.where.rpartition("/")[2]
    if event.state is not None:
        return name, event.state.size, event.state.mtime_ns
    return name, event.size, event.version


def _further(place: str, state: int) -> File:
    return place[place.rfind("/") + 1 :], *unpacked(state)


def digest(files: Iterable[File]) -> str:
    """Return a folder's digest: over its files' sorted names, sizes and times or versions.

    One line a file: name, size and time, with a zero byte between them.
    """
    lines = sorted([f"{name}\0{size}\0{mark}\n" for name, size, mark in files])
    return "sha256:" + hashlib.sha256(os.fsencode("".join(lines))).hexdigest()
