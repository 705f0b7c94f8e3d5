"""``fsck``: is everything that manifests name really there, and is it what it should be?

Manifests are read before the packs are listed, so that what is committed meanwhile is not taken
for missing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial

from mlflow_plugins_pack.artifacts.backends.base import ObjectMissingError
from mlflow_plugins_pack.artifacts.format import object_keys
from mlflow_plugins_pack.artifacts.format.index_delta import Delta, KnownFile
from mlflow_plugins_pack.artifacts.format.manifest import FileEntry
from mlflow_plugins_pack.artifacts.format.pack import (
    Record,
    decode_records,
    encode_records,
)
from mlflow_plugins_pack.artifacts.format.segment_names import calls_name
from mlflow_plugins_pack.artifacts.maintenance.artifact_check import (
    ArtifactCheck,
    FileIdentity,
    check_whole_files,
    identity_of,
)
from mlflow_plugins_pack.artifacts.maintenance.check_journal import CheckJournal
from mlflow_plugins_pack.artifacts.maintenance.lease import lease
from mlflow_plugins_pack.artifacts.maintenance.manifest_check import (
    check_manifest,
    describe_lost,
    take_out,
)
from mlflow_plugins_pack.artifacts.maintenance.pack_check import read_packs
from mlflow_plugins_pack.artifacts.pieces import Workers
from mlflow_plugins_pack.artifacts.store.store import Store
from mlflow_plugins_pack.errors import ArtifactError, StorageError


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        kind: ``pack``, ``index``, ``manifest``, ``artifact``, ``key`` or ``gc``.
        where: The object's key, or the artifact's path in the store.
        what: What is wrong with it.
    """

    kind: str
    where: str
    what: str


@dataclass
class Report:
    """What a check found.

    Attributes:
        problems: Everything wrong, artifacts last.
        packs, chunks, files: How many were looked at.
        bytes_read: Stored bytes whose hashes were checked.
        index_repaired: Whether the index was rebuilt.
        manifests_repaired: Scopes whose damaged or missing segments were taken out.
    """

    problems: list[Problem] = field(default_factory=list)
    packs: int = 0
    chunks: int = 0
    files: int = 0
    bytes_read: int = 0
    index_repaired: bool = False
    manifests_repaired: int = 0

    def add(self, kind: str, where: str, what: str) -> None:
        """Note a problem."""
        self.problems.append(Problem(kind, where, what))

    @property
    def lost(self) -> list[Problem]:
        """Problems that a new index does not mend."""
        return [p for p in self.problems if p.kind != "index" or not self.index_repaired]


def check_store(
    store: Store,
    *,
    read_data: bool = False,
    repair_index: bool = False,
    repair_manifests: bool = False,
    workers: Workers | None = None,
    resume: bool = False,
    progress: Callable[[str], None] = lambda _: None,
) -> Report:
    """Check a store.

    Args:
        store: The store.
        read_data: Also read every stored byte and check its hash, and that of each whole file;
            else only that every chunk is listed where manifests say it is.
        repair_index: Rebuild the index from what was found good, condemn damaged packs, and take
            out damaged lists of condemned packs.
        repair_manifests: Take damaged and missing manifest segments out: what they held is lost.
        workers: Who reads the packs and files; this process if not given.
        resume: Take for good what an interrupted check of this host has read and found good.
        progress: Told what is being done.

    Returns:
        What is wrong; nothing is changed but what is asked to be repaired.
    """
    if not read_data:
        return _check(store, None, workers, progress, repair_index, repair_manifests)
    journal = CheckJournal(store.format.store_id, resume=resume)
    is_done = False
    try:
        report = _check(store, journal, workers, progress, repair_index, repair_manifests)
        is_done = True
        return report
    finally:
        journal.close(is_done=is_done)


