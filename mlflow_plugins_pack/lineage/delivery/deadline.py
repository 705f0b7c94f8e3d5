"""One deadline for everything that the end of a run does."""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TypeVar

from mlflow_plugins_pack.lineage import mlflow_internals

T = TypeVar("T")

END_SECONDS = 10.0
"""Longest that the end of a run waits: for files, for the server and for this machine's disk."""


class Deadline:
    """A moment by which all steps of something must be over.

    Args:
        muted: Gives a context in which the calling thread's own reads and writes are not recorded.
        seconds: From now.
    """

    def __init__(
        self, muted: Callable[[], AbstractContextManager[None]], seconds: float = END_SECONDS
    ) -> None:
        self._muted = muted
        self._end = time.monotonic() + seconds

    @property
    def remaining(self) -> float:
        """Seconds that are left; not negative."""
        return max(0.0, self._end - time.monotonic())

    def run(self, work: Callable[[], T], *, at_most: float = END_SECONDS) -> T:
        """Run a step in a thread of its own, and stop waiting for it in time.

        A file on a mount that does not answer blocks a thread for ever; this one is left behind.

        Args:
            work: The step, which must not hold a lock while it waits for anything outside.
            at_most: Seconds for this step, if less than what is left.

        Raises:
            TimeoutError: If it is not over in time.
            BaseException: Whatever the step raises.
        """
        results: list[T] = []
        errors: list[BaseException] = []
        context = contextvars.copy_context()

        def step() -> None:
            with self._muted():
                try:
                    results.append(context.run(work))
                except BaseException as exc:  # noqa: BLE001  # raised in the waiting thread
                    errors.append(exc)

        seconds = min(self.remaining, at_most)
        thread = threading.Thread(target=step, name="mlflow-pack-lineage-end", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            # Python 3.12 starts no thread once the interpreter is ending.
            with mlflow_internals.impatient_requests():
                step()
        else:
            thread.join(seconds)
        if errors:
            raise errors[0]
        if not results:
            raise TimeoutError(f"no answer within {seconds:.0f} seconds")
        return results[0]
