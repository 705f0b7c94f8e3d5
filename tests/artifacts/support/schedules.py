"""Runs collections, writers and readers in every order that a seed can think of.

Each actor is a host of its own: the real code with its own caches, over one storage in memory.
Only one actor runs at a time; before each of its calls to the storage the schedule decides who
goes on, how long it is paused, and whether it dies there. Time is the schedule's as well, so that
grace periods and retention pass in no time and a pause may outlast any of them.

    python -m tests.artifacts.support.schedules 10000
"""

from __future__ import annotations

import random
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, ClassVar

from mlflow_plugins_pack.artifacts import thread_pools
from mlflow_plugins_pack.artifacts.backends.base import Backend, ObjectMissingError, Stored
from mlflow_plugins_pack.artifacts.download.file_reader import read_file
from mlflow_plugins_pack.artifacts.format import chunker, pack, segment_names
from mlflow_plugins_pack.artifacts.format.format_file import StoreFormat, encode_format
from mlflow_plugins_pack.artifacts.format.manifest import JOINED_INLINE_BYTES, Tombstone
from mlflow_plugins_pack.artifacts.maintenance import gc, gc_rules
from mlflow_plugins_pack.artifacts.maintenance.fsck import check_store
from mlflow_plugins_pack.artifacts.store.store import Store
from mlflow_plugins_pack.artifacts.upload import pack_writer, session
from mlflow_plugins_pack.artifacts.upload.older_packs import MissingPackError
from mlflow_plugins_pack.artifacts.upload.session import UploadSession
from mlflow_plugins_pack.artifacts.uri.location import parse_location
from mlflow_plugins_pack.errors import CollectionRunningError

GRACE_SECONDS = 100
CONTENTS = 8
SMALL_BYTES = JOINED_INLINE_BYTES + 44
ROOT = parse_location("cas-file:///store")


class Killed(BaseException):
    """The end of a process at this very point; nothing in the code may catch it."""


class Memory:
    """A strongly consistent storage."""

    def __init__(self) -> None:
        self.objects: dict[str, tuple[bytes, float]] = {}


@dataclass
class Actor:
    """One process on one host."""

    name: str
    life: Callable[[Actor], None]
    store: Store
    turn: threading.Event = field(default_factory=threading.Event)
    is_done: bool = False
    is_killed: bool = False
    wakes: float = 0
    longest_pause: float = 0
    error: BaseException | None = None


