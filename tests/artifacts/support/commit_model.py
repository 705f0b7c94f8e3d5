"""Explores every order of events of the commit protocol, and checks that each is linearizable.

The code that runs is the room `artifacts.commit` itself: its requests are answered from a storage
that is a value, so that the search can go back to any point. Besides the order of requests it takes
a PUT that takes effect long before its answer, or after its caller gave up on it, or that is
answered with an error although it took effect; processes that die; hours that pass, so that
collections remove what was joined and what processes remember grows old.

    python -m tests.artifacts.support.commit_model          all small scopes, 10,000 random ones
    python -m tests.artifacts.support.commit_model as-of    the rule of earlier versions: it fails

Each call's history is checked against a sequential register with a lock (Wing and Gong's search,
done step by step: the set of states that the calls that returned leave possible).
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from mlflow.exceptions import MlflowException

from mlflow_plugins_pack.artifacts.commit import listed as listed_protocol
from mlflow_plugins_pack.artifacts.commit import numbered as numbered_protocol
from mlflow_plugins_pack.artifacts.commit import reading
from mlflow_plugins_pack.artifacts.commit import requests as protocol
from mlflow_plugins_pack.artifacts.format.manifest import (
    FileEntry,
    Lock,
    Operation,
    Segment,
    Tombstone,
    Unlock,
)
from mlflow_plugins_pack.artifacts.format.segment_names import lock_markers, receipt_name
from mlflow_plugins_pack.artifacts.format.view import View
from mlflow_plugins_pack.errors import ArtifactLockedError, ArtifactNotFoundError

HOUR = 3600.0
PATH, REASON = "m/f", "approved"
CHORES = ("join", "remove")
ABSENT = "ArtifactNotFoundError"
BLIND = ("put", "touch")
LOCAL = (protocol.Clock, protocol.NewWriter, protocol.Wait)
LETTERS = str.maketrans("0123456789", "abcdefghij")


# --- calls and what they may answer ---------------------------------------------------------------


class Call(NamedTuple):
    """What an actor does: put, delete, lock, unlock, read, touch another file, join, remove."""

    kind: str
    value: int = 0
    last: int = 0


def entry(value: int) -> FileEntry:
    data = b"%d" % value
    return FileEntry(PATH, len(data), hashlib.sha256(data).digest(), 0, inline=data)


ENTRIES = {value: entry(value) for value in range(1, 20)}
OTHER = FileEntry("other", 0, hashlib.sha256().digest(), 0, inline=b"")
VALUES = {made.inline: value for value, made in ENTRIES.items()}


def value_of(view: View) -> int:
    found = view.files.get(PATH)
    return VALUES[found.inline] if found else 0


Register = tuple[int, bool]
"""The sequential store: the file's content, 0 for none, and whether it is locked."""


def apply_call(state: Register, call: Call) -> tuple[Register, Any]:
    """Return the next state and the answer of a single sequential store."""
    value, locked = state
    if call.kind == "read":
        return state, value
    if call.kind == "touch":
        return state, "done"
    if call.kind in ("put", "delete"):
        if locked and (call.kind == "put" or value):
            return state, "refused"
        return (call.value if call.kind == "put" else 0, locked), "done"
    if call.kind == "lock":
        return ((value, True), "done") if value else (state, ABSENT)
    return (value, False), "done"


def numbered(call: Call, known: protocol.Head | None) -> protocol.Protocol[Any]:
    """Start a call as `Manifests` does where the service creates exclusively."""
    if call.kind == "join":
        return numbered_protocol.join(call.value, call.last)
    if call.kind == "remove":
        return numbered_protocol.remove_joined()
    if call.kind == "read":
        return reading.read("", known)
    decide, locks = DECISIONS[call.kind](call), call.kind == "lock"
    needs_view = call.kind not in BLIND
    return numbered_protocol.commit("", decide, known, needs_view=needs_view, locks=locks)


def listed(call: Call, known: protocol.Head | None) -> protocol.Protocol[Any]:
    """Start a call as `Manifests` does where the service does not create exclusively."""
    if call.kind == "read":
        return reading.read("")
    decide, locks = DECISIONS[call.kind](call), call.kind == "lock"
    return listed_protocol.commit("", decide, needs_view=call.kind not in BLIND, locks=locks)