def _check(
    store: Store,
    journal: CheckJournal | None,
    workers: Workers | None,
    progress: Callable[[str], None],
    repair_index: bool,
    repair_manifests: bool,
) -> Report:
    read_data = journal is not None
    report = Report()
    _check_keyring(store, report)
    condemned = _check_condemned(store, report, repair=repair_index)
    progress("reading manifests")
    entries = list(_read_manifests(store, report, repair=repair_manifests))
    progress("reading the index")
    deltas = _read_index(store, report)
    progress("reading packs")
    contents = read_packs(
        store,
        condemned,
        partial(report.add, "pack"),
        read_data=read_data,
        workers=workers,
        journal=journal,
    )
    packs = contents.good
    report.packs, report.chunks = len(packs), sum(map(len, packs.values()))
    report.bytes_read = contents.bytes_read
    _check_index(deltas, packs, report)
    indexed = frozenset(pack for delta in deltas.values() for pack in delta.packs)
    progress("checking artifacts")
    check = ArtifactCheck(store, contents, indexed)
    found = [check.problem_of(entry) for _, entry in entries]
    wrong: dict[FileIdentity, str] = {}
    if read_data:
        there = (
            entry
            for (_, entry), problem in zip(entries, found, strict=True)
            if problem is None and not entry.is_held and entry.inline is None
        )
        wrong = check_whole_files(store, there, workers, journal)
    whole: list[KnownFile] = []
    for (path, entry), missing in zip(entries, found, strict=True):
        report.files += 1
        problem = missing or wrong.get(identity_of(entry))
        if problem is not None:
            report.add("artifact", path, problem)
        elif entry.inline is None and entry.size and not entry.is_held:
            places = entry.recipe or entry.chunks
            if any(place.pack not in packs for place in places):
                # Its chunks were moved: a new copy finds each of them by its hash.
                continue
            whole.append(KnownFile(entry.sha256, entry.size, bool(entry.recipe), places))
    for pack in sorted(check.unlisted):
        report.add("index", object_keys.pack_key(pack), "no index object lists this pack")
    if repair_index:
        progress("writing the index")
        _write_index(store, packs, whole, list(deltas))
        if contents.damaged:
            # A collection copies what is good in them and needed, and removes them.
            store.condemned.add(frozenset(contents.damaged))
        report.index_repaired = True
    return report


def _read_manifests(
    store: Store, report: Report, *, repair: bool
) -> Iterator[tuple[str, FileEntry]]:
    for scope in store.manifests.scopes_under(""):
        try:
            state = check_manifest(store, scope)
            for name, why in state.damaged.items():
                report.add("manifest", object_keys.segment_key(scope, name), why)
            for first, last in state.lost:
                where = object_keys.segment_key(scope, calls_name(first, last))
                report.add("manifest", where, describe_lost(first, last))
            for name in state.markers:
                where = object_keys.segment_key(scope, name)
                report.add("manifest", where, "missing: one of the two that say: look for locks")
            files = state.view.files
            if state.lost and not repair:
                continue
            if repair and not state.is_good:
                take_out(store, scope, state)
                report.manifests_repaired += 1
                files = store.manifests.view(scope, fresh=True).files
        except StorageError:
            raise
        except ArtifactError as exc:
            report.add("manifest", scope or ".", exc.message)
            continue
        for path, entry in sorted(files.items()):
            yield object_keys.join(scope, path), entry


def _read_index(store: Store, report: Report) -> dict[str, Delta]:
    while True:
        found: dict[str, Delta] = {}
        problems: list[tuple[str, str]] = []
        try:
            _read_deltas(store, found, problems)
        except ObjectMissingError:
            # Combined between listing and reading: another one says the same by now.
            continue
        for where, what in problems:
            report.add("index", where, what)
        return found


def _read_deltas(store: Store, found: dict[str, Delta], problems: list[tuple[str, str]]) -> None:
    prefix = store.key(object_keys.INDEX_PREFIX)
    for stored in list(store.backend.list(prefix)):
        name = stored.key[len(prefix) :]
        if not object_keys.is_ulid(name):
            problems.append((stored.key, "no index object has such a name"))
            continue
        found[name] = Delta()
        try:
            found[name] = store.index.read_delta(name)
        except ObjectMissingError:
            raise
        except ArtifactError as exc:
            problems.append((stored.key, exc.message))


def _check_index(
    deltas: dict[str, Delta], packs: dict[bytes, list[Record]], report: Report
) -> None:
    for name, delta in deltas.items():
        for pack, table in delta.packs.items():
            there = set(packs.get(pack, ()))
            if pack not in packs:
                what = f"it names the pack {pack.hex()}, which is missing or damaged"
                report.add("index", object_keys.index_key(name), what)
            elif any(record not in there for record in decode_records(table)):
                what = f"it says of the pack {pack.hex()} what is not, or no longer, so"
                report.add("index", object_keys.index_key(name), what)


def _check_keyring(store: Store, report: Report) -> None:
    if store.format.is_encrypted:
        for key, what in store.keyring.faults().items():
            report.add("key", key, f"{what}; `mlflow-pack artifacts rekey` writes it again")


def _check_condemned(store: Store, report: Report, *, repair: bool) -> frozenset[bytes]:
    condemned, damaged = store.condemned.check()
    for name, what in damaged.items():
        report.add("gc", object_keys.condemned_key(name), what)
    if damaged and repair:
        # While no collection is running nothing is removed, so that writers need no list.
        with lease(store):
            for name in damaged:
                store.condemned.remove(name)
    return condemned


def _write_index(
    store: Store, packs: dict[bytes, list[Record]], files: list[KnownFile], old: Iterable[str]
) -> None:
    tables = {name: encode_records(records) for name, records in packs.items()}
    store.index.replace(list(old), Delta(tables, files))
    store.index.clear()
