"""Marks of a version's files by which any later write shows, without reading the files again.

A digest that took long to compute is used in a later call only if no file was written since: the
marks are taken before the files are read, compared after it, and compared again in the call that
uses the digest. On a local disk a file's mark is its inode, size and times of change, which a user
cannot set back (``st_ctime``); on S3 it is the object's entity tag and time. Other stores have no
marks here.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import posixpath
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mlflow_plugins_pack.approvals.content.hashing import on_disk

_DIGITS = 48
"""Of the digest, in hexadecimal: 192 bits."""


def marks_of(repository: Any, path: str | None, most: int | None = None) -> str | None:
    """Return the number of files under a path and a digest over their marks.

    Args:
        repository: Where they are.
        path: The path in it.
        most: Of more files than this, only that they are more is returned.

    Returns:
        Text of at most 64 characters; None: the store has no marks.
    """
    from mlflow.store.artifact.s3_artifact_repo import S3ArtifactRepository

    if (root := on_disk(repository, path)) is not None:
        found: Iterator[str | None] = _on_disk(root)
    elif isinstance(repository, S3ArtifactRepository):
        found = _on_s3(repository, path)
    else:
        return None
    marks = list(found if most is None else itertools.islice(found, most + 1))
    if most is not None and len(marks) > most:
        return f"over {most}:"
    if None in marks:  # a pipe, a device or a link to a folder
        return None
    whole = hashlib.sha256()
    for mark in sorted(str(mark) for mark in marks):
        whole.update(f"{mark}\n".encode())
    return f"{len(marks)}:{whole.hexdigest()[:_DIGITS]}"


def number_of_files(marks: str) -> int:
    """Return the number of files that marks are of."""
    return int(marks.partition(":")[0])


def _on_disk(root: Path) -> Iterator[str | None]:
    if not root.is_dir():
        yield _on_disk_of(root)
        return
    for folder, folders, files in os.walk(root):
        if any((Path(folder) / name).is_symlink() for name in folders):
            yield None  # the files behind the link are not looked at
        for name in files:
            yield _on_disk_of(Path(folder) / name)


def _on_disk_of(path: Path) -> str | None:
    itself, target = path.lstat(), path.stat()
    if not stat.S_ISREG(target.st_mode):
        return None
    return "\0".join((os.fspath(path), *map(_state, (itself, target))))


def _state(about: os.stat_result) -> str:
    return (
        f"{about.st_dev}\0{about.st_ino}\0{about.st_size}\0{about.st_mtime_ns}\0{about.st_ctime_ns}"
    )


def _on_s3(repository: Any, path: str | None) -> Iterator[str]:
    bucket, prefix = repository.parse_s3_compliant_uri(repository.artifact_uri)
    prefix = posixpath.join(prefix, path) if path else prefix
    client, is_folder = repository._get_s3_client(), False
    inside = client.get_paginator("list_objects_v2").paginate(
        Bucket=bucket, Prefix=f"{prefix}/" if prefix else ""
    )
    for page in inside:
        for item in page.get("Contents", ()):
            is_folder = True
            yield _of_object(item)
    if not is_folder:  # it may be one file, whose key comes before all that begin with it
        page = client.list_objects_v2(Bucket=bucket, Prefix=prefix, MaxKeys=1)
        for item in page.get("Contents", ()):
            if item["Key"] == prefix:
                yield _of_object(item)


def _of_object(item: Any) -> str:
    return f"{item['Key']}\0{item['ETag']}\0{item['Size']}\0{item['LastModified']}"