def _put(call: Call) -> protocol.Decide:
    return lambda view: [ENTRIES[call.value]]


def _touch(call: Call) -> protocol.Decide:
    return lambda view: [OTHER]


def _delete(call: Call) -> protocol.Decide:
    return lambda view: [Tombstone(PATH)] if view and PATH in view.files else []


def _lock(call: Call) -> protocol.Decide:
    def decide(view: View | None) -> Sequence[Operation]:
        assert view is not None
        if PATH not in view.files:
            raise ArtifactNotFoundError("No file to lock.")
        return [] if view.locks else [Lock(PATH, REASON, (view.files[PATH],))]

    return decide


def _unlock(call: Call) -> protocol.Decide:
    return lambda view: [Unlock(PATH, REASON)] if view and view.locks else []


DECISIONS: dict[str, Callable[[Call], protocol.Decide]] = {
    "put": _put,
    "touch": _touch,
    "delete": _delete,
    "lock": _lock,
    "unlock": _unlock,
}


def answer_of(call: Call, result: Any) -> Any:
    """Return a call's answer in the terms of `apply_call`."""
    if isinstance(result, ArtifactLockedError):
        return "refused"
    if call.kind == "read":
        return value_of(result.view) if isinstance(result, protocol.Head) else result
    return "done"


# --- processes ------------------------------------------------------------------------------------


class Remembered(NamedTuple):
    """A `Head` that can be compared."""

    number: int
    seen_at: float
    has_locks: bool
    files: tuple[FileEntry, ...] | None
    is_locked: bool


def freeze(head: protocol.Head | None) -> Remembered | None:
    if head is None:
        return None
    files = None if head.view is None else tuple(head.view.files.values())
    locked = head.view is not None and bool(head.view.locks)
    return Remembered(head.number, head.seen_at, head.has_locks, files, locked)


def thaw(known: Remembered | None) -> protocol.Head | None:
    if known is None:
        return None
    view = None
    if known.files is not None:
        locks = {Lock(PATH, REASON)} if known.is_locked else set()
        view = View({made.path: made for made in known.files}, set(), locks)
    return protocol.Head(known.number, known.seen_at, known.has_locks, view)


class Returned(NamedTuple):
    """The end of a call: its result or its error, and what the process knows then."""

    answer: Any
    known: Remembered | None


Start = Callable[[Call, protocol.Head | None], protocol.Protocol[Any]]


@functools.lru_cache(maxsize=400_000)
def advance_call(
    start: Start, call: Call, known: Remembered | None, answers: tuple[Any, ...]
) -> protocol.Request | Returned:
    """Return a call's next request after so many answers, or its end."""
    run = start(call, thaw(known))
    try:
        request = next(run)
        for answer in answers:
            if isinstance(request, protocol.ReadSegments):
                pairs = zip(request.names, answer, strict=True)
                answer = [None if o is None else Segment("", n, o) for n, o in pairs]
            elif isinstance(request, protocol.ListAges):
                answer = dict(answer)
            elif isinstance(request, protocol.CreateSegment):
                answer = Segment("", request.name, request.operations) if answer else None
            request = run.send(answer)
    except StopIteration as end:
        head = end.value if isinstance(end.value, protocol.Head) else None
        if call.kind in CHORES:
            return Returned("done", known)
        return Returned(answer_of(call, end.value), freeze(head))
    except ArtifactLockedError:
        return Returned("refused", None)
    except MlflowException as exc:
        return Returned(type(exc).__name__, None)
    return request


@dataclass(frozen=True)
class Actor:
    """One process: the calls it still has to make, and how far it is with the first of them."""

    calls: tuple[Call, ...]
    number: int = 0
    is_running: bool = False
    known: Remembered | None = None
    answers: tuple[Any, ...] = ()
    landed: bool | None = None
    """Whether its PUT took effect, while the answer is still on its way."""


# --- the world ------------------------------------------------------------------------------------

Object = tuple[tuple[Operation, ...], int]
"""What an object holds, and the hour in which it was written."""

Configuration = tuple[Register, frozenset[tuple[tuple[int, int], Any]]]
"""A possible state of the sequential store, and the open calls that took effect, with answers."""


