"""Gives odd input to one place, and checks what each costs."""

from __future__ import annotations

import contextlib
import gc
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import psutil
from mlflow.exceptions import MlflowException

from mlflow_plugins_pack.errors import PackError
from tests.fuzz.support.odd_inputs import Odd

MAX_SECONDS = 2.0
"""Of one input, in processor time of the process that reads it where the entry is a function."""
MAX_KEPT_BYTES = 50 << 20
_WARM_UP = 2

Feed = Callable[[Odd], object]
"""Gives one odd input to a place; raises `FuzzError` where it finds a fault."""


class FuzzError(AssertionError):
    """An input had an effect that it must not have."""


@dataclass(frozen=True)
class Place:
    """A place where bytes enter that others choose.

    Attributes:
        name: What enters there, in words.
        reads: The modules that read it, as docs/explanation/input-bounds.md names them.
        feed: Gives it one odd input.
        largest: The longest input, in characters or bytes, roughly.
        processes: The processes that read it; None: this one.
        speed: How many inputs a second it takes, roughly; the suite tries as many.
    """

    name: str
    reads: tuple[str, ...]
    feed: Feed
    largest: int = 1 << 20
    processes: Callable[[], list[psutil.Process]] | None = None
    speed: int = 20


def run(place: Place, count: int, seed: int) -> None:
    """Run a place with so many inputs.

    Raises:
        FuzzError: At the first input that is too slow or has a wrong effect, or if too much memory
            is kept in the end.
    """
    before = 0
    for number in range(count):
        if number == _WARM_UP:  # modules are loaded, caches are as full as one input makes them
            before = _memory(place)
        spent = _feed(place, seed, number)
        if spent > MAX_SECONDS and number < _WARM_UP:  # modules were loaded meanwhile
            spent = _feed(place, seed, number)
        if spent > MAX_SECONDS:
            raise FuzzError(f"{place.name}, seed {seed}, input {number}: it took {spent:.1f} s")
    if count > _WARM_UP and (kept := _memory(place) - before) > MAX_KEPT_BYTES:
        raise FuzzError(f"{place.name}, seed {seed}: {kept >> 20} MiB are kept")


def _feed(place: Place, seed: int, number: int) -> float:
    """Feed one input; return the seconds that it took."""
    odd = Odd(random.Random(f"{seed} {number}"), place.largest)
    began, busy = time.monotonic(), _busy(place)
    try:
        place.feed(odd)
    except Exception as exc:
        raise FuzzError(f"{place.name}, seed {seed}, input {number}: {exc!r:.2000}") from exc
    return min(time.monotonic() - began, _busy(place) - busy)


def _processes(place: Place) -> list[psutil.Process]:
    return [psutil.Process()] if place.processes is None else place.processes()


def _memory(place: Place) -> int:
    gc.collect()
    return sum(process.memory_info().rss for process in _processes(place))


def _busy(place: Place) -> float:
    """Return the processor time spent so far; a machine that is busy with others adds none."""
    spent = (process.cpu_times() for process in _processes(place))
    return sum(times.user + times.system for times in spent)


@contextlib.contextmanager
def refused(*kinds: type[Exception]) -> Iterator[None]:
    """Accept a refusal: an error for the caller, not a failure of the program.

    Args:
        kinds: Further errors that count as one.
    """
    try:
        yield
    except PackError:
        pass  # raised on purpose
    except MlflowException as exc:
        if exc.get_http_status_code() == 500:
            raise FuzzError(f"an internal error: {exc.message}") from exc
    except kinds:
        pass
