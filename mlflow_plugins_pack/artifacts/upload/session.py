"""One log call: takes files and streams, uploads what the store lacks, commits all at once.

The order of writes makes any interruption harmless: packs, then one manifest segment a scope, and
an index delta at the same time. Until the segment is there, nothing of the call is visible.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import IO, Any, NamedTuple

from mlflow_plugins_pack.artifacts import thread_pools
from mlflow_plugins_pack.artifacts.format import object_keys
from mlflow_plugins_pack.artifacts.format.manifest import FileEntry, Folder, Operation
from mlflow_plugins_pack.artifacts.format.view import View
from mlflow_plugins_pack.artifacts.store.store import Store
from mlflow_plugins_pack.artifacts.upload.chunk_sink import ChunkSink
from mlflow_plugins_pack.artifacts.upload.local_file import (
    open_local,
    read_up_to,
    refuse_changed,
)
from mlflow_plugins_pack.artifacts.upload.older_packs import OlderPacks
from mlflow_plugins_pack.artifacts.upload.pack_writer import PackWriter
from mlflow_plugins_pack.artifacts.upload.pending import PendingFile
from mlflow_plugins_pack.artifacts.upload.small_files import SMALL_FILE_BYTES, store_small_files
from mlflow_plugins_pack.errors import (
    ArtifactConflictError,
)

_MAX_BLOCK_BYTES = 2 * 1024 * 1024
_MIN_BLOCK_BYTES = 256 * 1024

INLINE_FILE_BYTES = 32 * 1024
INLINE_CALL_BYTES = 128 * 1024
INLINE_NEXT_TO_PACKS_BYTES = 1024
"""A call that is small altogether needs no pack; next to a pack only the tiniest files stay out."""

_BATCH_BYTES = 1024 * 1024
"""So much of small files is stored at a time."""


class _Waiting(NamedTuple):
    """A small file that is still to be stored, and where its entry goes."""

    operations: list[Operation | PendingFile]
    place: int
    data: bytes


class UploadSession:
    """Collects one call's files. Not for use by two threads at once."""

    def __init__(self, store: Store, inline_bytes: int = INLINE_FILE_BYTES) -> None:
        self._store = store
        self._inline_bytes = inline_bytes
        self._share = thread_pools.Share(thread_pools.UPLOAD_MEMORY)
        self._packs = PackWriter(store, self._share)
        self._older = OlderPacks(store, self._packs)
        self._operations: dict[str, list[Operation | PendingFile]] = {}
        self._waiting: list[_Waiting] = []
        self._waiting_bytes = 0
        self._scope = ""

    @property
    def store(self) -> Store:
        """The store that the call writes to."""
        return self._store

    @property
    def keeps_folders(self) -> bool:
        """True where empty folders are kept, as stock MLflow does on this storage."""
        return self._store.backend.keeps_folders

    @property
    def block_bytes(self) -> int:
        """Bytes of a file that are taken at a time; some five such blocks are held at once."""
        return max(_MIN_BLOCK_BYTES, min(_MAX_BLOCK_BYTES, self._share.bytes // 16))

    # --- taking ---

    def add_folder(self, path: str) -> None:
        """Make a folder exist although it may be empty."""
        scope, inner = self._split(path)
        if inner:
            self._operations.setdefault(scope, []).append(Folder(inner))

    def add_file(self, path: str, local_file: str | os.PathLike[str]) -> None:
        """Take a local file as it was when this began: what is appended meanwhile is left out.

        Args:
            path: Where it goes, relative to the store's root.
            local_file: The file; links are followed.

        Raises:
            ArtifactChangedError: If it was cut or rewritten while it was being read.
            ArtifactPathError: If it is a named pipe, which may never be written to.
            OSError: If it cannot be read.
        """
        name = os.fspath(local_file)
        handle = open_local(name)
        try:
            before = os.fstat(handle)
            if not stat.S_ISREG(before.st_mode):
                with open(handle, "rb", buffering=0, closefd=False) as file:
                    self.add_stream(path, file)
                return
            taken = self._take(path, handle, before.st_size)
            size = len(taken) if isinstance(taken, bytes) else taken.size
            refuse_changed(name, before, os.fstat(handle), size)
        finally:
            os.close(handle)
        mtime_ns = max(0, before.st_mtime_ns)
        if isinstance(taken, bytes):
            self._put_later(path, taken, mtime_ns)
        else:
            self.put(path, taken, mtime_ns)

    def add_stream(self, path: str, stream: IO[bytes]) -> None:
        """Take all bytes of a stream."""
        writer = self.open_writer(path)
        while data := stream.read(_MAX_BLOCK_BYTES):
            writer.write(data)
        writer.close()

    def open_writer(self, path: str) -> StreamWriter:
        """Return a writer that takes a file piece by piece; it counts once it is closed."""
        return StreamWriter(self, path)

    def open_sink(self) -> ChunkSink:
        """Return what cuts a file into chunks and stores them."""
        return ChunkSink(self._store, self._packs)

    def _take(self, path: str, handle: int, size: int) -> FileEntry | PendingFile | bytes:
        """Read a local file; return its entry, or its bytes, which are still to be stored."""
        if size <= self.inline_limit(path):
            return _inline_entry(read_up_to(handle, size))
        if size <= SMALL_FILE_BYTES:
            return read_up_to(handle, size)
        # What both hold at a time is bounded together.
        self._store_waiting()
        sink = self.open_sink()
        while size and (block := os.read(handle, min(size, self.block_bytes))):
            sink.feed(block)
            size -= len(block)
        return sink.finish()

    def inline_limit(self, path: str) -> int:
        """Return up to which size in bytes a file stands in the manifest itself."""
        if self._store.manifests.takes_inline(self._split(path)[0]):
            return self._inline_bytes
        return min(self._inline_bytes, INLINE_NEXT_TO_PACKS_BYTES)

    def put(self, path: str, entry: FileEntry | PendingFile, mtime_ns: int = 0) -> None:
        """Take a file whose content is stored, or stands in its entry.

        Raises:
            ArtifactConflictError: If the path is a run's artifact folder.
        """
        scope, inner = self._file_place(path)
        self._operations.setdefault(scope, []).append(replace(entry, path=inner, mtime_ns=mtime_ns))

    def _put_later(self, path: str, data: bytes, mtime_ns: int) -> None:
        """Take a small file, which is stored together with those that come soon."""
        scope, inner = self._file_place(path)
        operations = self._operations.setdefault(scope, [])
        self._waiting.append(_Waiting(operations, len(operations), data))
        operations.append(PendingFile(inner, len(data), b"", mtime_ns))
        self._waiting_bytes += len(data)
        if self._waiting_bytes >= min(_BATCH_BYTES, self.block_bytes):
            self._store_waiting()

    def _store_waiting(self) -> None:
        """Store the small files that were taken and are not yet stored."""
        waiting, self._waiting, self._waiting_bytes = self._waiting, [], 0
        if not waiting:
            return
        stored = store_small_files(self._store, self._packs, [file.data for file in waiting])
        for (operations, place, _), (sha256, chunks) in zip(waiting, stored, strict=True):
            file = operations[place]
            assert isinstance(file, PendingFile)  # noqa: S101 - put there to be replaced
            operations[place] = PendingFile(file.path, file.size, sha256, file.mtime_ns, chunks)

    def _file_place(self, path: str) -> tuple[str, str]:
        """Return the scope and the path in it of a file.

        Raises:
            ArtifactConflictError: If the path is a run's artifact folder.
        """
        scope, inner = self._split(path)
        if not inner:
            raise ArtifactConflictError(
                f"A file cannot be stored at {path!r}: that name is a run's artifact folder. "
                f"Nothing was written. Give the file another name."
            )
        return scope, inner

    def _split(self, path: str) -> tuple[str, str]:
        """Split a path as `object_keys.split_scope` does; most of a call's are in one scope."""
        if self._scope and path.startswith(self._scope):
            inner = path[len(self._scope) :]
            if inner.startswith("/"):
                return self._scope, inner[1:]
        self._scope, inner = object_keys.split_scope(path)
        return self._scope, inner

    # --- committing ---

    def commit(self) -> None:
        """Make everything taken visible.

        Raises:
            ArtifactConflictError: If a file is in the way of a folder or the reverse, where the
                stock repository of this storage refuses that too.
            StorageError: If the storage failed; then nothing is visible.
            StoreChangedError: If the store is not the one any more that the call began with.
        """
        self._store_waiting()
        for scope, taken in self._operations.items():
            if self._store.backend.refuses_conflicts:
                _refuse_conflicts(scope, taken, self._store.manifests.view(scope))
        # Asked while the last pack is uploaded.
        manifests = self._store.manifests
        unknown = [scope for scope in self._operations if not manifests.is_located(scope)]
        asked = [self._begin(manifests.locate, scope) for scope in unknown]
        if unknown or not self._store.is_confirmed():
            # What this process remembers is of no use to a store that was wiped or replaced.
            asked.append(self._begin(self._store.confirm_identity))
        condemned = (
            thread_pools.submit(self._store.condemned.packs) if self._packs.is_index_old() else None
        )
        self._packs.close_pack()
        resolved = {
            scope: [self._packs.resolve(o) if isinstance(o, PendingFile) else o for o in operations]
            for scope, operations in self._operations.items()
        }
        self._packs.finish_uploads()
        relied_on = self._older.confirm(resolved)
        if condemned is not None:
            relied_on = self._older.leave(condemned.result(), relied_on, resolved)
        # The index only saves uploads: it is written while the call is committed.
        finish_index = self._packs.begin_to_index()
        for wait in asked:
            wait()
        if len(resolved) > 1:
            for scope, operations in resolved.items():
                self._store.manifests.refuse_locked(scope, operations)
        for scope, operations in resolved.items():
            self._commit_scope(scope, operations)
        finish_index()
        # Only now a collection that began meanwhile can see what this call needs: of the two, the
        # one that does not see the other is seen by it (see `maintenance.gc_rules`).
        self._older.settle(relied_on, resolved)
        self._share.close()

    def _begin(self, call: Callable[..., None], *arguments: Any) -> Callable[[], None]:
        """Begin to ask the storage; return what waits for the answer."""
        if self._store.backend.is_remote:
            return thread_pools.submit(call, *arguments).result
        # Its answer is there sooner than a thread.
        call(*arguments)
        return lambda: None

    def _commit_scope(self, scope: str, operations: list[Operation]) -> None:
        if not self._store.backend.refuses_conflicts:
            self._store.manifests.commit(scope, operations)
            return

        def decide(view: View | None) -> list[Operation]:
            if view is not None:
                _refuse_conflicts(scope, operations, view)
            return operations

        self._store.manifests.change(scope, decide)

    def abandon(self) -> None:
        """Yield up; nothing of this session becomes visible."""
        self._packs.abandon()
        self._share.close()


class StreamWriter:
    """Takes one file piece by piece, and keeps no more of it in memory than a few packs."""

    def __init__(self, session: UploadSession, path: str) -> None:
        self._session = session
        self._path = path
        self._limit = session.inline_limit(path)
        self._start: bytearray | None = bytearray()
        self._sink: ChunkSink | None = None

    def write(self, data: bytes) -> None:
        """Take the next bytes."""
        if self._start is not None:
            self._start += data
            if len(self._start) <= self._limit:
                return
            self._sink = self._session.open_sink()
            data, self._start = bytes(self._start), None
        assert self._sink is not None  # noqa: S101 - for the type checker
        view, block_bytes = memoryview(data), self._session.block_bytes
        for start in range(0, len(view), block_bytes):
            self._sink.feed(view[start : start + block_bytes])

    def close(self) -> None:
        """Take the file as complete."""
        if self._sink is not None:
            self._session.put(self._path, self._sink.finish())
        else:
            self._session.put(self._path, _inline_entry(bytes(self._start or b"")))


def _refuse_conflicts(
    scope: str, operations: Sequence[Operation | PendingFile], view: View
) -> None:
    for operation in operations:
        path = operation.path
        blocking = view.blocking_file(path)
        if isinstance(operation, FileEntry | PendingFile) and view.has_folder(path):
            raise ArtifactConflictError(
                f"There is already a folder {object_keys.join(scope, path)!r}; a file "
                f"cannot take its place. Nothing was written. Delete the folder or "
                f"use another name."
            )
        if isinstance(operation, Folder) and path in view.files:
            blocking = path
        if blocking is not None:
            raise ArtifactConflictError(
                f"There is already a file {object_keys.join(scope, blocking)!r}; it cannot "
                f"be a folder too. Nothing was written. Delete the file or use "
                f"another name."
            )


def _inline_entry(data: bytes) -> FileEntry:
    return FileEntry("", len(data), hashlib.sha256(data).digest(), 0, inline=data)
