"""Reads artifacts for the repository: list, download, open, digest; all through one `PathView`."""

from __future__ import annotations

import io
import os
import posixpath
from collections.abc import Callable, Iterator

from mlflow.entities import FileInfo
from mlflow.utils.file_utils import ArtifactProgressBar, create_tmp_dir
from mlflow.utils.uri import validate_path_within_directory

from mlflow_plugins_pack import download_registry
from mlflow_plugins_pack.artifacts.download.download import download, download_one
from mlflow_plugins_pack.artifacts.download.file_reader import open_file
from mlflow_plugins_pack.artifacts.format import object_keys
from mlflow_plugins_pack.artifacts.format.manifest import FileEntry
from mlflow_plugins_pack.artifacts.format.view import View
from mlflow_plugins_pack.artifacts.store.foreign_data import refuse_stock_data
from mlflow_plugins_pack.artifacts.store.opening import find_store, refuse_missing_store
from mlflow_plugins_pack.artifacts.store.store import Store
from mlflow_plugins_pack.artifacts.uri.location import Location
from mlflow_plugins_pack.errors import (
    ArtifactConflictError,
    ArtifactError,
    ArtifactNotFoundError,
    ArtifactPathError,
)
from mlflow_plugins_pack.folder_digest import digest_files

_GUESSED_BYTES = 16 * 1024 * 1024
"""A longer file is not fetched before it is known to be the right one."""


def path_in(store: Store, location: Location) -> str:
    """Return the path of a location relative to the root of its store."""
    path = object_keys.relative_to(location.path, store.location.path)
    if path is None:
        raise AssertionError("a location was opened in a store that does not hold it")
    return path


class PathView:
    """The scope, or scopes, around one path of a repository, with paths as its user knows them.

    Args:
        location: The repository.
        path: Relative to it.
        is_guess: Whether to take what this process remembers, and ask only meanwhile whether it is
            still so; see `is_right`.
    """

    def __init__(self, location: Location, path: str, *, is_guess: bool = False) -> None:
        self.path = path
        self.store = find_store(location)
        self.view = View()
        self._asked: Callable[[], bool] | None = None
        self._base = ""
        self._prefix = ""
        if self.store is None:
            self.full = path
            refuse_missing_store(location)
            return
        self._prefix = path_in(self.store, location)
        full = object_keys.join(self._prefix, path)
        scope, inner = object_keys.split_scope(full)
        if scope:
            manifests = self.store.manifests
            # On a disk the answer is there sooner than a thread.
            is_guess = is_guess and self.store.backend.is_remote
            guess = manifests.remembered(scope) if is_guess else None
            if guess is not None:
                self.view, self._asked = guess
            else:
                self.view = manifests.view(scope)
            self._base, self.full = scope, inner
            if self.view.is_empty():
                place = location.at(self.store.key(scope))
                refuse_stock_data(self.store.backend, place)
        else:
            self.view, self.full = self.store.manifests.view_under(full), full

    @property
    def is_certain(self) -> bool:
        """Whether this held when it was made."""
        return self._asked is None

    def is_right(self) -> bool:
        """Wait for the answer; return whether a guess held when it was made."""
        return self._asked is None or self._asked()

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
        return None if entry is not None and self.view.has_children(self.full) else entry

    def is_folder(self) -> bool:
        """Return whether there is a folder at the path; the repository's root always is one."""
        return not self.path or self.view.has_folder(self.full)

    def entries(self) -> list[FileEntry]:
        """Return the files of the folder at the path, sorted.

        A file of the folder's own name, which object stores allow, is left out as stock does.

        Raises:
            ArtifactConflictError: If it holds a file and a folder of one name.
        """
        files = sorted(self.view.under(self.full), key=lambda entry: entry.path)
        both = [e.path for e in files if self.view.has_folder(e.path) and e.path != self.full]
        if both:
            raise ArtifactConflictError(
                f"{self.path or 'The artifact root'!r} has both a file and a folder "
                f"{self.outside(both[0])!r}, which no disk can have. Nothing was written. Download "
                f"{self.outside(both[0])!r} to get the folder, read the file with `open_artifact`, "
                f"or delete one of them."
            )
        return [entry for entry in files if entry.path != self.full]

    def missing(self) -> ArtifactNotFoundError:
        """Return the error for a path at which nothing is stored."""
        return ArtifactNotFoundError(f"No such artifact: {self.path!r}. Nothing was written.")