class Schedule:
    """One seed's run."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.memory = Memory()
        self.now = 1_000_000.0
        self.actors: list[Actor] = []
        self.trace: list[str] = []
        self._yielded = threading.Event()
        self._format = StoreFormat(
            str(uuid.UUID(int=self.random.getrandbits(128))), chunker.ChunkerParameters()
        )
        self.memory.objects["store/.cas/format.json"] = (encode_format(self._format), self.now)
        self.kill_rate = self.random.choice([0, 0, 0.002, 0.01])
        self.pause_rate = self.random.choice([0, 0.02, 0.1])

    def add(self, name: str, life: Callable[[Actor], None]) -> None:
        actor = Actor(name, life, None)  # type: ignore[arg-type]
        actor.store = Store(Scheduled(self, actor), ROOT, self._format)
        self.actors.append(actor)

    @property
    def kills(self) -> int:
        """Number of actors that died."""
        return sum(actor.is_killed for actor in self.actors)

    @property
    def removed_packs(self) -> int:
        """Number of packs removed while other actors worked."""
        return sum(" delete store/.cas/packs" in line for line in self.trace)

    def observer(self) -> Store:
        """Return a store whose calls are never interrupted, with empty caches."""
        return Store(Scheduled(self, None), ROOT, self._format)

    def run(self) -> None:
        threads = []
        for actor in self.actors:
            thread = threading.Thread(target=self._live, args=(actor,), daemon=True)
            thread.start()
            threads.append(thread)
        for _ in range(50_000):
            waiting = [a for a in self.actors if not a.is_done]
            if not waiting:
                break
            ready = [a for a in waiting if a.wakes <= self.now]
            if not ready:
                self.now = min(a.wakes for a in waiting)
                continue
            self._yielded.clear()
            self.random.choice(ready).turn.set()
            if not self._yielded.wait(60):
                raise AssertionError("an actor waits for something that is not the storage")
            self.now += self.random.random()
        else:
            raise AssertionError("the schedule does not end")
        for thread in threads:
            thread.join(60)
        for actor in self.actors:
            if actor.error is not None:
                raise actor.error

    def _live(self, actor: Actor) -> None:
        actor.turn.wait()
        actor.turn.clear()
        try:
            actor.life(actor)
        except Killed:
            pass
        except BaseException as exc:
            actor.error = exc
        finally:
            actor.is_done = True
            self._yielded.set()

    def step(self, actor: Actor, what: str) -> None:
        """Let others go first; the actor may be paused, or die here."""
        if actor.is_killed or self.random.random() < self.kill_rate:
            self.trace.append(f"{actor.name} dies before {what}")
            actor.is_killed = True
            raise Killed
        if self.random.random() < self.pause_rate:
            pause = self.random.choice([5, 50, GRACE_SECONDS * 1.5, GRACE_SECONDS * 60])
            actor.wakes = self.now + pause
            actor.longest_pause = max(actor.longest_pause, pause)
        self._yielded.set()
        actor.turn.wait()
        actor.turn.clear()
        self.trace.append(f"{self.now:.0f} {actor.name} {what}")


class Scheduled(Backend):
    """The storage as one actor reaches it."""

    keeps_folders: ClassVar[bool] = False
    refuses_conflicts: ClassVar[bool] = False

    def __init__(self, schedule: Schedule, actor: Actor | None) -> None:
        self._schedule, self._actor = schedule, actor

    def _step(self, what: str) -> dict[str, tuple[bytes, float]]:
        if self._actor is not None:
            self._schedule.step(self._actor, what)
        return self._schedule.memory.objects

    def read(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        try:
            data = self._step(f"read {key}")[key][0]
        except KeyError as exc:
            raise ObjectMissingError(f"There is no {key}.") from exc
        return data[start:] if length is None else data[start : start + length]

    def write(self, key: str, data: Any) -> None:
        objects = self._step(f"write {key}")
        objects[key] = (bytes(data), self._schedule.now)

    def write_if_absent(self, key: str, data: Any) -> bool:
        objects = self._step(f"write if absent {key}")
        if key in objects:
            return False
        objects[key] = (bytes(data), self._schedule.now)
        return True

    def list(self, prefix: str) -> Iterator[Stored]:
        found = sorted((k, v) for k, v in self._step(f"list {prefix}").items())
        yield from (Stored(k, len(d), m) for k, (d, m) in found if k.startswith(prefix))

    def folders(self, prefix: str) -> Iterator[str]:
        keys = [k[len(prefix) :] for k in self._step(f"folders {prefix}") if k.startswith(prefix)]
        yield from sorted({k.split("/")[0] for k in keys if "/" in k})

    def delete(self, keys: Iterable[str]) -> None:
        for key in list(keys):
            self._step(f"delete {key}").pop(key, None)

    def size(self, key: str) -> int | None:
        found = self._step(f"size {key}").get(key)
        return None if found is None else len(found[0])


# --- what actors do -------------------------------------------------------------------------------


@dataclass
class Truth:
    """What must be readable, and what may be.

    Attributes:
        acknowledged: Per scope and path the content whose log call returned last.
        unfinished: Scopes in which a call was killed: another content may be there instead.
    """

    acknowledged: dict[tuple[str, str], bytes] = field(default_factory=dict)
    unfinished: set[str] = field(default_factory=set)
    excused: set[str] = field(default_factory=set)


def content(number: int) -> bytes:
    """Return one of a few contents: chunks of 20 KiB of which neighbours share some, or small.

    The small ones stand in entries, and stay there when these are joined.
    """
    if number >= CONTENTS - 2:
        return random.Random(number).randbytes(SMALL_BYTES)
    return b"".join(random.Random(number + n).randbytes(20_000) for n in range(3))


class Stream:
    """Bytes that can be read only once."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def read(self, length: int) -> bytes:
        data, self._data = self._data[:length], self._data[length:]
        return data