@dataclass(frozen=True)
class World:
    """Everything that decides what can happen next."""

    actors: tuple[Actor, ...]
    objects: tuple[tuple[str, Object], ...] = ()
    hour: int = 0
    zombies: tuple[tuple[str, tuple[Operation, ...]], ...] = ()
    faults: int = 0
    hours: int = 0
    open_calls: tuple[tuple[tuple[int, int], Call], ...] = ()
    possible: frozenset[Configuration] = frozenset({((0, False), frozenset())})


class NotLinearizableError(Exception):
    """An order of events that no sequential store could have answered to."""


class Model:
    """The rules by which a world changes.

    Args:
        start: Starts a call's protocol.
        replaces: Whether the service ignores the condition, and replaces what exists.
        unsure: Answers after which a call may have taken effect, may still do, or may not.
    """

    def __init__(
        self,
        start: Start = numbered,
        *,
        replaces: bool = False,
        unsure: Sequence[str] = ("StorageUnavailableError",),
    ) -> None:
        self._start = start
        self._replaces = replaces
        self._unsure = unsure

    def request(self, actor: Actor) -> protocol.Request | Returned:
        """Return what a process asks for next, or the end of its call."""
        return advance_call(self._start, actor.calls[0], actor.known, actor.answers)

    def sources(self, world: World) -> list[Callable[[], Iterator[tuple[str, World]]]]:
        """Return one function for all that may go on; each gives events and worlds after them."""

        def arrives(index: int) -> Iterator[tuple[str, World]]:
            name, operations = world.zombies[index]
            rest = world.zombies[:index] + world.zombies[index + 1 :]
            after, _ = self._create(world, name, operations)
            yield f"a given-up PUT of {name} arrives", replace(after, zombies=rest)

        def passes() -> Iterator[tuple[str, World]]:
            yield "an hour passes", replace(world, hour=world.hour + 1, hours=world.hours - 1)

        return [
            *(
                functools.partial(self._steps, world, place, actor)
                for place, actor in enumerate(world.actors)
                if actor.calls
            ),
            *(functools.partial(arrives, index) for index in range(len(world.zombies))),
            *([passes] if world.hours else []),
        ]

    def next_worlds(self, world: World) -> Iterator[tuple[str, World]]:
        """Return every event that may happen next, and the world after it."""
        for source in self.sources(world):
            yield from source()

    def _steps(self, world: World, place: int, actor: Actor) -> Iterator[tuple[str, World]]:
        call = actor.calls[0]
        who = f"{place}:{call.kind}{call.value or ''}"
        if not actor.is_running:
            # A call begins with its first request, and returns with its last answer: were either
            # further from it, more calls would overlap and more answers be right.
            actor = replace(actor, is_running=True)
            if call.kind not in CHORES:
                opened = tuple(sorted((*world.open_calls, ((place, actor.number), call))))
                world = replace(world, open_calls=opened)
            actor = self._local(world, place, actor)
        request = self.request(actor)
        if isinstance(request, Returned):
            yield who, self._returned(world, place, actor, request)
            return
        if world.faults and call.kind not in CHORES:
            yield f"{who} dies", replace(self._died(world, place, actor), faults=world.faults - 1)
        if not isinstance(request, protocol.CreateSegment):
            after, answer = self._answer(world, request, place, actor)
            what = f"{who} {type(request).__name__}"
            yield what, self._go_on(after, place, actor, answer)
            return
        if actor.landed is not None:
            yield f"{who} is answered", self._go_on(world, place, actor, actor.landed)
            return
        after, is_new = self._create(world, request.name, request.operations)
        what = f"{who} {'creates' if is_new else 'cannot create'} {request.name}"
        if world.hours:
            # What it is told may come much later.
            yield what, self._put(after, place, replace(actor, landed=is_new))
        else:
            yield what, self._go_on(after, place, actor, is_new)
        if world.faults:
            zombies = (*world.zombies, (request.name, request.operations))
            dead = self._died(world, place, actor)
            what = f"{who} gives up on {request.name}, whose PUT is still on its way"
            yield what, replace(dead, zombies=zombies, faults=world.faults - 1)

    @staticmethod
    def _put(world: World, place: int, actor: Actor) -> World:
        actors = (*world.actors[:place], actor, *world.actors[place + 1 :])
        return replace(world, actors=actors)

    def _go_on(self, world: World, place: int, actor: Actor, answer: Any) -> World:
        actor = replace(actor, answers=(*actor.answers, answer), landed=None)
        actor = self._local(world, place, actor)
        request = self.request(actor)
        if isinstance(request, Returned):
            return self._returned(world, place, actor, request)
        return self._put(world, place, actor)

    def _local(self, world: World, place: int, actor: Actor) -> Actor:
        """Answer what no other process can notice."""
        while isinstance(request := self.request(actor), LOCAL):
            answer: Any = None
            if isinstance(request, protocol.Clock):
                answer = world.hour * HOUR
            elif isinstance(request, protocol.NewWriter):
                digits = f"{place}{actor.number}{len(actor.answers)}"
                answer = digits.translate(LETTERS).ljust(16, "z")
            actor = replace(actor, answers=(*actor.answers, answer))
        return actor

    def _answer(
        self, world: World, request: protocol.Request, place: int, actor: Actor
    ) -> tuple[World, Any]:
        there = dict(world.objects)
        if isinstance(request, protocol.ListNames):
            return world, tuple(there)
        if isinstance(request, protocol.Identify):
            return world, b"" if request.name in there else None
        if isinstance(request, protocol.ReadSegments):
            return world, tuple(there[n][0] if n in there else None for n in request.names)
        if isinstance(request, protocol.MarkLocked):
            for marker in lock_markers(f"{place:013}{actor.number:013}"):
                there[marker] = ((), world.hour)
            return replace(world, objects=tuple(sorted(there.items()))), None
        if isinstance(request, protocol.Confirm):
            there[receipt_name(request.name)] = ((), world.hour)
            return replace(world, objects=tuple(sorted(there.items()))), None
        if isinstance(request, protocol.ListAges):
            return world, tuple((n, (world.hour - t) * HOUR) for n, (_, t) in there.items())
        if isinstance(request, protocol.Remove):
            for name in request.names:
                there.pop(name, None)
            return replace(world, objects=tuple(there.items())), None
        raise AssertionError(request)

    def _create(
        self, world: World, name: str, operations: tuple[Operation, ...]
    ) -> tuple[World, bool]:
        there = dict(world.objects)
        if name in there and not self._replaces:
            return world, False
        there[name] = (operations, world.hour)
        return replace(world, objects=tuple(sorted(there.items()))), True

    def _died(self, world: World, place: int, actor: Actor) -> World:
        """The process is gone, its call for ever open; a new one makes the next calls."""
        changed = Actor(actor.calls[1:], actor.number + 1)
        actors = (*world.actors[:place], changed, *world.actors[place + 1 :])
        return replace(world, actors=actors)

    def _returned(self, world: World, place: int, actor: Actor, end: Returned) -> World:
        changed = Actor(actor.calls[1:], actor.number + 1, known=end.known)
        actors = (*world.actors[:place], changed, *world.actors[place + 1 :])
        after = replace(world, actors=actors)
        if actor.calls[0].kind in CHORES:
            return after
        if end.answer in self._unsure:
            # The call stays open for ever.
            return after
        call = (place, actor.number)
        possible = _settle(world.possible, dict(world.open_calls), call, end.answer)
        if not possible:
            raise NotLinearizableError(f"{actor.calls[0]} returned {end.answer}")
        still_open = tuple(item for item in world.open_calls if item[0] != call)
        return replace(after, open_calls=still_open, possible=possible)


