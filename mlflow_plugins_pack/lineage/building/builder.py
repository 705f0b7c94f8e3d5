"""Turns a window of events into a graph: looks at each file again and fingerprints it."""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from mlflow_plugins_pack import download_registry
from mlflow_plugins_pack.lineage.attribution.runs import FULLY
from mlflow_plugins_pack.lineage.attribution.windows import Window
from mlflow_plugins_pack.lineage.building import environment
from mlflow_plugins_pack.lineage.building.coverage import coverage
from mlflow_plugins_pack.lineage.capture.event import READ, Event
from mlflow_plugins_pack.lineage.document.graph import (
    INTERMEDIATE,
    STAT,
    Entry,
    Graph,
    file_uri,
    object_uri,
    role_of,
)
from mlflow_plugins_pack.lineage.files import FileState, file_state, is_same_content, unpacked
from mlflow_plugins_pack.lineage.fingerprints import folders as fold
from mlflow_plugins_pack.lineage.fingerprints.hashing import (
    NOTHING,
    Fingerprint,
    Fingerprinter,
    cache_folder,
)
from mlflow_plugins_pack.lineage.fingerprints.versions import Tracking

_HASH_SECONDS = 4.0
"""Longest that the end of a run hashes in full; the background usually did it before."""
_SAMPLE_SECONDS = 2.0
"""Seconds after which it also stops hashing samples."""
_UPSTREAM = ("runs:/", "models:/")


class _Looks(threading.local):
    """Whether the calling thread looks at files."""

    on = True


