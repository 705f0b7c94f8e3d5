"""Runs work that is cut into pieces on other processes or machines, through any Executor.

A piece changes nothing that a second run of it would not do again. So a worker that is lost costs
its piece only, and results come in the order of the pieces, however long each took.
"""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import (
    BrokenExecutor,
    CancelledError,
    Executor,
    Future,
    ProcessPoolExecutor,
    wait,
)
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol, TypeVar

from mlflow_plugins_pack.artifacts.store.opening import find_store
from mlflow_plugins_pack.artifacts.store.store import Store
from mlflow_plugins_pack.artifacts.uri.location import parse_location
from mlflow_plugins_pack.errors import (
    ArtifactNotFoundError,
    ConfigurationError,
    WorkersLostError,
)

P = TypeVar("P")
R = TypeVar("R")

_AHEAD = 4
"""So many pieces are under way for each worker, so that none waits for the next one."""
_TRIES = 4
_POLL_SECONDS = 5.0


class Workers(Protocol):
    """Runs a call on many pieces."""

    def map(
        self, call: Callable[[P], R], pieces: Iterable[P], tick: Callable[[], None]
    ) -> Iterator[R]:
        """Yield the results in the order of the pieces.

        Args:
            call: A picklable function; its piece and result are picklable, too.
            pieces: What to call it with.
            tick: Called every few seconds meanwhile, to hold a lease.
        """
        ...


class InProcess:
    """Runs each piece here, when its result is asked for."""

    def map(
        self, call: Callable[[P], R], pieces: Iterable[P], tick: Callable[[], None]
    ) -> Iterator[R]:
        """Yield the results in the order of the pieces."""
        for piece in pieces:
            tick()
            yield call(piece)


@dataclass
class _Piece:
    value: Any
    future: Future[Any] = field(default_factory=Future)
    tries: int = 0


class ExecutorWorkers:
    """Runs pieces on an executor, which is opened again when it breaks.

    Args:
        open_executor: Returns a new executor.
        ahead: How many pieces are under way at once.
    """

    def __init__(self, open_executor: Callable[[], Executor], ahead: int) -> None:
        self._open, self._ahead = open_executor, ahead

    def map(
        self, call: Callable[[P], R], pieces: Iterable[P], tick: Callable[[], None]
    ) -> Iterator[R]:
        """Yield the results in the order of the pieces.

        Raises:
            WorkersLostError: If the workers were lost again and again at the same piece.
        """
        coming = iter(pieces)
        under_way: deque[_Piece] = deque()
        executor = self._open()
        try:
            while True:
                while len(under_way) < self._ahead and (piece := _next(coming)) is not None:
                    _begin(executor, call, piece)
                    under_way.append(piece)
                if not under_way:
                    return
                first = under_way[0]
                while not wait([first.future], timeout=_POLL_SECONDS).done:
                    tick()
                tick()
                try:
                    result: R = first.future.result()
                except (BrokenExecutor, CancelledError) as exc:
                    first.tries += 1
                    if first.tries == _TRIES:
                        raise WorkersLostError(
                            f"The processes that do the work ended {_TRIES} times at the same "
                            f"piece of it ({exc or type(exc).__name__}). What was done before is "
                            f"done. Check their memory and their logs, and run the command again."
                        ) from exc
                    # Pieces that are done keep their results; the others are begun again.
                    executor.shutdown(wait=False)
                    executor = self._open()
                    for lost in under_way:
                        if not _has_result(lost.future):
                            _begin(executor, call, lost)
                    continue
                under_way.popleft()
                yield result
        finally:
            for piece in under_way:
                piece.future.cancel()
            executor.shutdown(wait=False)


def _next(coming: Iterator[Any]) -> _Piece | None:
    for value in coming:
        return _Piece(value)
    return None


def _begin(executor: Executor, call: Callable[[Any], Any], piece: _Piece) -> None:
    try:
        piece.future = executor.submit(call, piece.value)
    except BrokenExecutor as exc:
        piece.future = Future()
        piece.future.set_exception(exc)


def _has_result(future: Future[Any]) -> bool:
    return future.done() and not future.cancelled() and future.exception() is None


def open_for_worker(uri: str) -> Store:
    """Return the store that a piece is about; a process opens it once.

    Raises:
        ArtifactNotFoundError: If this worker does not find it.
    """
    store = find_store(parse_location(uri))
    if store is None:
        raise ArtifactNotFoundError(
            f"A worker found no artifact store at {uri}. Nothing was changed by it. Give all "
            f"workers the same settings and credentials."
        )
    return store


def workers(processes: int | None, dask: str | None) -> Workers:
    """Return what runs pieces.

    Args:
        processes: So many processes of this machine, or None for the cluster.
        dask: The address of a Dask scheduler, such as ``tcp://host:8786``. Its workers need this
            package and the environment that opens the store.

    Raises:
        ConfigurationError: If both are given, or dask.distributed is not installed.
    """
    if processes is not None and dask is not None:
        raise ConfigurationError("Give --processes or --dask, not both. Nothing was begun.")
    if processes is not None:
        return ExecutorWorkers(partial(_processes, processes), _AHEAD * processes)
    try:
        from distributed import Client
        from distributed.cfexecutor import ClientExecutor
    except ImportError as exc:
        raise ConfigurationError(
            "--dask needs one more package. Nothing was begun. Run "
            "`pip install 'mlflow-plugins-pack[dask]'`."
        ) from exc

    class OnCluster(ClientExecutor):
        """An executor that has a connection of its own."""

        def __init__(self) -> None:
            super().__init__(Client(dask, set_as_default=False), pure=False)

        def shutdown(self, wait: bool = True, **_: Any) -> None:
            super().shutdown(wait=wait)
            self._client.close()

    with Client(dask, set_as_default=False) as client:
        threads = sum(client.nthreads().values())
    return ExecutorWorkers(OnCluster, _AHEAD * max(1, threads))


def _processes(count: int) -> Executor:
    # Not forked: this process has threads, and connections to the storage.
    return ProcessPoolExecutor(count, mp_context=multiprocessing.get_context("spawn"))
