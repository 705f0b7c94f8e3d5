"""Changes artifacts for the repository: log, delete, lock; all through one store."""

from __future__ import annotations

import logging
import os
import posixpath
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import IO

from mlflow_plugins_pack import settings
from mlflow_plugins_pack.artifacts.format import object_keys
from mlflow_plugins_pack.artifacts.format.manifest import (
    MAX_REASON_LENGTH,
    Folder,
    Lock,
    Operation,
    Tombstone,
    Unlock,
)
from mlflow_plugins_pack.artifacts.format.view import View
from mlflow_plugins_pack.artifacts.reading import PathView, path_in
from mlflow_plugins_pack.artifacts.store.opening import (
    find_store,
    forget_store,
    open_store,
    refuse_missing_store,
)
from mlflow_plugins_pack.artifacts.store.reserve import with_reserve
from mlflow_plugins_pack.artifacts.store.store import Store
from mlflow_plugins_pack.artifacts.upload import session
from mlflow_plugins_pack.artifacts.upload.local_file import refuse_pipe
from mlflow_plugins_pack.artifacts.upload.older_packs import MissingPackError
from mlflow_plugins_pack.artifacts.upload.session import UploadSession
from mlflow_plugins_pack.artifacts.uri.allowed_roots import check_allowed
from mlflow_plugins_pack.artifacts.uri.location import Location, parse_location
from mlflow_plugins_pack.errors import ArtifactPathError, StoreChangedError

_TRIES = 3
_logger = logging.getLogger(__name__)


def open_location(uri: str) -> Location:
    """Read a repository's URI and check that this process may open it.

    Raises:
        UnsupportedUriError: If no backend of the pack serves the URI.
        ForbiddenRootError: If this is a server and the root is not one of its own.
    """
    location = parse_location(uri)
    check_allowed(location, os.environ, settings.ARTIFACT_ROOTS.get())
    return location


# --- writing --------------------------------------------------------------------------------------


def target_folder(artifact_path: str | None) -> str:
    """Check the folder that a log call names, as strictly as stock MLflow does.

    Raises:
        ArtifactPathError: If the path has not its one plain spelling or may lead elsewhere.
    """
    folder = object_keys.storable_path(artifact_path)
    if artifact_path and folder != artifact_path:
        raise ArtifactPathError(
            f"The artifact path {artifact_path!r} is not written plainly; {folder!r} would be. "
            f"Nothing was written."
        )
    return folder


def target_file(name: str, artifact_path: str | None) -> str:
    """Return where a file of the given name goes below the given folder.

    Raises:
        ArtifactPathError: If folder or name cannot be stored safely.
    """
    folder = target_folder(artifact_path)
    base = posixpath.basename(name)
    if base in ("", ".", ".."):
        raise ArtifactPathError(f"The file {name!r} has no name. Nothing was written.")
    return object_keys.join(folder, object_keys.storable_path(base))


def _upload(
    location: Location, inline_bytes: int, take: Callable[[UploadSession, str], None]
) -> None:
    """Open the store for one call's writes, and commit them all or none."""
    store, prefix = _open(location)
    upload = UploadSession(store, inline_bytes)
    try:
        take(upload, prefix)
        upload.commit()
    except BaseException as exc:
        upload.abandon()
        if isinstance(exc, StoreChangedError):
            forget_store(store)
        raise


def upload_files(
    location: Location, inline_bytes: int, take: Callable[[UploadSession, str], None]
) -> None:
    """Upload what can be read twice: open the store, take files, and commit all or none.

    Args:
        location: Where to.
        inline_bytes: Up to this size, a file stands in the manifest itself.
        take: Gives the files to the session; called with the path of the location in its store.
    """
    for _ in range(_TRIES - 1):
        try:
            _upload(location, inline_bytes, take)
            return
        except (MissingPackError, StoreChangedError):
            # By now the index no longer names what is gone, or the store is opened again: this
            # time everything is stored.
            continue
    _upload(location, inline_bytes, take)


def log_file(location: Location, local_file: str, artifact_path: str | None) -> None:
    """Store one local file."""
    target = target_file(os.fspath(local_file), artifact_path)
    take = partial(_take_file, target=target, local_file=local_file)
    upload_files(location, session.INLINE_FILE_BYTES, take)