@functools.lru_cache(maxsize=400_000)
def _settled(
    possible: frozenset[Configuration],
    open_calls: tuple[tuple[tuple[int, int], Call], ...],
    returned: tuple[int, int],
    answer: Any,
) -> frozenset[Configuration]:
    reached, waiting = set(possible), list(possible)
    while waiting:
        state, done = waiting.pop()
        for identity, call in open_calls:
            if any(known == identity for known, _ in done):
                continue
            after, given = apply_call(state, call)
            found = (after, done | {(identity, given)})
            if found not in reached:
                reached.add(found)
                waiting.append(found)
    mark = (returned, answer)
    return frozenset((state, done - {mark}) for state, done in reached if mark in done)


def _settle(
    possible: frozenset[Configuration],
    open_calls: dict[tuple[int, int], Call],
    returned: tuple[int, int],
    answer: Any,
) -> frozenset[Configuration]:
    return _settled(possible, tuple(open_calls.items()), returned, answer)


# --- searching ------------------------------------------------------------------------------------


def explore(model: Model, world: World, limit: int | None = None) -> int:
    """Visit every world that can come of one; return how many there are.

    Raises:
        NotLinearizableError: With the events that lead to it.
    """
    seen = {world}
    path: list[str] = []
    stack = [iter(_events(model, world, path))]
    while stack:
        try:
            event, after = next(stack[-1])
        except StopIteration:
            stack.pop()
            if path:
                path.pop()
            continue
        if after in seen:
            continue
        seen.add(after)
        if limit is not None and len(seen) > limit:
            break
        path.append(event)
        stack.append(_events(model, after, path))
    return len(seen)


