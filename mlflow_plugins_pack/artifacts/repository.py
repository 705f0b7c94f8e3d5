"""What the artifact repository does, in terms of a store: log, list, download, delete, digest."""

from __future__ import annotations

import io
import os
import posixpath
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import IO

from mlflow.entities import FileInfo
from mlflow.utils.file_utils import ArtifactProgressBar, create_tmp_dir
from mlflow.utils.uri import validate_path_within_directory

from mlflow_plugins_pack import download_registry, settings
from mlflow_plugins_pack.artifacts.download.download import download, download_one
from mlflow_plugins_pack.artifacts.download.file_reader import open_file
from mlflow_plugins_pack.artifacts.format import object_keys
from mlflow_plugins_pack.artifacts.format.manifest import (
    MAX_REASON_LENGTH,
    FileEntry,
    Folder,
    Lock,
    Operation,
    Tombstone,
    Unlock,
)
from mlflow_plugins_pack.artifacts.format.view import View
from mlflow_plugins_pack.artifacts.store.opening import find_store, open_store
from mlflow_plugins_pack.artifacts.store.store import Store
from mlflow_plugins_pack.artifacts.upload import session
from mlflow_plugins_pack.artifacts.upload.session import (
    MissingPackError,
    StreamWriter,
    UploadSession,
)
from mlflow_plugins_pack.artifacts.uri.allowed_roots import check_allowed
from mlflow_plugins_pack.artifacts.uri.location import Location, parse_location
from mlflow_plugins_pack.errors import ArtifactNotFoundError, ArtifactPathError
from mlflow_plugins_pack.folder_digest import digest_files

_TRIES = 3


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
    folder = object_keys.normalize_path(artifact_path)
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
    return object_keys.join(folder, object_keys.normalize_path(base))


def _upload(
    location: Location, inline_bytes: int, take: Callable[[UploadSession, str], None]
) -> None:
    """Open the store for one call's writes, and commit them all or none."""
    store, prefix = _open(location)
    upload = UploadSession(store, inline_bytes)
    try:
        take(upload, prefix)
        upload.commit()
    except BaseException:
        upload.abandon()
        raise


def _upload_files(
    location: Location, inline_bytes: int, take: Callable[[UploadSession, str], None]
) -> None:
    """Upload what can be read twice."""
    for _ in range(_TRIES - 1):
        try:
            _upload(location, inline_bytes, take)
            return
        except MissingPackError:
            # By now the index no longer names what is gone: this time everything is stored.
            continue
    _upload(location, inline_bytes, take)


def log_file(location: Location, local_file: str, artifact_path: str | None) -> None:
    """Store one local file."""
    target = target_file(os.fspath(local_file), artifact_path)
    take = partial(_take_file, target=target, local_file=local_file)
    _upload_files(location, session.INLINE_FILE_BYTES, take)


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


def begin_stream(
    location: Location, name: str, artifact_path: str | None
) -> tuple[UploadSession, StreamWriter]:
    """Start storing one file that comes piece by piece."""
    target = target_file(name, artifact_path)
    store, prefix = _open(location)
    upload = UploadSession(store)
    return upload, upload.open_writer(object_keys.join(prefix, target))


def finish_stream(upload: UploadSession, writer: StreamWriter, rest: bytes) -> None:
    """Take the last bytes of a file that came piece by piece, and commit it."""
    writer.write(rest)
    writer.close()
    upload.commit()


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
            total += os.path.getsize(path)
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

    _upload_files(location, inline, take)


def _child(folder: str, inside: str, name: str) -> str:
    return object_keys.join(folder, object_keys.normalize_path(object_keys.join(inside, name)))


def _open(location: Location) -> tuple[Store, str]:
    store = open_store(location)
    return store, _prefix(store, location)


def _prefix(store: Store, location: Location) -> str:
    prefix = object_keys.relative_to(location.path, store.location.path)
    if prefix is None:
        raise AssertionError("a location was opened in a store that does not hold it")
    return prefix