def _take_file(upload: UploadSession, prefix: str, target: str, local_file: str) -> None:
    upload.add_file(object_keys.join(prefix, target), local_file)


def log_stream(location: Location, stream: IO[bytes], name: str, artifact_path: str | None) -> None:
    """Store what a stream gives as one file."""
    target = target_file(name, artifact_path)
    _upload(
        location,
        session.INLINE_FILE_BYTES,
        lambda upload, prefix: upload.add_stream(object_keys.join(prefix, target), stream),
    )


class StreamedFile:
    """Stores one file that comes piece by piece."""

    def __init__(self, location: Location, name: str, artifact_path: str | None) -> None:
        target = target_file(name, artifact_path)
        store, prefix = _open(location)
        self._upload = UploadSession(store)
        self._writer = self._upload.open_writer(object_keys.join(prefix, target))

    def write(self, data: bytes) -> None:
        """Take the next bytes."""
        self._writer.write(data)

    def finish(self, rest: bytes) -> None:
        """Take the last bytes, and commit the file."""
        try:
            self._writer.write(rest)
            self._writer.close()
            self._upload.commit()
        except BaseException as exc:
            self.abandon()
            if isinstance(exc, StoreChangedError):
                forget_store(self._upload.store)
            raise

    def abandon(self) -> None:
        """End it; nothing becomes visible."""
        self._upload.abandon()


def log_folder(location: Location, local_dir: str, artifact_path: str | None) -> None:
    """Store all files of a local folder, at any depth."""
    folder = target_folder(artifact_path)
    local_dir = os.path.abspath(local_dir)
    files: list[tuple[str, str]] = []
    folders = [folder] if folder else []
    total = 0
    for root, names, file_names in os.walk(local_dir):
        inside = "" if root == local_dir else Path(os.path.relpath(root, local_dir)).as_posix()
        folders += [_child(folder, inside, name) for name in sorted(names)]
        for name in sorted(file_names):
            path = os.path.join(root, name)
            files.append((_child(folder, inside, name), path))
            status = os.stat(path)
            refuse_pipe(path, status)
            total += status.st_size
    inline = (
        session.INLINE_FILE_BYTES
        if total <= session.INLINE_CALL_BYTES
        else session.INLINE_NEXT_TO_PACKS_BYTES
    )

    def take(upload: UploadSession, prefix: str) -> None:
        if upload.keeps_folders:
            for path in folders:
                upload.add_folder(object_keys.join(prefix, path))
        for path, local_file in files:
            upload.add_file(object_keys.join(prefix, path), local_file)

    upload_files(location, inline, take)


def _child(folder: str, inside: str, name: str) -> str:
    return object_keys.join(folder, object_keys.storable_path(object_keys.join(inside, name)))


def _open(location: Location) -> tuple[Store, str]:
    store = open_store(location)
    return store, path_in(store, location)


# --- deleting -------------------------------------------------------------------------------------


def delete(location: Location, path: str | None) -> None:
    """Delete a file, a folder or everything; a path that does not exist is not an error.

    Only manifests change: the bytes stay until they are collected, and other runs that hold them
    keep them. Where a whole run is deleted, as `mlflow gc` does, what is locked in it is kept and
    the rest goes: one approved version must not stop the deletion of all other runs.

    Raises:
        ArtifactLockedError: If a file or folder is, or has in it, something that is locked.
    """
    wanted = object_keys.requested_path(path)
    store = find_store(location)
    if store is None:
        refuse_missing_store(location)
        return
    full = object_keys.join(path_in(store, location), wanted)
    with_reserve(store, partial(_delete_all, store, full))


def _delete_all(store: Store, full: str) -> None:
    scope, inner = object_keys.split_scope(full)
    if scope:
        _delete_in(store, scope, inner)
        return
    below = [found for found in store.manifests.scopes_under(full) if found]
    for found in below:
        store.manifests.refuse_locked(found, [Tombstone("")])
    _delete_in(store, "", full)
    for found in below:
        _delete_in(store, found, "")


