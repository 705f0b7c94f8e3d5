"""Paths that are relative to an open folder: ``os.open("a.csv", flags, dir_fd=folder)``.

The interpreter reports such a call with the path alone. That it has a folder shows in the caller's
code; which one, if among the open ones only one has that path.
"""

from __future__ import annotations

import opcode
import os
from types import FrameType

_OPEN = "/proc/self/fd"
_ARGUMENT = "dir_fd"
missed: set[str] = set()
"""The name of the argument, if a call had one of which the folder is not known."""
_NAMES = opcode.opmap.get("KW_NAMES", opcode.opmap["LOAD_CONST"])
"""The instruction that holds the names of a call's keyword arguments, shortly before the call."""
_EXTENDED = opcode.opmap["EXTENDED_ARG"]


def is_named_in(frame: FrameType) -> bool:
    """Return whether the call that a frame is making has an argument ``dir_fd``."""
    code, at = frame.f_code.co_code, frame.f_lasti
    for place in (at - 2, at - 4, at - 6):
        if place >= 0 and code[place] == _NAMES:
            index = code[place + 1]
            if place >= 2 and code[place - 2] == _EXTENDED:
                index |= code[place - 1] << 8
            constants = frame.f_code.co_consts
            names = constants[index] if index < len(constants) else None
            return isinstance(names, tuple) and _ARGUMENT in names
    return False


def folder_of(descriptor: int) -> str | None:
    """Return the folder that is open under a number; None if that cannot be told."""
    try:
        path = os.readlink(f"{_OPEN}/{descriptor}")  # noqa: PTH115
    except OSError:
        return None
    return path if os.path.isdir(path) else None  # noqa: PTH112


def located(path: str, descriptor: object) -> str | None:
    """Return the absolute path of one that is relative to an open folder, or to the current one.

    Args:
        path: A path.
        descriptor: Of the folder; a negative number or anything else means the current one.
    """
    if not isinstance(descriptor, int) or descriptor < 0 or os.path.isabs(path):  # noqa: PTH117
        return os.path.abspath(path)  # noqa: PTH100
    if (folder := folder_of(descriptor)) is None:
        missed.add(_ARGUMENT)
        return None
    return os.path.normpath(f"{folder}/{path}")


def found_below(path: str, frame: FrameType, *, creates: bool) -> str | None:
    """Return the absolute path of one that is relative to an open folder.

    Args:
        path: The path.
        frame: That of the call. Its variable ``dir_fd`` is the folder, if it has one; else any of
            the open folders may be it.
        creates: The file may be missing, and only the folder that it is in must be there.

    Returns:
        The path; None if it fits several of the open folders. One that fits none of them is
        relative to the current folder: the argument was None.
    """
    given = frame.f_locals
    if _ARGUMENT in given:
        return located(path, given[_ARGUMENT])
    folders = _open_folders()
    places = {os.path.normpath(f"{folder}/{path}") for folder in folders or ()}
    fitting = {place for place in places if os.path.lexists(place)}
    if not fitting and creates:
        fitting = {place for place in places if os.path.isdir(os.path.dirname(place))}  # noqa: PTH112, PTH120
    if not fitting and folders is not None:
        return os.path.abspath(path)  # noqa: PTH100
    if len(fitting) != 1:
        missed.add(_ARGUMENT)
        return None
    return fitting.pop()


def _open_folders() -> set[str] | None:
    try:
        numbers = os.listdir(_OPEN)  # noqa: PTH208
    except OSError:  # other systems than Linux
        return None
    return {folder for number in numbers if (folder := folder_of(int(number)))}