# --- reading --------------------------------------------------------------------------------------


class _Reading:
    """A view of the store around one path, with all names as the repository's user knows them."""

    def __init__(self, location: Location, path: str) -> None:
        self.path = path
        self.store = find_store(location)
        self.view = View()
        self._base = ""
        self._prefix = ""
        if self.store is None:
            self.full = path
            return
        self._prefix = _prefix(self.store, location)
        full = object_keys.join(self._prefix, path)
        scope, inner = object_keys.split_scope(full)
        if scope:
            self.view, self._base, self.full = self.store.manifests.view(scope), scope, inner
        else:
            self.view, self.full = self.store.manifests.view_under(full), full

    def outside(self, inner: str) -> str:
        """Return a path of the view as the repository's user knows it."""
        full = object_keys.join(self._base, inner)
        known = object_keys.relative_to(full, self._prefix)
        if known is None:
            raise AssertionError("a view holds a path outside its repository")
        return known

    @property
    def file(self) -> FileEntry | None:
        """The file at the path, unless there is also a folder with something in it."""
        entry = self.view.files.get(self.full)
        return None if entry is not None and self.view.children(self.full) else entry

    def is_folder(self) -> bool:
        """Return whether there is a folder at the path; the repository's root always is one."""
        return not self.path or self.view.has_folder(self.full)

    def missing(self) -> ArtifactNotFoundError:
        return ArtifactNotFoundError(f"No such artifact: {self.path!r}. Nothing was written.")


def list_files(location: Location, path: str | None) -> list[FileInfo]:
    """List what is directly in a folder, sorted by path; nothing for a file or what is missing."""
    reading = _Reading(location, object_keys.normalize_path(path))
    return [
        FileInfo(reading.outside(child), entry is None, None if entry is None else entry.size)
        for child, entry in reading.view.children(reading.full)
    ]


def download_to(location: Location, path: str | None, dst_path: str | None) -> str:
    """Download a file or folder.

    Returns:
        Its absolute local path.

    Raises:
        ArtifactNotFoundError: If there is no such artifact or destination.
        ArtifactPathError: If the destination is not a folder.
        ArtifactCorruptError: If a stored byte is missing or wrong; then nothing was written.
    """
    wanted = object_keys.normalize_path(path)
    folder = _destination(dst_path)
    reading = _Reading(location, wanted)
    file = reading.file
    if file is None and not reading.is_folder():
        raise reading.missing()
    if reading.store is not None:
        entries = [file] if file else sorted(reading.view.under(reading.full), key=_path_of)
        files = [(entry, reading.outside(entry.path)) for entry in entries]
        with ArtifactProgressBar.files(desc="Downloading artifacts", total=len(files)) as bar:
            download(reading.store, files, folder, bar.update)
        for entry, place in files[-download_registry.LIMIT :]:
            _note(location, entry, place, os.path.join(folder, place))
        for inner in reading.view.folders_under(reading.full) if not file else ():
            _make_folder(folder, reading.outside(inner))
    if not wanted:
        return folder
    if not file:
        _make_folder(folder, wanted)
    return os.path.join(folder, os.path.normpath(wanted))


def _path_of(entry: FileEntry) -> str:
    return entry.path


def _destination(dst_path: str | None) -> str:
    if not dst_path:
        created: str = create_tmp_dir()
        return created
    folder = os.path.abspath(dst_path)
    if not os.path.exists(folder):
        raise ArtifactNotFoundError(
            f"The destination path for downloaded artifacts does not exist! Destination path: "
            f"{folder}. Nothing was written. Create the folder first."
        )
    if not os.path.isdir(folder):
        raise ArtifactPathError(
            f"The destination path for downloaded artifacts must be a directory! Destination "
            f"path: {folder}. Nothing was written."
        )
    return folder


def _make_folder(folder: str, path: str) -> None:
    target = os.path.join(folder, path)
    validate_path_within_directory(folder, target)
    os.makedirs(target, exist_ok=True)


