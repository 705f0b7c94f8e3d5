"""Marks of a version's files by which any later write shows, without reading the files again.

A digest that took long to compute is used in a later call only if no file was written since: the
marks are taken before the files are read, compared after it, and compared again in the call that
uses the digest. On a local disk a file's mark is its inode, size and times of change, which a user
cannot set back (``st_ctime``); on S3 it is the object's entity tag and time. Other stores have no
marks here.
"""

from __future__ import annotations

import hashlib
import os
import posixpath
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mlflow_plugins_pack.approvals.content.hashing import on_disk


def marks_of(repository: Any, path: str | None) -> str | None:
    """Return a digest over the marks of all files under a path; None: the store has no marks."""
    from mlflow.store.artifact.s3_artifact_repo import S3ArtifactRepository

    if (root := on_disk(repository, path)) is not None:
        marks = list(_on_disk(root))
    elif isinstance(repository, S3ArtifactRepository):
        marks = list(_on_s3(repository, path))
    else:
        return None
    if None in marks:  # a pipe, a device or a link to a folder
        return None
    whole = hashlib.sha256()
    for mark in sorted(str(mark) for mark in marks):
        whole.update(f"{mark}\n".encode())
    return whole.hexdigest()


def _on_disk(root: Path) -> Iterator[str | None]:
    paths = [root]
    if root.is_dir():
        paths = []
        for folder, folders, files in os.walk(root):
            if any((Path(folder) / name).is_symlink() for name in folders):
                yield None  # the files behind the link are not looked at
            paths += [Path(folder) / name for name in files]
    for path in paths:
        for about in (path.lstat(), path.stat()):
            if stat.S_ISREG(about.st_mode) or stat.S_ISLNK(about.st_mode):
                yield (
                    f"{path}\0{about.st_dev}\0{about.st_ino}\0{about.st_size}\0"
                    f"{about.st_mtime_ns}\0{about.st_ctime_ns}"
                )
            else:
                yield None


def _on_s3(repository: Any, path: str | None) -> Iterator[str]:
    bucket, prefix = repository.parse_s3_compliant_uri(repository.artifact_uri)
    prefix = posixpath.join(prefix, path) if path else prefix
    pages = repository._get_s3_client().get_paginator("list_objects_v2")
    for page in pages.paginate(Bucket=bucket, Prefix=prefix):
        for item in page.get("Contents", ()):
            if item["Key"] == prefix or item["Key"].startswith(f"{prefix}/"):
                yield f"{item['Key']}\0{item['ETag']}\0{item['Size']}\0{item['LastModified']}"
