"""One log call: takes files and streams, uploads what the store lacks, commits all at once.

The order of writes makes any interruption harmless: packs, then one manifest segment a scope, and
an index delta at the same time. Until the segment is there, nothing of the call is visible.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from mlflow_plugins_pack.artifacts import thread_pools
from mlflow_plugins_pack.artifacts.format import object_keys
from mlflow_plugins_pack.artifacts.format.manifest import FileEntry, Folder, Operation
from mlflow_plugins_pack.artifacts.format.pack import Chunk
from mlflow_plugins_pack.artifacts.format.view import View
from mlflow_plugins_pack.artifacts.store.chunk_copy import copy_chunks
from mlflow_plugins_pack.artifacts.store.chunk_reader import needed_chunks, read_recipe
from mlflow_plugins_pack.artifacts.store.store import Store
from mlflow_plugins_pack.artifacts.upload.chunk_sink import ChunkSink
from mlflow_plugins_pack.artifacts.upload.pack_writer import PackWriter
from mlflow_plugins_pack.artifacts.upload.pending import PendingFile
from mlflow_plugins_pack.errors import (
    ArtifactChangedError,
    ArtifactConflictError,
    ArtifactCorruptError,
    ArtifactPathError,
)

_MAX_BLOCK_BYTES = 2 * 1024 * 1024
_MIN_BLOCK_BYTES = 256 * 1024

INLINE_FILE_BYTES = 32 * 1024
INLINE_CALL_BYTES = 128 * 1024
INLINE_NEXT_TO_PACKS_BYTES = 1024
"""A call that is small altogether needs no pack; next to a pack only the tiniest files stay out."""

_SETTLE_ROUNDS = 10


class MissingPackError(ArtifactCorruptError):
    """The index named packs that do not exist; in this process it no longer does."""


class UploadSession:
    """Collects one call's files. Not for use by two threads at once."""

    def __init__(self, store: Store, inline_bytes: int = INLINE_FILE_BYTES) -> None:
        self._store = store
        self._inline_bytes = inline_bytes
        self._share = thread_pools.Share(thread_pools.UPLOAD_MEMORY)
        self._packs = PackWriter(store, self._share)
        self._operations: dict[str, list[Operation | PendingFile]] = {}
        self._copies: dict[bytes, frozenset[bytes]] = {}

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
        scope, inner = object_keys.split_scope(path)
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
        refuse_pipe(os.fspath(local_file), os.stat(local_file))
        with Path(local_file).open("rb", buffering=0) as file:
            before = os.fstat(file.fileno())
            if not stat.S_ISREG(before.st_mode):
                self.add_stream(path, file)
                return
            entry = self._entry_of_file(path, file, before.st_size)
            after = os.fstat(file.fileno())
            # Only what grew may have another time: a log goes on while it is logged.
            is_rewritten = after.st_mtime_ns != before.st_mtime_ns
            if entry.size != before.st_size or (is_rewritten and after.st_size <= before.st_size):
                raise _changed(os.fspath(local_file))
        self.put(path, entry, mtime_ns=max(0, before.st_mtime_ns))

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

    def _entry_of_file(self, path: str, file: IO[bytes], size: int) -> FileEntry | PendingFile:
        if size <= self.inline_limit(path):
            return _inline_entry(file.read(size))
        sink = self.open_sink()
        while size and (block := file.read(min(size, self.block_bytes))):
            sink.feed(block)
            size -= len(block)
        return sink.finish()

    def inline_limit(self, path: str) -> int:
        """Return up to which size in bytes a file stands in the manifest itself."""
        if self._store.manifests.takes_inline(object_keys.split_scope(path)[0]):
            return self._inline_bytes
        return min(self._inline_bytes, INLINE_NEXT_TO_PACKS_BYTES)

    def put(self, path: str, entry: FileEntry | PendingFile, mtime_ns: int = 0) -> None:
        """Take a file whose content is stored, or stands in its entry.

        Raises:
            ArtifactConflictError: If the path is a run's artifact folder.
        """
        scope, inner = object_keys.split_scope(path)
        if not inner:
            raise ArtifactConflictError(
                f"A file cannot be stored at {path!r}: that name is a run's artifact folder. "
                f"Nothing was written. Give the file another name."
            )
        self._operations.setdefault(scope, []).append(replace(entry, path=inner, mtime_ns=mtime_ns))

    # --- committing ---

    def commit(self) -> None:
        """Make everything taken visible.

        Raises:
            ArtifactConflictError: If a file is in the way of a folder or the reverse, where the
                stock repository of this storage refuses that too.
            StorageError: If the storage failed; then nothing is visible.
            StoreChangedError: If the store is not the one any more that the call began with.
        """
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
        relied_on = self._confirm_packs(resolved)
        if condemned is not None:
            relied_on = self._leave(condemned.result(), relied_on, resolved)
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
        self._settle(relied_on, resolved)
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

    def _settle(self, relied_on: set[bytes], resolved: dict[str, list[Operation]]) -> None:
        """Make sure that nothing of this call relies on a pack that will be removed.

        Args:
            relied_on: The packs that it relies on.
            resolved: What it has just committed.
        """
        if not self._packs.knows_index:
            return
        for _ in range(_SETTLE_ROUNDS):
            settled = self._leave(self._store.condemned.packs(), relied_on, resolved)
            if settled == relied_on:
                if not self._packs.is_confirmed_lately():
                    # So long after they were looked for, packs may be gone, and the list, too.
                    self._confirm_packs(resolved)
                return
            relied_on = settled
        raise MissingPackError(
            f"What this upload stored in {self._store.location.uri} was condemned again and again "
            f"by collections. Log it again, and run `mlflow-pack artifacts gc` with a longer "
            f"--grace."
        )

    def _leave(
        self,
        condemned: frozenset[bytes],
        relied_on: set[bytes],
        resolved: dict[str, list[Operation]],
    ) -> set[bytes]:
        """Copy what this call needs of condemned packs; return what it relies on then."""
        leaving = relied_on & condemned
        if not leaving:
            return relied_on
        # Entries name the places that chunks had before they were copied.
        sources = leaving - self._copies.keys()
        for pack in leaving & self._copies.keys():
            sources |= self._copies[pack]
        copied = copy_chunks(self._store, _chunks_in(self._store, sources, resolved))
        if copied.unreadable:
            raise _missing(self._store, copied.unreadable[0].pack)
        self._copies.update(dict.fromkeys(copied.packs, frozenset(sources)))
        return (relied_on - leaving) | copied.packs

    def _confirm_packs(self, resolved: dict[str, list[Operation]]) -> set[bytes]:
        """Return the packs that this call relies on; all of them exist.

        Raises:
            MissingPackError: If one was removed although the index still lists it.
        """
        self._packs.note_confirmed()
        packs_of_files: dict[bytes, set[bytes]] = {}
        for operations in resolved.values():
            for operation in operations:
                if isinstance(operation, FileEntry) and operation.sha256 not in packs_of_files:
                    packs_of_files[operation.sha256] = set(self._packs_of(operation))
        used = self._packs.reused.union(self._packs.names, *packs_of_files.values())
        missing = self._store.packs.missing(used - self._packs.just_written())
        if missing:
            needing = [f for f, packs in packs_of_files.items() if not packs.isdisjoint(missing)]
            self._store.index.cache.forget(missing, needing)
            raise _missing(self._store, missing[0])
        return used

    def _packs_of(self, entry: FileEntry) -> Iterator[bytes]:
        yield from (chunk.pack for chunk in entry.chunks)
        for place in entry.recipe:
            yield place.pack
            if place.pack not in self._packs.names:
                part = read_recipe(self._store, place)
                yield from (chunk.pack for chunk in (part.chunks if part else ()))


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