def download_file(location: Location, path: str, local_path: str) -> None:
    """Download one file to a local path, whose folder exists."""
    reading = _Reading(location, object_keys.normalize_path(path))
    entry = reading.view.files.get(reading.full)
    if entry is None or reading.store is None:
        raise reading.missing()
    download_one(reading.store, entry, os.fspath(local_path))
    _note(location, entry, reading.outside(entry.path), os.path.abspath(local_path))


def _note(location: Location, entry: FileEntry, place: str, path: str) -> None:
    uri = location.at(object_keys.join(location.path, place)).uri
    download_registry.note(path, entry.size, entry.sha256.hex(), uri)


def open_artifact(location: Location, path: str) -> io.BufferedReader:
    """Open one file for reading, without downloading it."""
    reading = _Reading(location, object_keys.normalize_path(path))
    entry = reading.view.files.get(reading.full)
    if entry is None or reading.store is None:
        raise reading.missing()
    return open_file(reading.store, entry)


def content_digest(location: Location, path: str | None) -> str:
    """Return the digest of a file or folder from its manifest, reading no data.

    A file alone is digested under its name.
    """
    reading = _Reading(location, object_keys.normalize_path(path))
    file = reading.file
    if file is not None:
        return digest_files([(posixpath.basename(file.path), file.size, file.sha256.hex())])
    if not reading.is_folder():
        raise reading.missing()
    return digest_files(
        (object_keys.relative_to(entry.path, reading.full) or "", entry.size, entry.sha256.hex())
        for entry in reading.view.under(reading.full)
    )


# --- deleting -------------------------------------------------------------------------------------


def delete(location: Location, path: str | None) -> None:
    """Delete a file, a folder or everything; a path that does not exist is not an error.

    Only manifests change: the bytes stay until they are collected, and other runs that hold them
    keep them.
    """
    wanted = object_keys.normalize_path(path)
    store = find_store(location)
    if store is None:
        return
    full = object_keys.join(_prefix(store, location), wanted)
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
    view = store.manifests.view(scope)
    if not any(True for _ in view.under(inner)) and not view.folders_under(inner):
        return
    operations: list[Operation] = [Tombstone(inner)]
    parent = posixpath.dirname(inner)
    if parent and store.backend.keeps_folders:
        # On a disk the folder around a deleted file stays.
        operations.append(Folder(parent))
    store.manifests.commit(scope, operations)


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
    reading = _Reading(location, object_keys.normalize_path(path))
    if reading.store is None or not any(True for _ in reading.view.under(reading.full)):
        raise reading.missing()
    store, scope, inner = _lockable(location, path)
    if Lock(inner, reason) not in store.manifests.view(scope).locks:
        store.manifests.commit(scope, [Lock(inner, reason)])


def unlock(location: Location, path: str | None, reason: str) -> None:
    """Remove the lock with this path and reason; a missing one is not an error."""
    if find_store(location) is None:
        return
    store, scope, inner = _lockable(location, path)
    if Lock(inner, reason) in store.manifests.view(scope).locks:
        store.manifests.commit(scope, [Unlock(inner, reason)])


def locks(location: Location, path: str | None) -> dict[str, list[str]]:
    """Return the reasons of all locks that forbid changes at or under a path, by locked path."""
    if find_store(location) is None:
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
        shown = object_keys.relative_to(full, _prefix(store, location))
        found.setdefault("" if shown is None else shown, []).append(held.reason)
    return found


def _lockable(location: Location, path: str | None) -> tuple[Store, str, str]:
    store, prefix = _open(location)
    full = object_keys.join(prefix, object_keys.normalize_path(path))
    scope, inner = object_keys.split_scope(full)
    if not scope and any(store.manifests.scopes_under(full)):
        raise ArtifactPathError(
            f"{full!r} holds several runs, models or traces; each is locked by itself. Nothing "
            f"was locked or unlocked."
        )
    return store, scope, inner