def writer(schedule: Schedule, truth: Truth, number: int) -> Callable[[Actor], None]:
    """Log files into one run after the other, delete some of them again."""
    choices = random.Random(schedule.random.random())

    def log(actor: Actor, path: str, data: bytes) -> None:
        for attempt in range(5):
            upload = UploadSession(actor.store)
            try:
                upload.add_stream(path, Stream(data))  # type: ignore[arg-type]
                upload.commit()
                return
            except MissingPackError:
                if attempt == 4:
                    raise

    def live(actor: Actor) -> None:
        for turn in range(4):
            scope = f"1/{number:032x}/artifacts" if turn < 2 else f"1/{number + 90:032x}/artifacts"
            path = f"f{choices.randrange(3)}"
            data = content(choices.randrange(CONTENTS))
            actor.longest_pause = 0
            truth.unfinished.add(scope)
            try:
                log(actor, f"{scope}/{path}", data)
            except Killed:
                if actor.longest_pause >= GRACE_SECONDS:
                    truth.excused.add(scope)
                raise
            truth.acknowledged[scope, path] = data
            truth.unfinished.discard(scope)
            if choices.random() < 0.6:
                gone = f"f{choices.randrange(3)}"
                truth.unfinished.add(scope)
                actor.store.manifests.commit(scope, [Tombstone(gone)])
                truth.acknowledged.pop((scope, gone), None)
                truth.unfinished.discard(scope)
            if choices.random() < 0.3:
                actor.store.manifests.tidy(scope)

    return live


def collector(schedule: Schedule, rounds: int, grace: float) -> Callable[[Actor], None]:
    def live(actor: Actor) -> None:
        for _ in range(rounds):
            actor.wakes = schedule.now + schedule.random.choice([10, GRACE_SECONDS, 5000])
            try:
                gc.collect(actor.store, grace)
            except CollectionRunningError:
                continue

    return live


def reader(schedule: Schedule, truth: Truth) -> Callable[[Actor], None]:
    """Read what was there before and stays there: it must never fail."""

    def live(actor: Actor) -> None:
        for _ in range(3):
            for scope, path in KEPT:
                (entry,) = [
                    e for e in actor.store.manifests.view(scope).files.values() if e.path == path
                ]
                assert b"".join(read_file(actor.store, entry)) == truth.acknowledged[scope, path]

    return live


KEPT = [(f"1/{77:032x}/artifacts", f"f{n}") for n in range(2)]


def check(schedule: Schedule, truth: Truth) -> None:
    """Everything acknowledged is there with its bytes; what is visible can be read."""
    store = schedule.observer()
    for (scope, path), data in truth.acknowledged.items():
        if scope in truth.unfinished:
            continue
        entry = store.manifests.view(scope).files[path]
        assert b"".join(read_file(store, entry)) == data, (scope, path)
    for scope in store.manifests.scopes_under(""):
        if scope in truth.excused:
            continue
        paths = {path for known, path in truth.acknowledged if known == scope}
        view = store.manifests.view(scope)
        if scope not in truth.unfinished:
            assert set(view.files) == paths, scope
        for entry in view.files.values():
            b"".join(read_file(store, entry))


