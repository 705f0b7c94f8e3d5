"""Finds damaged and missing manifest segments, and takes them out so that a run works again.

What a lost call logged, deleted or locked is unknown. Taken out, it counts as a call that changed
nothing: its files are missing or show what earlier calls stored, and its locks do not hold. What is
left of a damaged segment is kept below ``.cas/damaged/``.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from mlflow_plugins_pack.artifacts import thread_pools
from mlflow_plugins_pack.artifacts.format import object_keys
from mlflow_plugins_pack.artifacts.format.manifest import Segment, encode_segment
from mlflow_plugins_pack.artifacts.format.segment_names import (
    calls_name,
    confirmed,
    is_lock_marker,
    last_number,
    lost_entries,
    lost_markers,
    parse_segment_name,
    plan_reading,
    receipt_name,
)
from mlflow_plugins_pack.artifacts.format.view import View, merge
from mlflow_plugins_pack.artifacts.store.segment_io import SegmentIO
from mlflow_plugins_pack.artifacts.store.store import Store
from mlflow_plugins_pack.errors import ArtifactCorruptError


@dataclass
class ManifestState:
    """What the segments of one scope hold, and what is wrong with them.

    Attributes:
        view: What the good segments hold; it is the scope's state only if nothing is wrong.
        damaged: Why each damaged segment cannot be used, by name.
        lost: First and last number of each range of calls that no good segment holds.
        markers: Missing ones of the two objects that say that the scope has locks.
        receipts: Names of the objects that say that a call was there that is lost, where calls have
            names of their own; a numbered one is replaced by an empty call.
    """

    view: View
    damaged: dict[str, str] = field(default_factory=dict)
    lost: list[tuple[int, int]] = field(default_factory=list)
    markers: list[str] = field(default_factory=list)
    receipts: list[str] = field(default_factory=list)

    @property
    def is_good(self) -> bool:
        """Whether nothing is damaged or missing."""
        return not self.damaged and not self.lost and not self.markers


def check_manifest(store: Store, scope: str) -> ManifestState:
    """Read the segments of a scope from the storage and check them.

    Raises:
        StorageError: If the storage fails.
        StoreFormatError: If a newer version wrote one of them.
    """
    io = SegmentIO(store)
    listed = list(io.list(scope))
    names = [name for name in listed if not is_lock_marker(name)]
    damaged: dict[str, str] = {}
    good: dict[str, Segment] = {}
    while True:
        plan = plan_reading(name for name in names if name not in damaged)
        unread = [name for name in plan.names if name not in good]
        reading = [(name, thread_pools.submit(io.read, scope, name)) for name in unread]
        for name, future in reading:
            try:
                segment = future.result()
            except ArtifactCorruptError as exc:
                damaged[name] = exc.message
                continue
            if segment is not None:
                good[name] = segment
        # Others may hold the same calls as a damaged one: they are read in the next round.
        if damaged.keys().isdisjoint(unread):
            break
    if any(name not in good for name in plan.names):
        # Removed between listing and reading: a joined one holds its calls by now.
        return check_manifest(store, scope)
    view = merge((good[name] for name in plan.names), confirmed(listed))
    damaged.update(_damaged_spares(io, scope, set(names).difference(good, damaged)))
    lost = list(plan.missing)
    if last_number(names) > plan.head:
        lost.append((plan.head + 1, last_number(names)))
    there = set(names).difference(damaged)
    receipts = [receipt_name(str(entry)) for entry in lost_entries(there) if entry.writer]
    return ManifestState(view, damaged, lost, lost_markers(listed), receipts)


def _damaged_spares(io: SegmentIO, scope: str, names: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield those segments that are damaged and why, of those whose calls others hold too."""
    segments = sorted(filter(parse_segment_name, names))
    reading = [(name, thread_pools.submit(io.read, scope, name)) for name in segments]
    for name, future in reading:
        try:
            future.result()
        except ArtifactCorruptError as exc:
            yield name, exc.message


def describe_lost(first: int, last: int) -> str:
    """Return what it means that the calls of a range are lost."""
    calls = f"call {first} is" if first == last else f"the calls {first} to {last} are"
    return (
        f"{calls} lost: files that were logged there are missing or show an earlier content, what "
        f"was deleted there may be back, and locks of then do not hold"
    )


def take_out(store: Store, scope: str, state: ManifestState) -> None:
    """Put empty calls in the place of lost ones, and remove damaged segments.

    May be interrupted and run again.
    """
    io = SegmentIO(store)
    for name in state.damaged:
        kept = f"{object_keys.DAMAGED_PREFIX}{object_keys.join(scope, name)}-{secrets.token_hex(4)}"
        store.backend.write(store.key(kept), store.backend.read(io.key(scope, name)))
    written = {calls_name(first, last) for first, last in state.lost}
    for name in written:
        key = object_keys.segment_key(scope, name)
        data = store.sealer.seal_object(key, encode_segment(Segment(scope, name, ())))
        if name in state.damaged:
            store.backend.write(store.key(key), data)
        else:
            # Unless it has come meanwhile: a listing need not show all that is being written.
            store.backend.write_if_absent(store.key(key), data)
    store.backend.delete(io.key(scope, name) for name in state.damaged if name not in written)
    store.backend.delete(io.key(scope, name) for name in state.receipts)
    for name in state.markers:
        io.mark(scope, name)
    store.manifests.forget(scope)
