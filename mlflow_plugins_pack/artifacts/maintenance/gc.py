"""Garbage collection: what `gc_rules` decides, carried out on a store."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from mlflow_plugins_pack.artifacts.backends.base import ObjectMissingError, Stored
from mlflow_plugins_pack.artifacts.format import object_keys
from mlflow_plugins_pack.artifacts.format.condemned_list import CondemnedList
from mlflow_plugins_pack.artifacts.format.index_delta import Delta
from mlflow_plugins_pack.artifacts.format.pack import Chunk, Record
from mlflow_plugins_pack.artifacts.maintenance.gc_mark import FileIdentity, Marked, mark
from mlflow_plugins_pack.artifacts.maintenance.gc_rules import (
    RETENTION_SECONDS,
    PackUse,
    choose_packs,
    must_copy,
)
from mlflow_plugins_pack.artifacts.maintenance.lease import Lease, lease, storage_time
from mlflow_plugins_pack.artifacts.pieces import Workers
from mlflow_plugins_pack.artifacts.store.chunk_copy import copy_chunks
from mlflow_plugins_pack.artifacts.store.reserve import keep_reserve, with_reserve
from mlflow_plugins_pack.artifacts.store.store import Store
from mlflow_plugins_pack.errors import ArtifactCorruptError, StorageFullError

_DELETE_AT_ONCE = 500


@dataclass
class Collected:
    """What a collection did; with a dry run, what it would do.

    Attributes:
        condemned_packs, condemned_bytes: Put on a list now, to be removed after the grace period.
        waiting_packs: On earlier lists whose grace period is not over.
        removed_packs, removed_bytes: Removed now.
        copied_bytes: Still needed, and copied before that.
        removed_segments: Manifest segments that others stand for.
        rewritten_index: Index objects that named what is gone.
        kept: Packs that were to be removed and hold a needed chunk that cannot be read, with why.
    """

    condemned_packs: int = 0
    condemned_bytes: int = 0
    waiting_packs: int = 0
    removed_packs: int = 0
    removed_bytes: int = 0
    copied_bytes: int = 0
    removed_segments: int = 0
    rewritten_index: int = 0
    kept: dict[str, str] = field(default_factory=dict)


def collect(
    store: Store,
    grace_seconds: float,
    *,
    dry_run: bool = False,
    workers: Workers | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> Collected:
    """Remove what no manifest needs: one step of a collection that takes two.

    What earlier calls condemned, and the grace period has passed over, is removed; what is
    unneeded now is condemned. With a grace period of zero both happen in one call.

    Args:
        store: The store.
        grace_seconds: How old an unneeded pack must be to be condemned, and how long it is
            condemned before it is removed.
        dry_run: Only say what would be done.
        workers: Who reads the manifests; this process if not given.
        progress: Told what is being done.

    Raises:
        CollectionRunningError: If another process is collecting this store.
        ArtifactCorruptError: If a manifest or recipe cannot be read: what it needs is unknown, so
            nothing is condemned or removed.
    """
    if dry_run:
        return _Collection(store, grace_seconds, time.time(), None, progress, workers).plan()
    done = with_reserve(store, partial(_collect, store, grace_seconds, progress, workers))
    keep_reserve(store)
    return done


def _collect(
    store: Store,
    grace_seconds: float,
    progress: Callable[[str], None],
    workers: Workers | None,
) -> Collected:
    with lease(store) as held:
        now = storage_time(store)
        collection = _Collection(store, grace_seconds, now, held, progress, workers)
        collection.sweep()
        collection.condemn()
        if not grace_seconds:
            collection.now = storage_time(store)
            collection.sweep()
        with contextlib.suppress(StorageFullError):
            # A writer that was paused may have named packs that earlier collections removed.
            collection.clean_index(set())
            collection.remove_joined_segments()
        return collection.done


class _Collection:
    """One run. Every step may be the last one; the next collection goes on from there."""

    # Long: the order of the steps is what makes a collection safe, so they stand in this order.

    def __init__(
        self,
        store: Store,
        grace_seconds: float,
        now: float,
        held: Lease | None,
        progress: Callable[[str], None],
        workers: Workers | None = None,
    ) -> None:
        self._workers = workers
        self.store = store
        self.grace_seconds = grace_seconds
        self.now = now
        self.done = Collected()
        self._held = held
        self._progress = progress

    def _mark(self, packs: dict[bytes, Stored], condemned: frozenset[bytes]) -> Marked:
        self._progress("reading manifests")
        return mark(self.store, packs, condemned, self._renew, self._workers)

    # --- condemn ---

    def plan(self) -> Collected:
        """Return what a collection would do now."""
        lists = self.store.condemned.lists(fresh=True)
        condemned = self.store.condemned.packs()
        packs = self.store.packs.stored()
        for pack in self._choose(packs, condemned):
            self.done.condemned_packs += 1
            self.done.condemned_bytes += pack.size
        written = self.store.condemned.written()
        for name, found in lists.items():
            there = [packs[pack].size for pack in found.packs if pack in packs]
            if found.swept or not self._is_due(written.get(name)):
                self.done.waiting_packs += len(there)
            else:
                self.done.removed_packs += len(there)
                self.done.removed_bytes += sum(there)
        for scope in self.store.manifests.scopes_under(""):
            self.done.removed_segments += len(self.store.manifests.removable(scope, self.now))
        return self.done

    def _choose(self, packs: dict[bytes, Stored], condemned: frozenset[bytes]) -> list[PackUse]:
        live: dict[bytes, int] = {}
        for _, chunk in self._mark(packs, condemned).homes.values():
            live[chunk.pack] = live.get(chunk.pack, 0) + chunk.stored
        uses = (
            PackUse(name, stored.size, stored.modified, live.get(name, 0))
            for name, stored in packs.items()
            if name not in condemned
        )
        return choose_packs(uses, self.now, self.grace_seconds)

    def condemn(self) -> None:
        """List what is not needed."""
        packs = self.store.packs.stored()
        chosen = self._choose(packs, self.store.condemned.packs())
        if chosen:
            self._renew()
            self.store.condemned.add(frozenset(pack.name for pack in chosen))
        self.done.condemned_packs = len(chosen)
        self.done.condemned_bytes = sum(pack.size for pack in chosen)

    # --- sweep ---

    def sweep(self) -> None:
        """Remove the packs of all lists whose grace period is over."""
        lists = self.store.condemned.lists(fresh=True)
        written = self.store.condemned.written()
        due = {}
        for name, found in lists.items():
            if found.swept:
                self._expire(name, written.get(name))
            elif self._is_due(written.get(name)):
                due[name] = found
            else:
                self.done.waiting_packs += len(found.packs)
        if not due:
            return
        condemned = self.store.condemned.packs()
        packs = self.store.packs.stored()
        victims = {p for found in due.values() for p in found.packs if p in packs}
        marked = self._mark(packs, condemned)
        holding, kept = self._held_alone(victims, packs, condemned, marked)
        sources = {place.pack for places in holding.values() for place in places}
        self._progress("removing packs")
        # First what needs no copy: on a full disk it makes room for the copies.
        self._remove(sorted(victims - kept - sources), packs)
        self._progress("copying what is still needed")
        kept |= self._copy(holding, marked)
        self._remove(sorted(sources - kept), packs)
        with contextlib.suppress(StorageFullError):
            # Else the next collection does it: an index that names too much does no harm.
            self.clean_index(marked.moved)
            for name, found in due.items():
                if kept.isdisjoint(found.packs):
                    self.store.condemned.write(name, CondemnedList(found.packs, swept=True))

    def _held_alone(
        self,
        victims: set[bytes],
        packs: dict[bytes, Stored],
        condemned: frozenset[bytes],
        marked: Marked,
    ) -> tuple[dict[bytes, list[Chunk]], set[bytes]]:
        """Return where the chunks are that the victims hold alone, and victims that must stay."""
        tables: dict[bytes, list[Record]] = {}
        kept: set[bytes] = set()
        for name in victims:
            self._renew()
            try:
                tables[name] = self._table(name, packs[name].size)
            except ArtifactCorruptError as exc:
                if any(chunk.pack == name for _, chunk in marked.homes.values()):
                    kept.add(name)
                    self.done.kept[object_keys.pack_key(name)] = exc.message
        holding: dict[bytes, list[Chunk]] = {}
        for name, records in tables.items():
            for record in records:
                if record.id in marked.homes:
                    holding.setdefault(record.id, []).append(record.at(name))
        holders = self._holders(holding, packs, condemned, marked)
        copying = must_copy(holding, holders, condemned)
        return {chunk_id: holding[chunk_id] for chunk_id in copying}, kept

    def _copy(self, holding: dict[bytes, list[Chunk]], marked: Marked) -> set[bytes]:
        """Copy chunks; return the packs that must stay since one of theirs could not be copied."""
        # In the order of packs: what was written together is read together.
        places = sorted((p[0] for p in holding.values()), key=lambda p: (p.pack, p.offset))
        wanted = ((marked.homes[chunk.id][0], chunk) for chunk in places)
        kept: set[bytes] = set()
        try:
            copied = copy_chunks(self.store, wanted)
        except StorageFullError as exc:
            for name in {place.pack for found in holding.values() for place in found}:
                kept.add(name)
                self.done.kept[object_keys.pack_key(name)] = exc.message
            return kept
        self.done.copied_bytes += copied.bytes
        for chunk in copied.unreadable:
            for place in holding[chunk.id]:
                kept.add(place.pack)
                self.done.kept[object_keys.pack_key(place.pack)] = (
                    f"its chunk {chunk.id.hex()} is needed and cannot be read; run "
                    f"`mlflow-pack artifacts fsck --read-data {self.store.location.uri}`"
                )
        return kept

    def _holders(
        self,
        holding: dict[bytes, list[Chunk]],
        packs: dict[bytes, Stored],
        condemned: frozenset[bytes],
        marked: Marked,
    ) -> dict[bytes, set[bytes]]:
        """Return which packs that stay really hold the chunks that manifests seek there."""
        by_home: dict[bytes, list[bytes]] = {}
        for chunk_id in holding:
            home = marked.homes[chunk_id][1].pack
            if home in packs and home not in condemned:
                by_home.setdefault(home, []).append(chunk_id)
        holders: dict[bytes, set[bytes]] = {}
        for home, hashes in by_home.items():
            try:
                there = {r.id for r in self._table(home, packs[home].size)}
            except ArtifactCorruptError:
                continue
            for chunk_id in there.intersection(hashes):
                holders[chunk_id] = {home}
        return holders

    def _table(self, name: bytes, size: int) -> list[Record]:
        try:
            return self.store.packs.table(name, size)[0]
        except ObjectMissingError:
            return []

    def _remove(self, names: list[bytes], packs: dict[bytes, Stored]) -> None:
        for start in range(0, len(names), _DELETE_AT_ONCE):
            self._renew()
            batch = names[start : start + _DELETE_AT_ONCE]
            self.store.packs.delete(batch)
            self.done.removed_packs += len(batch)
            self.done.removed_bytes += sum(packs[name].size for name in batch)

    def clean_index(self, moved: set[FileIdentity]) -> None:
        """Rewrite the index objects that name packs which no longer exist.

        Repeated until what was written holds: where the lease binds no one, since the service
        ignores conditions, another collection may have removed packs meanwhile.
        """
        while (written := self._rewrite_stale(moved)) is not None:
            if written.packs.keys() <= self.store.packs.stored().keys():
                return

    def _rewrite_stale(self, moved: set[FileIdentity]) -> Delta | None:
        deltas = dict(self.store.index.deltas())
        # Listed after they were read: a pack is there before an index object names it.
        there = self.store.packs.stored().keys()
        stale = [
            name
            for name, delta in deltas.items()
            if not delta.packs.keys() <= there
            or any((f.sha256, f.places) in moved for f in delta.files)
        ]
        if not stale:
            return None
        combined = Delta()
        for name in stale:
            delta = deltas[name]
            combined.packs.update((p, r) for p, r in delta.packs.items() if p in there)
            combined.files += [
                known
                for known in delta.files
                if (known.sha256, known.places) not in moved
                and all(place.pack in there for place in known.places)
            ]
        self.store.index.replace(stale, combined)
        self.done.rewritten_index += len(stale)
        return combined

    def _expire(self, name: str, written: float | None) -> None:
        if written is not None and self.now - written >= RETENTION_SECONDS:
            self.store.condemned.remove(name)

    # --- manifests ---

    def remove_joined_segments(self) -> None:
        """Remove segments that joined ones hold; a deleted run keeps one small object."""
        self._progress("removing manifest segments")
        manifests = self.store.manifests
        for scope in manifests.scopes_under(""):
            self._renew()
            removable = manifests.removable(scope, self.now)
            manifests.remove(scope, removable)
            self.done.removed_segments += len(removable)
            manifests.tidy(scope)

    # --- times ---

    def _is_due(self, written: float | None) -> bool:
        return written is not None and self.now - written >= self.grace_seconds

    def _renew(self) -> None:
        if self._held is not None:
            self._held.renew()
