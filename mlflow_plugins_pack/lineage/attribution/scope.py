"""The reads and writes of one owner: a run, or a thread that has none."""

from __future__ import annotations

from mlflow_plugins_pack.lineage.capture.event import Event


class Scope:
    """Reads and writes by the event's key: the first of each place, or of each version of it.

    Attributes:
        reads: As many as a run may list.
        more: Further local files that were read, with their `files.packed` state.
        writes: As many as a run may list.
        dropped: How often further places were read or written.
    """

    __slots__ = ("dropped", "more", "reads", "writes")

    def __init__(
        self,
        reads: dict[str, Event] | None = None,
        more: dict[str, int] | None = None,
        writes: dict[str, Event] | None = None,
        dropped: int = 0,
    ) -> None:
        self.reads = {} if reads is None else reads
        self.more = {} if more is None else more
        self.writes = {} if writes is None else writes
        self.dropped = dropped

    def read_only(self) -> Scope:
        """Return what was read, without what was written."""
        return Scope(self.reads, self.more)

    def merge(self, other: Scope) -> None:
        """Take in another scope; what is here already stays."""
        for place, event in other.reads.items():
            self.reads.setdefault(place, event)
        for place, event in other.writes.items():
            self.writes.setdefault(place, event)
        self.more = other.more | self.more
        self.dropped += other.dropped
