"""Opens local files that are logged; refuses what cannot be read, or changes while it is read."""

from __future__ import annotations

import os
import stat

from mlflow_plugins_pack.errors import ArtifactChangedError, ArtifactPathError


def open_local(path: str) -> int:
    """Return a descriptor of a file to read; links are followed.

    Raises:
        ArtifactPathError: If it is a named pipe.
        OSError: If it cannot be opened.
    """
    refuse_pipe(path, os.stat(path))
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC)


def read_up_to(handle: int, length: int) -> bytes:
    """Return so many bytes of a file, fewer if it ends before."""
    data = os.read(handle, length)
    if len(data) == length:
        return data
    pieces = [data]
    length -= len(data)
    while length and (data := os.read(handle, length)):
        pieces.append(data)
        length -= len(data)
    return b"".join(pieces)


def refuse_changed(
    path: str, before: os.stat_result, after: os.stat_result, read_bytes: int
) -> None:
    """Refuse a file that was cut or rewritten while it was read; one that only grew is taken.

    Args:
        path: Of the file.
        before: Its state when reading began.
        after: Its state when reading had ended.
        read_bytes: The bytes that were read.

    Raises:
        ArtifactChangedError: If it was.
    """
    # Only what grew may have another time: a log goes on while it is logged.
    is_rewritten = after.st_mtime_ns != before.st_mtime_ns
    if read_bytes != before.st_size or (is_rewritten and after.st_size <= before.st_size):
        raise ArtifactChangedError(
            f"The file {path!r} was cut or rewritten while it was being read, so what was read may "
            f"be neither its old nor its new content. Nothing was committed. Log it again once it "
            f"is complete."
        )


def refuse_pipe(path: str, status: os.stat_result) -> None:
    """Refuse a named pipe: opening it would wait for a writer, perhaps for ever.

    Raises:
        ArtifactPathError: If it is one.
    """
    if stat.S_ISFIFO(status.st_mode):
        raise ArtifactPathError(
            f"{path!r} is a named pipe, not a file. Nothing was written. Remove it from the "
            f"folder, or log its content as a stream."
        )