def _delete_in(store: Store, scope: str, inner: str) -> None:
    kept: set[Lock] = set()

    def decide(view: View | None) -> list[Operation]:
        kept.clear()
        if view is None or not view.holds(inner):
            return []
        if not inner and view.lock_on(Tombstone("")) is not None:
            kept.update(view.locks)
            return list(_unlocked(view, ""))
        operations: list[Operation] = [Tombstone(inner)]
        parent = posixpath.dirname(inner)
        if parent and store.backend.keeps_folders:
            # On a disk the folder around a deleted file stays.
            operations.append(Folder(parent))
        return operations

    store.manifests.change(scope, decide)
    if kept:
        _logger.warning(
            "%s was deleted except for what is locked there (%s). It goes with the next deletion "
            "after the locks are released",
            scope,
            "; ".join(sorted(f"{lock.path!r}: {lock.reason}" for lock in kept)),
        )


def _unlocked(view: View, path: str) -> Iterator[Tombstone]:
    """Yield what deletes everything under a path that no lock keeps."""
    lock = view.lock_on(Tombstone(path))
    if lock is None:
        yield Tombstone(path)
    elif object_keys.relative_to(path, lock.path) is None:  # it is somewhere below
        known = [entry.path for entry in view.under(path)] + view.folders_under(path)
        start = len(path) + 1 if path else 0
        for name in sorted({found[start:].partition("/")[0] for found in known} - {""}):
            yield from _unlocked(view, object_keys.join(path, name))


# --- locking --------------------------------------------------------------------------------------


def lock(location: Location, path: str | None, reason: str) -> None:
    """Refuse changes of a file or folder from now on, until the lock with this reason goes.

    Raises:
        ArtifactNotFoundError: If there is no such artifact.
        ArtifactPathError: If the path holds several runs, or the reason is too long.
    """
    if not reason or len(reason) > MAX_REASON_LENGTH:
        raise ArtifactPathError(
            f"A lock needs a reason of 1 to {MAX_REASON_LENGTH} characters. Nothing was locked."
        )
    reading = PathView(location, object_keys.requested_path(path))
    if reading.store is None or not any(True for _ in reading.view.under(reading.full)):
        raise reading.missing()
    store, scope, inner = _lockable(location, path)

    def decide(view: View | None) -> list[Operation]:
        if view is None or not any(True for _ in view.under(inner)):
            raise reading.missing()
        if Lock(inner, reason) in view.locks:
            return []
        return [Lock(inner, reason, view.bound_by(inner))]

    store.manifests.change(scope, decide, locks=True)


def unlock(location: Location, path: str | None, reason: str) -> None:
    """Remove the lock with this path and reason; a missing one is not an error."""
    if find_store(location) is None:
        refuse_missing_store(location)
        return
    store, scope, inner = _lockable(location, path)

    def decide(view: View | None) -> list[Operation]:
        held = view is not None and Lock(inner, reason) in view.locks
        return [Unlock(inner, reason)] if held else []

    store.manifests.change(scope, decide)


def locks(location: Location, path: str | None) -> dict[str, list[str]]:
    """Return the reasons of all locks that forbid changes at or under a path, by locked path."""
    if find_store(location) is None:
        refuse_missing_store(location)
        return {}
    store, scope, inner = _lockable(location, path)
    found: dict[str, list[str]] = {}
    for held in sorted(
        store.manifests.view(scope).locks, key=lambda held: (held.path, held.reason)
    ):
        if object_keys.relative_to(held.path, inner) is None and (
            object_keys.relative_to(inner, held.path) is None
        ):
            continue
        full = object_keys.join(scope, held.path)
        shown = object_keys.relative_to(full, path_in(store, location))
        found.setdefault("" if shown is None else shown, []).append(held.reason)
    return found


def _lockable(location: Location, path: str | None) -> tuple[Store, str, str]:
    store, prefix = _open(location)
    full = object_keys.join(prefix, object_keys.requested_path(path))
    scope, inner = object_keys.split_scope(full)
    if not scope and any(store.manifests.scopes_under(full)):
        raise ArtifactPathError(
            f"{full!r} holds several runs, models or traces; each is locked by itself. Nothing "
            f"was locked or unlocked."
        )
    return store, scope, inner
