"""Sets a storage back, or wipes it, under writers in every order that a seed can think of.

The real code over the storage in memory of `schedules`: three processes write, overwrite, delete
and read files of one run, and lock it now and then, while an operator sets the storage back to
earlier states. Every call that began after the last change and returned must be in effect, and be
seen by each read that begins after it. Joins are left out: one that is on its way while the storage
is set back may leave a scope that has to be repaired, as the format page says.

    python -m tests.artifacts.support.set_backs 10000
"""

from __future__ import annotations

import contextlib
import random
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable, Hashable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from mlflow_plugins_pack.artifacts import deferred, thread_pools
from mlflow_plugins_pack.artifacts.commit import set_back
from mlflow_plugins_pack.artifacts.format import chunker, segment_names
from mlflow_plugins_pack.artifacts.format.format_file import (
    StoreFormat,
    decode_format,
    encode_format,
)
from mlflow_plugins_pack.artifacts.format.manifest import Lock, Tombstone, Unlock
from mlflow_plugins_pack.artifacts.format.segment_names import plan_reading
from mlflow_plugins_pack.artifacts.store.store import Store
from mlflow_plugins_pack.artifacts.upload.session import UploadSession
from mlflow_plugins_pack.errors import ArtifactError, ArtifactLockedError, StoreChangedError
from tests.artifacts.support import schedules
from tests.artifacts.support.schedules import ROOT, Actor, Schedule, Scheduled, Stream

SCOPE = f"1/{5:032x}/artifacts"
FORMAT = "store/.cas/format.json"
WRITERS = 3


@dataclass
class Truth:
    """What is known of each file; each has one writer.

    Attributes:
        changes: How often the storage was changed behind the processes.
        known: The number of the content that was acknowledged last, 0 for none; what is missing
            here is not known since the last change.
        refused: Why calls failed, and how often.
        again: How often a process had to try again at its end until it could write.
    """

    changes: int = 0
    known: dict[str, int] = field(default_factory=dict)
    refused: Counter[str] = field(default_factory=Counter)
    again: int = 0


class Writer:
    """One process, whose calls are on a file of its own, and on locks of that."""

    def __init__(self, schedule: Schedule, truth: Truth, number: int) -> None:
        self._schedule, self._truth = schedule, truth
        self._path = f"f{number}"
        self._value = number * 1000
        self._choices = random.Random(schedule.random.random())
        self._left: list[Store] = []

    def live(self, actor: Actor) -> None:
        for _ in range(6):
            self._call(actor, self._choices.choice(["put", "put", "put", "delete", "read", "lock"]))
        # A state with a lock may have been restored.
        while not (self._call(actor, "unlock") and self._call(actor, "put")):
            self._truth.again += 1
            make_pending(actor.store)
        # As a process does that ends.
        make_pending(actor.store)

    def _call(self, actor: Actor, kind: str) -> bool:
        # What a process has put off it makes, whether it uses the store still or has left it.
        while self._left:
            make_pending(self._left.pop())
        if self._choices.random() < 0.2:
            make_pending(actor.store)
        truth, began = self._truth, self._truth.changes
        at_start = dict(truth.known)
        if kind != "read":
            truth.known.pop(self._path, None)
        self._value += 1
        try:
            seen = getattr(self, f"_{kind}")(actor.store) or {}
        except StoreChangedError:
            self._reopen(actor)
            truth.refused["StoreChangedError"] += 1
            return False
        except ArtifactError as exc:
            truth.refused[type(exc).__name__] += 1
            return False
        if truth.changes != began:
            return True
        if kind in ("put", "delete"):
            truth.known[self._path] = self._value if kind == "put" else 0
        elif kind == "read":
            for path, value in at_start.items():
                # Another's file may have changed meanwhile, but not back to what it was before.
                found = seen.get(path, 0)
                if path == self._path or (path in truth.known and truth.known[path] == value):
                    assert found == value, f"{path} is read as {found} instead of {value}"
        return True

    def _put(self, store: Store) -> None:
        upload = UploadSession(store)
        data = b"%d" % self._value
        upload.add_stream(f"{SCOPE}/{self._path}", Stream(data))  # type: ignore[arg-type]
        upload.commit()

    def _delete(self, store: Store) -> None:
        store.manifests.change(SCOPE, lambda view: [Tombstone(self._path)])

    def _read(self, store: Store) -> dict[str, int]:
        return values(store)

    def _lock(self, store: Store) -> None:
        """Lock the file and release it again: in between it cannot be changed."""
        lock = Lock(self._path, "why")

        def decide(view: Any) -> list[Any]:
            held = bool(view and any(True for _ in view.under(self._path)))
            return [Lock(self._path, "why", view.bound_by(self._path))] if held else []

        store.manifests.change(SCOPE, decide, locks=True)
        before = self._truth.changes
        if lock in store.manifests.view(SCOPE).locks and before == self._truth.changes:
            try:
                self._put(store)
            except ArtifactLockedError:
                pass
            else:
                assert before != self._truth.changes, "what is locked was written"
        self._unlock(store)

    def _unlock(self, store: Store) -> None:
        store.manifests.change(SCOPE, lambda view: [Unlock(self._path, "why")])

    def _reopen(self, actor: Actor) -> None:
        """Find the store that is there now, or make one."""
        backend = Scheduled(self._schedule, actor)
        fresh = StoreFormat(str(uuid.UUID(int=self._value)), chunker.ChunkerParameters())
        backend.write_if_absent(FORMAT, encode_format(fresh))
        self._left.append(actor.store)
        actor.store = Store(backend, ROOT, decode_format(backend.read(FORMAT), "store"))