class GraphBuilder:
    """Makes graphs; one per process, since it remembers digests.

    Args:
        limit: Most inputs, and most outputs, to list; beyond it, folders stand for their files.
        hash_files: Fingerprint local files at all.
        full_bytes: Largest file to hash in full.
        home: Home folder to write as ``~``, or empty.
        keep_code: Keep the text of the entry script and of changes that were not committed.
    """

    def __init__(
        self,
        *,
        limit: int,
        hash_files: bool,
        full_bytes: int,
        home: str,
        keep_code: bool = False,
    ) -> None:
        self._limit = limit
        self._hash_files = hash_files
        self._full_bytes = full_bytes
        self._home = home
        self._keep_code = keep_code
        self._fingerprinter = Fingerprinter(cache_folder())
        self._tracking = Tracking()
        self._facts: dict[str, Any] | None = None
        self._facts_lock = threading.Lock()
        self._looks = _Looks()

    def prepare(self) -> None:
        """Gather the facts about code and packages ahead of time."""
        with self._facts_lock:
            if self._facts is None:
                self._facts = {
                    "code": environment.code(self._home, with_text=self._keep_code),
                    "env": environment.environment(),
                }

    def forked(self) -> None:
        """Take a new lock in a forked child, where no thread releases the old one."""
        self._facts_lock = threading.Lock()

    def prefetch(self, events: Iterable[Event], more: Iterable[tuple[str, int]]) -> None:
        """Hash files that were just read, so that the end of the run need not.

        Args:
            events: Their reading, as far as it is known.
            more: Paths and `packed` states of further ones.
        """
        if not self._hash_files:
            return
        late = [self._late_event(path, state) for path, state in more]
        read = [e for e in (*events, *late) if e.kind == READ and e.state is not None]
        self._tracking.learn([event.where for event in read])
        for event in read:
            if event.state is not None:
                also = self._also(event.where, event.state)
                self._fingerprint(event.where, event.state, also, full=True)

    def build(
        self,
        window: Window,
        *,
        dropped: int,
        layers: tuple[str, ...],
        looks: bool = True,
        applies: str = FULLY,
        captured_programs: int = 0,
    ) -> Graph:
        """Return the graph of a window.

        Args:
            window: What the run read and wrote.
            dropped: How many reads and writes are not in it.
            layers: The capture layers that were on.
            looks: Look at the files as they are now. Without it, nothing outside of the process is
                waited for, and the record says ``unchecked``.
            applies: How far the capture applies to the run, as in `RunState`.
            captured_programs: How many programs that were started capture too.
        """
        if looks:
            self.prepare()
        self._looks.on = looks
        deadline = time.monotonic() + _HASH_SECONDS
        inputs: list[Entry] = []
        members: dict[str, tuple[str, ...]] = {}
        for scope, shared in ((window.own, False), (window.shared, True)):
            reads = {k: v for k, v in scope.reads.items() if not k.startswith(_UPSTREAM)}
            single, folders, left_out = fold.split(reads, scope.more, self._limit)
            dropped += left_out
            if self._hash_files and looks:
                self._tracking.learn([place for place in single if place.startswith("/")])
            for place in single:
                event = reads.get(place) or self._late_event(place, scope.more[place])
                if looks and _was_temporary(event):
                    continue
                inputs.append(self._input(event, window, deadline, shared=shared))
            for folder, keys in folders.items():
                files = fold.files(keys, reads, scope.more)
                found = self._folder(folder, files, window.intermediate, shared=shared)
                inputs += found
                names = {*members.get(found[0].uri, ()), *[file[0] for file in files]}
                members[found[0].uri] = tuple(sorted(names))
        fetched = [place for place in window.own.reads if place.startswith(_UPSTREAM)]
        runs = [place.removeprefix("runs:/") for place in fetched if place.startswith("runs:/")]
        outputs = [self._output(event, deadline) for event in window.own.writes.values()]
        return Graph(
            inputs=tuple(sorted(inputs, key=lambda e: e.uri)),
            outputs=tuple(sorted((e for e in outputs if e is not None), key=lambda e: e.uri)),
            members=members,
            upstream_runs=tuple(dict.fromkeys((*window.upstream, *runs))),
            upstream_models=tuple(place for place in fetched if place.startswith("models:/")),
            dropped=dropped,
            facts={
                **(self._facts or {}),
                "coverage": coverage(
                    layers,
                    unchecked=not looks,
                    applies=applies,
                    captured_programs=captured_programs,
                ),
            },
        )

    def _input(self, event: Event, window: Window, deadline: float, *, shared: bool) -> Entry:
        role = INTERMEDIATE if event.key in window.intermediate else role_of(event.where)
        if event.state is None:
            return _object_entry(event, role, shared=shared)
        looks = self._looks.on
        also = self._also(event.where, event.state) if self._hash_files and looks else NOTHING
        made = self._timely(event.where, event.state, deadline, also)
        version = self._tracking.version(event.where, event.state.size, made) if looks else None
        return Entry(
            uri=file_uri(event.where, self._home),
            digest=made.digest if made else None,
            size=event.state.size,
            modified=event.state.mtime_ns // 1_000_000_000,
            version=version,
            origin=self._origin(event.state),
            role=role,
            via=event.via,
            coverage=made.coverage if made else STAT,
            changed=looks and not is_same_content(event.state, file_state(event.where)),
            shared=shared,
        )

    def _late_event(self, path: str, packed: int) -> Event:
        """Return the reading of a file of which only size and time were kept."""
        size, mtime_ns = unpacked(packed)
        state = file_state(path) if self._looks.on else None
        if state is None or (state.size, state.mtime_ns) != (size, mtime_ns):
            state = FileState(0, 0, size, mtime_ns, 0)  # the state of no file: it counts as changed
        return Event(0, READ, path, "audit", (), 0, state)

    def _folder(
        self, folder: str, files: list[fold.File], intermediate: frozenset[str], *, shared: bool
    ) -> list[Entry]:
        """Return an entry for the files of a folder, one for each role."""
        roles: dict[str, list[fold.File]] = defaultdict(list)
        of_suffix: dict[str, str] = {}
        for file in files:
            name = file[0]
            suffix = name[name.rfind(".") :]
            role = of_suffix.get(suffix) or of_suffix.setdefault(suffix, role_of(name))
            own = intermediate and f"{folder}/{name}" in intermediate
            roles[INTERMEDIATE if own else role].append(file)
        uri = folder if "://" in folder else file_uri(folder, self._home).rstrip("/")
        times = [mark for _, _, mark in files if isinstance(mark, int)]
        return [
            Entry(
                uri=f"{uri}/",
                digest=fold.digest(group),
                size=sum([size or 0 for _, size, _ in group]),
                modified=max(times) // 1_000_000_000 if times else None,
                role=role,
                coverage=STAT,
                shared=shared,
                files=len(group),
            )
            for role, group in sorted(roles.items())
        ]

    def _output(self, event: Event, deadline: float) -> Entry | None:
        if not event.where.startswith("/"):
            return _object_entry(event, role_of(event.where), shared=False)
        state = file_state(event.where) if self._looks.on else event.state
        if state is None and self._looks.on:
            # Written and deleted again: it was temporary.
            return None
        if state is None:
            return Entry(
                file_uri(event.where, self._home), role=role_of(event.where), via=event.via
            )
        made = self._timely(event.where, state, deadline)
        return Entry(
            uri=file_uri(event.where, self._home),
            digest=made.digest if made else None,
            size=state.size,
            modified=state.mtime_ns // 1_000_000_000,
            role=role_of(event.where),
            via=event.via,
            coverage=made.coverage if made else STAT,
        )

    def _also(self, path: str, state: FileState) -> frozenset[str]:
        """Return what to make next to the sha256 of a file that is hashed in full."""
        if state.size > self._full_bytes:
            return NOTHING
        return self._tracking.digests(path, state.size)

    def _origin(self, state: FileState) -> str | None:
        """Return the artifact that a file was downloaded from, if the pack did it."""
        found = download_registry.find(state)
        if found is None:
            return None
        scheme, _, rest = found.uri.partition(":/")
        if scheme == "cas-file":
            return f"cas-{file_uri(f'/{rest}', self._home)}"
        bucket, _, key = rest.removeprefix("/").partition("/")
        return object_uri(scheme, bucket, key)

    def _timely(
        self, path: str, state: FileState, deadline: float, also: frozenset[str] = NOTHING
    ) -> Fingerprint | None:
        if not self._hash_files:
            return None
        late = time.monotonic() - deadline
        if late > _SAMPLE_SECONDS or not self._looks.on:
            return self._fingerprinter.cached(state, full=state.size <= self._full_bytes)
        return self._fingerprint(path, state, also, full=late <= 0)

    def _fingerprint(
        self, path: str, state: FileState, also: frozenset[str], *, full: bool
    ) -> Fingerprint | None:
        whole = state.size <= self._full_bytes
        if known := self._fingerprinter.cached(state, full=whole, also=also):
            return known
        return self._fingerprinter.fingerprint(path, state, full=whole and full, also=also)


def _was_temporary(event: Event) -> bool:
    """Return whether a file was in the system's temporary folder itself and is gone."""
    if event.state is None or os.path.dirname(event.where) != tempfile.gettempdir():  # noqa: PTH120
        return False
    return file_state(event.where) is None


def _object_entry(event: Event, role: str, *, shared: bool) -> Entry:
    return Entry(
        uri=event.where if "://" in event.where else file_uri(event.where),
        size=event.size,
        version=event.version,
        role=role,
        via=event.via,
        shared=shared,
        columns=event.columns,
    )