def _chunks_in(
    store: Store, packs: set[bytes], resolved: dict[str, list[Operation]]
) -> Iterator[tuple[int, Chunk]]:
    """Yield kind and place of all chunks of this call that are in the packs, each once."""
    given: set[bytes] = set()
    for operations in resolved.values():
        for entry in (o for o in operations if isinstance(o, FileEntry)):
            for kind, chunk in needed_chunks(store, entry):
                if chunk.pack in packs and chunk.id not in given:
                    given.add(chunk.id)
                    yield kind, chunk


def _missing(store: Store, pack: bytes) -> MissingPackError:
    return MissingPackError(
        f"The index of {store.location.uri} lists packs that are gone, such as "
        f"{object_keys.pack_key(pack)}, and this upload would have relied on them. Nothing was "
        f"committed that can be read. Log the file again: it will be stored in full. Then run "
        f"`mlflow-pack artifacts fsck --repair-index` to see what else is affected."
    )


def _inline_entry(data: bytes) -> FileEntry:
    return FileEntry("", len(data), hashlib.sha256(data).digest(), 0, inline=data)


def refuse_pipe(name: str, status: os.stat_result) -> None:
    """Refuse a named pipe: opening it would wait for a writer, perhaps for ever.

    Raises:
        ArtifactPathError: If it is one.
    """
    if stat.S_ISFIFO(status.st_mode):
        raise ArtifactPathError(
            f"{name!r} is a named pipe, not a file. Nothing was written. Remove it from the "
            f"folder, or log its content as a stream."
        )


def _changed(name: str) -> ArtifactChangedError:
    return ArtifactChangedError(
        f"The file {name!r} was cut or rewritten while it was being read, so what was read may be "
        f"neither its old nor its new content. Nothing was committed. Log it again once it is "
        f"complete."
    )