def inline_pools() -> Callable[[], None]:
    """Let the pools' work happen at once, in the caller: an actor is one thread."""

    def at_once(call: Callable[..., Any], *arguments: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(call(*arguments))
        except Exception as exc:
            future.set_exception(exc)
        return future

    pools = ("submit", "ask", "compute")
    before = {name: getattr(thread_pools, name) for name in pools}
    for name in pools:
        setattr(thread_pools, name, at_once)

    def restore() -> None:
        for name, pool in before.items():
            setattr(thread_pools, name, pool)

    return restore


def run_schedule(seed: int) -> Schedule:
    """Run one schedule and check what it leaves.

    The caller has called `patch`.
    """
    schedule = Schedule(seed)
    truth = Truth()
    clock.now = lambda: schedule.now
    chance.source = random.Random(seed)
    prepare = schedule.observer()
    for scope, path in KEPT:
        data = content(int(path[1:]))
        upload = UploadSession(prepare)
        upload.add_stream(f"{scope}/{path}", Stream(data))  # type: ignore[arg-type]
        upload.commit()
        truth.acknowledged[scope, path] = data
    schedule.now += GRACE_SECONDS * schedule.random.choice([0, 2])
    for number in range(schedule.random.choice([1, 2, 3])):
        schedule.add(f"writer {number}", writer(schedule, truth, number))
    for number in range(schedule.random.choice([1, 2])):
        grace = schedule.random.choice([0, GRACE_SECONDS, GRACE_SECONDS])
        schedule.add(f"collector {number}", collector(schedule, 4, grace))
    schedule.add("reader", reader(schedule, truth))
    try:
        schedule.run()
        check(schedule, truth)
        # Whatever died half-way, the next collections bring the store to order.
        for _ in range(3):
            schedule.now += 10_000
            gc.collect(schedule.observer(), GRACE_SECONDS)
        check(schedule, truth)
        if not truth.excused:
            report = check_store(schedule.observer(), read_data=True)
            assert [p for p in report.problems if p.kind != "index"] == []
    except BaseException as exc:
        exc.add_note(f"seed {seed}\n" + "\n".join(schedule.trace[-400:]))
        raise
    return schedule


class clock:  # noqa: N801 - stands in for the module of this name
    """Time as the schedule has it."""

    now: Callable[[], float] = time.time

    monotonic = staticmethod(lambda: clock.now())
    time = staticmethod(lambda: clock.now())
    time_ns = staticmethod(lambda: int(clock.now() * 1e9))
    sleep = staticmethod(lambda seconds: None)


class chance:  # noqa: N801 - stands in for the module `secrets`
    """Random names that are the same for the same seed."""

    source = random.Random()

    token_bytes = staticmethod(lambda length: chance.source.randbytes(length))
    token_hex = staticmethod(lambda length: chance.source.randbytes(length).hex())


def patch() -> Callable[[], None]:
    """Make packs small, caches private to an actor and time the schedule's; returns the undo."""
    from mlflow_plugins_pack.artifacts.maintenance import lease
    from mlflow_plugins_pack.artifacts.store import (
        chunk_copy,
        condemned,
        index,
        index_cache,
        segment_io,
    )

    saved: list[tuple[Any, str, Any]] = []

    def put(module: Any, name: str, value: Any) -> None:
        saved.append((module, name, getattr(module, name)))
        setattr(module, name, value)

    put(pack_writer, "PACK_BYTES", 45_000)
    put(pack_writer, "_PACKS_PER_DELTA", 2)
    put(pack_writer, "CHUNKS_IN_SEGMENT", 2)
    put(session, "INLINE_FILE_BYTES", SMALL_BYTES)
    put(chunk_copy, "_PACK_BYTES", 45_000)
    put(gc_rules, "SMALL_PACK_BYTES", 0)
    put(index, "COMBINE_FROM_DELTAS", 4)
    put(segment_names, "JOIN_SPAN", 2)
    for module in (segment_io, index, condemned, lease):
        put(module, "time", clock)
        put(module, "secrets", chance)
    put(gc, "time", clock)
    put(pack_writer, "time", clock)
    put(pack, "secrets", chance)
    put(index_cache, "_open_file", lambda store_id: index_cache._open_private())
    restore = inline_pools()

    def undo() -> None:
        restore()
        for module, name, value in reversed(saved):
            setattr(module, name, value)

    return undo


def main(count: int, start: int = 0) -> None:
    undo = patch()
    began = time.monotonic()
    removed = kills = steps = 0
    try:
        for seed in range(start, start + count):
            schedule = run_schedule(seed)
            steps += len(schedule.trace)
            kills += schedule.kills
            removed += schedule.removed_packs
            if (seed + 1) % 1000 == 0:
                print(f"{seed + 1} schedules, {time.monotonic() - began:.0f} s", flush=True)
    finally:
        undo()
    print(
        f"{count} schedules, {steps} steps, {kills} kills, {removed} packs removed while others "
        f"worked: nothing lost, {time.monotonic() - began:.0f} s"
    )


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0)
