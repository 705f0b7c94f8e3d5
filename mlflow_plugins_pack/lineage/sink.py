"""What the capture layers emit into: an interface, and the one object that implements it.

The session implements it and installs itself. Capture modules import this module only, so that
they know neither runs nor records.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, Protocol

from mlflow_plugins_pack.lineage.files import FileState


class SeenPlaces(Protocol):
    """The places that are recorded already for some runs."""

    def is_full(self) -> bool:
        """Return whether only size and time are kept of further files."""

    def add(self, path: str) -> None:
        """Note a file that is read beyond the first ones."""

    def trust(self, path: str) -> None:
        """Count a file of a folder that the user's code reads."""


class Claim(Protocol):
    """The runs that a read or write belongs to."""

    @property
    def seen(self) -> SeenPlaces:
        """What is recorded for these runs already."""


class Sink(Protocol):
    """What a capture layer may ask and tell."""

    def is_on(self) -> bool:
        """Return whether runs are recorded now."""

    def is_muted(self) -> bool:
        """Return whether the calling thread works for the pack now."""

    def muted(self) -> AbstractContextManager[None]:
        """Record nothing that this thread does in the block."""

    def is_data(self, path: str) -> bool:
        """Return whether an absolute path may be a user's data."""

    def claim(self, place: str, writes: bool) -> Claim | None:
        """Return the runs that a read or write belongs to; None if it is not to be recorded."""

    def emit_file(
        self,
        claimed: Any,
        kind: str,
        path: str,
        state: FileState | None,
        source: str | None = None,
        via: str = "audit",
    ) -> None:
        """Record a read or write of a local file that was claimed."""

    def emit_object(
        self, kind: str, uri: str, via: str, size: int | None = None, version: str | None = None
    ) -> None:
        """Record a read or write of anything else."""

    def emit_statement(self, statement: str, database: str) -> None:
        """Record that SQL was run.

        Args:
            statement: Its text.
            database: ``dialect://host:port/database/default schema``.
        """

    def child_start_code(self) -> str | None:
        """Return the code with which a process that is about to be spawned begins its capture."""

    def client_run_created(self, run_id: str, tracking_uri: str) -> None:
        """Learn that the user created a run through `MlflowClient`."""

    def client_run_ends(self, run_id: str) -> None:
        """Learn that a client is about to end a run."""

    def version_created(self, registry_uri: str, name: str) -> None:
        """Learn that a version of a registered model was created."""


_installed: Sink | None = None


def install(sink: Sink) -> None:
    """Make an object the one that all capture layers emit into."""
    global _installed
    _installed = sink


def current() -> Sink:
    """Return the installed sink.

    Raises:
        RuntimeError: If the capture was not started.
    """
    if _installed is None:
        raise RuntimeError("the capture was not started")
    return _installed