def list_files(location: Location, path: str | None) -> list[FileInfo]:
    """List what is directly in a folder, sorted by path; nothing for a file or what is missing."""
    found = PathView(location, object_keys.requested_path(path))
    return [
        FileInfo(found.outside(child), entry is None, None if entry is None else entry.size)
        for child, entry in found.view.children(found.full)
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
    wanted = object_keys.requested_path(path)
    folder = _destination(dst_path)
    found = PathView(location, wanted, is_guess=True)
    if _download_guess(location, found, folder):
        return os.path.join(folder, os.path.normpath(wanted))
    if not found.is_right():
        found = PathView(location, wanted)
    file = found.file
    if file is None and not found.is_folder():
        raise found.missing()
    if found.store is not None:
        entries = [file] if file else found.entries()
        files = [(entry, found.outside(entry.path)) for entry in entries]
        if len(files) == 1:
            download(found.store, files, folder)
        else:
            with ArtifactProgressBar.files(desc="Downloading artifacts", total=len(files)) as bar:
                download(found.store, files, folder, bar.update)
        for entry, place in files[-download_registry.LIMIT :]:
            _note(location, entry, place, os.path.join(folder, place))
        for inner in found.view.folders_under(found.full) if not file else ():
            _make_folder(folder, found.outside(inner))
    if not wanted:
        return folder
    if not file:
        _make_folder(folder, wanted)
    return os.path.join(folder, os.path.normpath(wanted))


def _download_guess(location: Location, found: PathView, folder: str) -> bool:
    """Fetch one file while it is asked whether it is still the right one.

    Returns:
        Whether it was, and was written; else nothing was.
    """
    file = found.file
    if found.is_certain or found.store is None or file is None:
        return False
    if file.inline is not None or file.size > _GUESSED_BYTES:
        return False
    place = found.outside(file.path)
    try:
        download(found.store, [(file, place)], folder, is_right=found.is_right)
    except ArtifactError:
        if found.is_right():
            raise
        return False
    if not found.is_right():
        return False
    _note(location, file, place, os.path.join(folder, place))
    return True


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
    found = PathView(location, object_keys.requested_path(path))
    entry = found.view.files.get(found.full)
    if entry is None or found.store is None:
        raise found.missing()
    download_one(found.store, entry, os.fspath(local_path))
    _note(location, entry, found.outside(entry.path), os.path.abspath(local_path))


def _note(location: Location, entry: FileEntry, place: str, path: str) -> None:
    uri = location.at(object_keys.join(location.path, place)).uri
    download_registry.note(path, entry.size, entry.sha256.hex(), uri)


def open_artifact(location: Location, path: str) -> io.BufferedReader:
    """Open one file for reading, without downloading it."""
    found = PathView(location, object_keys.requested_path(path))
    entry = found.view.files.get(found.full)
    if entry is None or found.store is None:
        raise found.missing()
    return open_file(found.store, entry)


def content_digest(location: Location, path: str | None) -> str:
    """Return the digest of a file or folder from its manifest, reading no data.

    A file alone is digested under its name.
    """
    return digest_files(
        (name, entry.size, entry.sha256.hex()) for name, entry in _entries(location, path)
    )


def file_digests(location: Location, path: str | None) -> dict[str, str]:
    """Return the SHA-256 of each file under a path, in hex, from the manifest."""
    return {name: entry.sha256.hex() for name, entry in _entries(location, path)}


def _entries(location: Location, path: str | None) -> Iterator[tuple[str, FileEntry]]:
    """Yield each file under a path, with its path from there; a file alone with its name."""
    found = PathView(location, object_keys.requested_path(path))
    file = found.file
    if file is not None:
        yield posixpath.basename(file.path), file
        return
    if not found.is_folder():
        raise found.missing()
    for entry in found.view.under(found.full):
        yield object_keys.relative_to(entry.path, found.full) or "", entry
