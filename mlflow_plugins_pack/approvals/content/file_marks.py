"""Marks of a version's files by which any later write shows, without reading the files again.

A digest that took long to compute is used in a later call only if no file was written since: the
marks are taken before the files are read, compared after it, and compared again in the call that
uses the digest. On a local disk a file's mark is its inode, size and times of change, which a user
cannot set back (``st_ctime``); of an object it is its size and, on S3 and Azure Blob, its entity
tag and time, on Google Cloud Storage its generation. Other stores have no marks here.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import posixpath
import stat
from collections.abc import Callable, Iterator
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
    found: Iterator[str | None]
    if (root := on_disk(repository, path)) is not None:
        found = _on_disk(root)
    elif (known := _objects_of(repository)) is not None:
        place, objects = known
        found = _in_objects((posixpath.join(place, path) if path else place).rstrip("/"), objects)
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


# --- objects -----------------------------------------------------------------------------------

Objects = Callable[[str], Iterator[tuple[str, str]]]
"""Yields key and mark of each object whose key begins with a text, in the order of keys."""


def _in_objects(place: str, objects: Objects) -> Iterator[str]:
    """Yield the marks of all objects in a folder, or of the one object at a key."""
    is_folder = False
    for key, mark in objects(f"{place}/" if place else ""):
        is_folder = True
        yield f"{key}\0{mark}"
    if not is_folder:  # a key comes before all longer ones that begin with it
        for key, mark in itertools.islice(objects(place), 1):
            if key == place:
                yield f"{key}\0{mark}"


def _objects_of(repository: Any) -> tuple[str, Objects] | None:
    """Return a repository's place in its bucket, and what lists the bucket; None: it has none."""
    from mlflow.store.artifact.azure_blob_artifact_repo import AzureBlobArtifactRepository
    from mlflow.store.artifact.gcs_artifact_repo import GCSArtifactRepository
    from mlflow.store.artifact.s3_artifact_repo import S3ArtifactRepository

    uri = getattr(repository, "artifact_uri", "")
    if isinstance(repository, S3ArtifactRepository):
        bucket, place = repository.parse_s3_compliant_uri(uri)
        return place, lambda prefix: _on_s3(repository._get_s3_client(), bucket, prefix)
    if isinstance(repository, GCSArtifactRepository):
        bucket, place = repository.parse_gcs_uri(uri)
        return place, lambda prefix: _on_gcs(repository.client, bucket, prefix)
    if isinstance(repository, AzureBlobArtifactRepository):
        container, _, place, _ = repository.parse_wasbs_uri(uri)
        return place, lambda prefix: _on_azure(repository.client, container, prefix)
    return None


def _on_s3(client: Any, bucket: str, prefix: str) -> Iterator[tuple[str, str]]:
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    for page in pages:
        for item in page.get("Contents", ()):
            yield item["Key"], f"{item['ETag']}\0{item['Size']}\0{item['LastModified']}"


def _on_gcs(client: Any, bucket: str, prefix: str) -> Iterator[tuple[str, str]]:
    for blob in client.list_blobs(bucket, prefix=prefix):
        yield blob.name, f"{blob.generation}\0{blob.size}"


def _on_azure(client: Any, container: str, prefix: str) -> Iterator[tuple[str, str]]:
    for blob in client.get_container_client(container).list_blobs(name_starts_with=prefix):
        yield blob.name, f"{blob.etag}\0{blob.size}\0{blob.last_modified}"
