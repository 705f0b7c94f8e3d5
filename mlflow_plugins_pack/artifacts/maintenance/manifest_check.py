"""Finds damaged and missing manifest segments, and takes them out so that a run works again.

What a lost call logged, deleted or locked is unknown. Taken out, it counts as a call that changed
nothing: its files are missing or show what earlier calls stored, and its locks do not hold. What is
left of a damaged segment is kept below ``.cas/damaged/``.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field

from mlflow_plugins_pack.artifacts.format import object_keys
from mlflow_plugins_pack.artifacts.format.manifest import Segment, encode_segment
from mlflow_plugins_pack.artifacts.format.segment_names import (
    entry_name,
    joined_name,
    last_number,
    parse_segment_name,
    plan_reading,
)
from mlflow_plugins_pack.artifacts.store.segment_io import SegmentIO
from mlflow_plugins_pack.artifacts.store.store import Store
from mlflow_plugins_pack.errors import ArtifactCorruptError


@dataclass
class ManifestDamage:
    """What is wrong with the segments of one scope.

    Attributes:
        damaged: Why each damaged segment cannot be used, by name.
        lost: First and last number of each range of calls that no good segment holds.
    """

    damaged: dict[str, str] = field(default_factory=dict)
    lost: list[tuple[int, int]] = field(default_factory=list)


def find_damage(store: Store, scope: str) -> ManifestDamage:
    """Read the segments of a scope and return what is wrong with them.

    Raises:
        StorageError: If the storage fails.
        StoreFormatError: If a newer version wrote one of them.
    """
    io = SegmentIO(store)
    names = [name for name in io.list(scope) if parse_segment_name(name)]
    found = ManifestDamage()
    while True:
        plan = plan_reading(name for name in names if name not in found.damaged)
        wrong = dict(_unreadable(io, scope, plan.names))
        if not wrong:
            break
        # Others may hold the same calls: they are read in the next round.
        found.damaged.update(wrong)
    found.lost = list(plan.missing)
    if last_number(names) > plan.head:
        found.lost.append((plan.head + 1, last_number(names)))
    return found


def _unreadable(io: SegmentIO, scope: str, names: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    for name in names:
        try:
            io.read(scope, name)
        except ArtifactCorruptError as exc:
            yield name, exc.message


def describe_lost(first: int, last: int) -> str:
    """Return what it means that the calls of a range are lost."""
    calls = f"call {first} is" if first == last else f"the calls {first} to {last} are"
    return (
        f"{calls} lost: files that were logged there are missing or show an earlier content, what "
        f"was deleted there may be back, and locks of then do not hold"
    )


def take_out(store: Store, scope: str, damage: ManifestDamage) -> None:
    """Put empty calls in the place of lost ones, and remove damaged segments.

    May be interrupted and run again.
    """
    io = SegmentIO(store)
    for name in damage.damaged:
        kept = f"{object_keys.DAMAGED_PREFIX}{object_keys.join(scope, name)}-{secrets.token_hex(4)}"
        store.backend.write(store.key(kept), store.backend.read(io.key(scope, name)))
    written = {
        entry_name(first) if first == last else joined_name(first, last)
        for first, last in damage.lost
    }
    for name in written:
        key = object_keys.segment_key(scope, name)
        data = store.sealer.seal_object(key, encode_segment(Segment(scope, name, ())))
        if name in damage.damaged:
            store.backend.write(store.key(key), data)
        else:
            # Unless it has come meanwhile: a listing need not show all that is being written.
            store.backend.write_if_absent(store.key(key), data)
    store.backend.delete(io.key(scope, name) for name in damage.damaged if name not in written)
    store.manifests.forget(scope)