def _events(model: Model, world: World, path: list[str]) -> Iterator[tuple[str, World]]:
    try:
        yield from model.next_worlds(world)
    except NotLinearizableError as exc:
        exc.add_note("\n".join(path))
        raise


def wander(model: Model, world: World, chance: random.Random) -> tuple[int, World]:
    """Follow one random order of events to its end; return how many there were, and the end."""
    path: list[str] = []
    while sources := model.sources(world):
        try:
            event, world = chance.choice(list(chance.choice(sources)()))
        except NotLinearizableError as exc:
            exc.add_note("\n".join(path))
            raise
        path.append(event)
    return len(path), world


def check_numbered(seed: int) -> int:
    """Follow one random schedule where the service creates exclusively."""
    chance = random.Random(seed)
    return wander(Model(numbered), random_world(chance), chance)[0]


def check_listed(seed: int) -> int:
    """Follow one random schedule, without locks, where the service replaces what exists."""
    chance = random.Random(seed)
    model = Model(listed, replaces=True)
    return wander(model, random_world(chance, joins=False, locks=False), chance)[0]


def check_listed_locks(seed: int) -> int:
    """The same with locks: what is left when all calls have returned is right.

    While a lock is being taken there, a reader may see a write that then fails for it; so may
    another locker, which finds no file then.
    """
    chance = random.Random(seed)
    model = Model(listed, replaces=True, unsure=("StorageUnavailableError", ABSENT))
    world = random_world(chance, joins=False)
    kept = [[call for call in actor.calls if call.kind != "read"] for actor in world.actors]
    writers = tuple(Actor(tuple(calls)) for calls in kept)
    count, end = wander(model, World(writers, faults=world.faults), chance)
    wander(model, replace(end, actors=(Actor((READ,), number=100),)), chance)
    return count


READ = Call("read")
KINDS = ("put", "touch", "delete", "lock", "unlock", "read")


def random_world(chance: random.Random, *, joins: bool = True, locks: bool = True) -> World:
    """Return a few processes with a few calls each, one of which joins and collects."""
    values = iter(range(1, 20))

    def some(count: int) -> tuple[Call, ...]:
        kinds = chance.choices(KINDS, [4, 2, 2, *((2, 2) if locks else (0, 0)), 4], k=count)
        return tuple(Call(k, next(values) if k == "put" else 0) for k in kinds)

    writers = [Actor(some(chance.randint(1, 4))) for _ in range(chance.choice([2, 3, 3, 4]))]
    chores = [Call("join", first, last) for first, last in ((1, 2), (3, 4), (1, 4), (5, 6), (1, 3))]
    collector = tuple(
        itertools.chain.from_iterable(
            (Call("remove"),) if chance.random() < 0.4 else (chance.choice(chores),)
            for _ in range(chance.randint(0, 6))
        )
    )
    faults, hours = chance.choice([0, 1, 2]), chance.randint(0, 4)
    if not joins:
        return World(tuple(writers), faults=faults)
    return World((*writers, Actor(collector)), faults=faults, hours=hours)


def put(value: int) -> Call:
    return Call("put", value)


DELETE, LOCK, UNLOCK, REMOVE = Call("delete"), Call("lock"), Call("unlock"), Call("remove")
TOUCH = Call("touch")
JOIN_2, JOIN_3 = Call("join", 1, 2), Call("join", 1, 3)