def values(store: Store) -> dict[str, int]:
    files = store.manifests.view(SCOPE).files.values()
    return {entry.path: int(entry.inline or b"0") for entry in files}


def is_whole(objects: dict[str, tuple[bytes, float]]) -> bool:
    """Return whether no call is missing: what is kept of another state must be repaired first."""
    segments = f"store/{SCOPE}/.m/"
    names = [key.removeprefix(segments) for key in objects if key.startswith(segments)]
    return FORMAT in objects and not plan_reading(names).missing


def operator(schedule: Schedule, truth: Truth) -> Callable[[Actor], None]:
    """Keep states of the storage, and set it back to them."""
    choices = random.Random(schedule.random.random())

    def live(actor: Actor) -> None:
        kept = [dict(schedule.memory.objects)]
        for change in range(choices.randint(1, 3)):
            # What was under way at one change has come to its end before the next.
            for _ in range(choices.randint(60, 90) if change else choices.randint(2, 40)):
                schedule.step(actor, "waits")
                if choices.random() < 0.2 and is_whole(schedule.memory.objects):
                    kept.append(dict(schedule.memory.objects))
            what = choices.choice(["restore", "restore", "restore", "wipe"])
            schedule.step(actor, what)
            restored = {} if what == "wipe" else choices.choice(kept)
            schedule.memory.objects.clear()
            schedule.memory.objects.update(restored)
            truth.changes += 1
            truth.known.clear()

    return live


class Lazy(Future[Any]):
    """Asks when the answer is waited for: as late as a thread may come to it."""

    def __init__(self, call: Callable[[], Any]) -> None:
        super().__init__()
        self._call = call

    def result(self, timeout: float | None = None) -> Any:
        return self._call()


pending: dict[tuple[Hashable, ...], Callable[[], None]] = {}


def make_pending(store: Store) -> None:
    """Make the calls that a process has put off, and those that they put off."""
    owners = {id(store.manifests), id(store.manifests._io)}
    while keys := [key for key in pending if key[0] in owners]:
        for key in keys:
            with contextlib.suppress(ArtifactError):
                pending.pop(key)()


@contextlib.contextmanager
def patched() -> Iterator[random.Random]:
    """Make calls of the pools at once, or those that look whether a call is there, late."""
    undo = schedules.patch()
    at_once, seconds = thread_pools.submit, set_back._WITHDRAW_SECONDS
    later = deferred.later

    def make(key: Hashable, call: Callable[[], None]) -> None:
        assert isinstance(key, tuple)
        if key[-1] == "look" and chance.random() < 0.5:
            with contextlib.suppress(ArtifactError):
                call()
        else:
            pending[key] = call

    deferred.later = make
    segment_names.JOIN_SPAN = 1000
    # Here each request takes as long as a pause elsewhere.
    set_back._WITHDRAW_SECONDS = 60
    chance = random.Random()

    def ask(call: Callable[..., Any], *arguments: Any) -> Future[Any]:
        if chance.random() < 0.5:
            return at_once(call, *arguments)
        return Lazy(lambda: call(*arguments))

    thread_pools.ask = ask
    try:
        yield chance
    finally:
        set_back._WITHDRAW_SECONDS = seconds
        deferred.later = later
        undo()


def run_schedule(seed: int, chance: random.Random) -> Truth:
    """Run one schedule, within `patched`, and check what it leaves."""
    schedule, truth = Schedule(seed), Truth()
    schedule.kill_rate = schedule.pause_rate = 0
    schedules.clock.now = lambda: schedule.now
    schedules.chance.source = random.Random(seed)
    chance.seed(seed)
    pending.clear()
    for number in range(WRITERS):
        schedule.add(f"writer {number}", Writer(schedule, truth, number).live)
    schedule.add("operator", operator(schedule, truth))
    try:
        schedule.run()
        found = values(schedule.observer()) if FORMAT in schedule.memory.objects else {}
        for path, value in truth.known.items():
            assert found.get(path, 0) == value, f"{path} is {found.get(path, 0)}, not {value}"
        assert truth.again < 4 * WRITERS * (1 + truth.changes), f"no way back: {truth.refused}"
    except BaseException as exc:
        exc.add_note(f"seed {seed}\n" + "\n".join(schedule.trace))
        raise
    return truth


def main(count: int, start: int = 0) -> None:
    began = time.monotonic()
    refused: Counter[str] = Counter()
    with patched() as chance:
        for seed in range(start, start + count):
            refused += run_schedule(seed, chance).refused
    print(f"{count} schedules, {time.monotonic() - began:.0f} s; refused: {dict(refused)}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
