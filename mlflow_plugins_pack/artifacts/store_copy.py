"""Copies a folder from one store into another: only the chunks that the other lacks are moved."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field

from mlflow_plugins_pack.artifacts import thread_pools
from mlflow_plugins_pack.artifacts.download.file_reader import read_file
from mlflow_plugins_pack.artifacts.format import object_keys
from mlflow_plugins_pack.artifacts.format.manifest import FileEntry
from mlflow_plugins_pack.artifacts.format.pack import Chunk
from mlflow_plugins_pack.artifacts.reading import PathView
from mlflow_plugins_pack.artifacts.repository import open_location, upload_files
from mlflow_plugins_pack.artifacts.store.chunk_reader import (
    file_chunks,
    inconsistent,
    read_at,
    read_elsewhere,
    unreadable,
)
from mlflow_plugins_pack.artifacts.store.store import Store
from mlflow_plugins_pack.artifacts.upload.session import INLINE_FILE_BYTES, UploadSession


@dataclass
class CopiedFolder:
    """What was copied.

    Attributes:
        files: The number of files.
        bytes: Their size in bytes.
        read_bytes: Bytes that were read from the source, before compression; the target had the
            others.
    """

    files: int = 0
    bytes: int = 0
    read_bytes: int = 0


@dataclass
class _Copy:
    source: Store
    done: CopiedFolder = field(default_factory=CopiedFolder)

    def take(self, upload: UploadSession, path: str, file: FileEntry) -> None:
        """Pass one file to a session of the target's."""
        is_secret = self.source.sealer.is_secret or upload.store.sealer.is_secret
        # Keyed names of chunks differ from store to store.
        if is_secret or file.size <= upload.inline_limit(path) or not (file.chunks or file.recipe):
            self._stream(upload, path, file)
        else:
            chunks = file_chunks(self.source, file)
            entry = upload.open_sink().copy_file(file, chunks, lambda one: self._begin(file, one))
            upload.put(path, entry, mtime_ns=file.mtime_ns)
        self.done.files += 1
        self.done.bytes += file.size

    def _stream(self, upload: UploadSession, path: str, file: FileEntry) -> None:
        whole, writer = hashlib.sha256(), upload.open_writer(path)
        for data in read_file(self.source, file):
            whole.update(data)
            writer.write(bytes(data))
            self.done.read_bytes += len(data)
        if whole.digest() != file.sha256:
            raise inconsistent(self.source, file, "does not have the SHA-256 of its manifest")
        writer.close()

    def _begin(self, file: FileEntry, chunk: Chunk) -> Callable[[], bytes | memoryview]:
        reading = thread_pools.submit(read_at, self.source, self.source.index.current_place(chunk))

        def finish() -> bytes | memoryview:
            data = reading.result()
            if data is None:
                data = read_elsewhere(self.source, chunk)
            if data is None:
                raise unreadable(self.source, file, chunk)
            self.done.read_bytes += len(data)
            return data

        return finish


def copy_folder(source_uri: str, target_uri: str) -> CopiedFolder:
    """Copy all files of one ``cas-`` repository into another; they are visible all at once.

    Args:
        source_uri: A ``cas-`` URI.
        target_uri: A ``cas-`` URI.

    Raises:
        ArtifactNotFoundError: If the source holds no file.
        ArtifactCorruptError: If a stored byte of the source is missing or wrong.
    """
    found = PathView(open_location(source_uri), "")
    files = list(found.view.under(found.full))
    if found.store is None or not files:
        raise found.missing()
    copy = _Copy(found.store)

    def take(upload: UploadSession, prefix: str) -> None:
        copy.done = CopiedFolder()
        if upload.keeps_folders:
            for inner in found.view.folders_under(found.full):
                upload.add_folder(object_keys.join(prefix, found.outside(inner)))
        for file in files:
            place = object_keys.storable_path(found.outside(file.path))
            copy.take(upload, object_keys.join(prefix, place), file)

    upload_files(open_location(target_uri), INLINE_FILE_BYTES, take)
    return copy.done