SMALL: list[World] = [
    # What each process does; then how many faults and how many hours there may be.
    World((Actor((put(1), READ)), Actor((put(2), READ)), Actor((JOIN_2,)))),
    World((Actor((put(1), READ)), Actor((LOCK, READ)), Actor((put(2), DELETE)))),
    World((Actor((put(1), put(2), READ)), Actor((put(3), LOCK, READ)), Actor((JOIN_3,)))),
    World((Actor((put(1), DELETE, READ)), Actor((put(2), READ)), Actor((JOIN_2, JOIN_3)))),
    World((Actor((put(1), LOCK)), Actor((put(2), READ)), Actor((UNLOCK, JOIN_2)))),
    World((Actor((put(1),)), Actor((put(2), READ)), Actor((JOIN_2, REMOVE))), faults=1, hours=1),
    World((Actor((put(1), READ)), Actor((put(2),))), faults=2),
    World((Actor((put(1), LOCK)), Actor((put(2), READ))), faults=1),
]
"""Small enough to visit every order of events."""

FULL: list[World] = [
    World((Actor((put(1), put(2))), Actor((READ, put(3))), Actor((JOIN_2, REMOVE))), hours=2),
    World(
        (Actor((put(1), put(2), READ)), Actor((put(3), DELETE, READ)), Actor((put(4), LOCK, READ)))
    ),
    World(
        (Actor((put(1), LOCK, READ)), Actor((put(2), UNLOCK, put(3))), Actor((DELETE, READ, LOCK)))
    ),
    World(
        (
            Actor((put(1), put(2), READ)),
            Actor((put(3), LOCK, READ)),
            Actor((DELETE, READ)),
            Actor((JOIN_2, JOIN_3)),
        )
    ),
    World(
        (Actor((put(1), put(2), READ)), Actor((put(3), DELETE, READ)), Actor((JOIN_2, REMOVE))),
        hours=1,
    ),
    World((Actor((put(1), put(2), READ)), Actor((put(3), LOCK, READ))), faults=1),
]
"""Three processes with three calls each, joins and collections: minutes each."""


# --- the rule of earlier versions -----------------------------------------------------------------


def as_of(call: Call, known: protocol.Head | None) -> protocol.Protocol[Any]:
    """Start a call by the rule that lost writes.

    A writer names its entry later than all that it lists. A combined one takes effect at the
    place of the last one that it holds, and those that it holds no longer count.
    """
    names = yield protocol.ListNames()
    number = max((int(name.split("-")[0]) for name in names), default=0) + 1
    name = f"{number:04}-{(yield protocol.NewWriter())}"
    if call.kind in ("put", "touch"):
        made = ENTRIES[call.value] if call.kind == "put" else OTHER
        yield protocol.CreateSegment(name, (made,))
        return None
    segments = [s for s in (yield protocol.ReadSegments(tuple(names))) if s is not None]
    combined = [s for s in segments if s.name.endswith("-c")]
    replaced = {text for s in combined for text in s.operations[1].reason.split()}
    living = [s for s in segments if s in combined or s.name not in replaced]
    living.sort(key=lambda s: (s.operations[1].path, s.name) if s in combined else (s.name, s.name))
    files = [s.operations[0] for s in living if s.operations[0].path == PATH]
    if call.kind == "read":
        return VALUES[files[-1].inline] if files else 0
    if living:
        place = living[-1].operations[1].path if living[-1] in combined else living[-1].name
        stands_for = Lock(place, " ".join(s.name for s in segments))
        yield protocol.CreateSegment(name + "-c", ((files or [OTHER])[-1], stands_for))
    return None


AS_OF = World((Actor((put(1), put(2), READ)), Actor((TOUCH, TOUCH)), Actor((JOIN_2,))))


def main(arguments: list[str]) -> None:
    """Explore everything, or show that the rule of earlier versions fails."""
    began = time.monotonic()
    if arguments == ["as-of"]:
        explore(Model(as_of), AS_OF)
        return
    for world in (*SMALL, *FULL):
        count = explore(Model(), world)
        calls = " | ".join(
            " ".join(f"{c.kind}{c.value or ''}" for c in actor.calls) for actor in world.actors
        )
        print(f"{count} states, {time.monotonic() - began:.0f} s: {calls}", flush=True)
    count = int(arguments[0]) if arguments else 10_000
    for check in (check_numbered, check_listed, check_listed_locks):
        events = sum(check(seed) for seed in range(count))
        passed = time.monotonic() - began
        print(f"{count} random schedules, {check.__name__}: {events} events, {passed:.0f} s")


if __name__ == "__main__":
    main(sys.argv[1:])
