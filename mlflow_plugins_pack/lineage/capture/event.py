"""One read or write as a capture layer saw it; pure."""

from __future__ import annotations

from typing import NamedTuple

from mlflow_plugins_pack.lineage.files import FileState

READ = "r"
WRITE = "w"
MOVE = "m"
DATABASE = "d"
EITHER = "e"
STATEMENT = "s"


class Event(NamedTuple):
    """One read or write.

    Attributes:
        seq: Grows with each event of the process.
        kind: `READ`, `WRITE`, or `MOVE` (``source`` was renamed to ``where``). Of three, which of
            the two they are shows later: `DATABASE` (a database file was opened), `EITHER` (a file
            was opened), `STATEMENT` (SQL was run; ``where`` is its text, ``source`` the URI of the
            database).
        where: Absolute path of a local file, or the URI of anything else.
        via: The layer that saw it, one of `layers.LAYERS`.
        owners: Innermost active runs it belongs to; empty if none was active.
        thread: Identifier of the thread.
        state: A local file's state at the event; None if it was not there yet, or is not local.
        size: Bytes, if the layer knows.
        version: Version or entity tag, if the layer knows.
        source: Former path of a renamed file.
        columns: Columns of a table that the statement names, in alphabetical order.
    """

    seq: int
    kind: str
    where: str
    via: str
    owners: tuple[str, ...]
    thread: int
    state: FileState | None = None
    size: int | None = None
    version: str | None = None
    source: str | None = None
    columns: tuple[str, ...] = ()

    def joined(self, other: Event) -> Event:
        """Return this event with the columns of another one of the same table, too."""
        return self._replace(columns=tuple(sorted({*self.columns, *other.columns})))

    @property
    def key(self) -> str:
        """What was read or written: the place, and the version where there is one."""
        return self.where if self.version is None else f"{self.where}\0{self.version}"
