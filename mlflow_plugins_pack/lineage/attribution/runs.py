"""All runs that this process knows, one `RunState` for each.

The audit hook looks runs up in any thread, so nothing here takes a lock: each step is one operation
of a dict.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from mlflow_plugins_pack.lineage.attribution.scope import Scope

if TYPE_CHECKING:
    from mlflow_plugins_pack.lineage.document.graph import Graph

UNSEEN, OPEN, ENDING, ENDED = range(4)
FULLY, PARTLY, NOT = "fully", "partly", "not"
_ENDED_LIMIT = 1_000
"""Number of ended runs that are remembered, so that a resumed one continues."""


class RunState:
    """What is known of one run.

    Attributes:
        run_id: MLflow's.
        phase: `UNSEEN` until the run is sighted, then `OPEN`, `ENDING` and `ENDED`; a run that is
            resumed is `OPEN` again.
        parent: The run that it is nested in, or None.
        thread: Identifier of the thread in which it is active, if that is one of this process.
        is_attached: What is read belongs to it though it is not active: the user attached it, or it
            is the only open run of the process.
        is_clients: It was created through `MlflowClient`.
        applies: How far the capture applies to it: `FULLY`, `PARTLY` or `NOT`.
        tracking_uri: Where it is, if that was said.
        is_secondary: Another process writes its record; this one is a later rank of its training.
        scope: What was read and written while it was the innermost active run.
        nested: What its nested runs, which have ended, read and wrote.
        base: The record that it has on the server, as far as this process wrote or read it.
        interim_places: How many places its last interim record covered.
    """

    __slots__ = (
        "applies",
        "base",
        "interim_places",
        "is_attached",
        "is_clients",
        "is_secondary",
        "nested",
        "parent",
        "phase",
        "run_id",
        "scope",
        "thread",
        "tracking_uri",
    )

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        self.phase = UNSEEN
        self.parent: str | None = None
        self.thread: int | None = None
        self.is_attached = False
        self.is_clients = False
        self.applies = FULLY
        self.tracking_uri: str | None = None
        self.is_secondary = False
        self.scope = Scope()
        self.nested = Scope()
        self.base: Graph | None = None
        self.interim_places = 0

    @property
    def is_open(self) -> bool:
        """Whether the run was sighted and its record is not finally written."""
        return self.phase in (OPEN, ENDING)

    @property
    def is_finished(self) -> bool:
        """Whether its final record was written, or is being written."""
        return self.phase in (ENDING, ENDED)


class Runs:
    """The runs of this process by their ids."""

    def __init__(self) -> None:
        self._states: dict[str, RunState] = {}

    def find(self, run_id: str) -> RunState | None:
        """Return what is known of a run, or None."""
        return self._states.get(run_id)

    def state(self, run_id: str) -> RunState:
        """Return what is known of a run; nothing, at first."""
        found = self._states.get(run_id)
        return self._states.setdefault(run_id, RunState(run_id)) if found is None else found

    def sight(self, run_id: str, parent: str | None = None) -> RunState:
        """Learn that a run is active."""
        state = self.state(run_id)
        if not state.is_open:
            state.phase = OPEN
            state.parent = parent
        return state

    def is_finished(self, run_id: str) -> bool:
        """Return whether a run's final record was written, or is being written."""
        found = self._states.get(run_id)
        return found is not None and found.is_finished

    def open(self) -> list[RunState]:
        """Return the runs that were sighted and have not ended."""
        return [state for state in list(self._states.values()) if state.is_open]

    def attached(self) -> list[str]:
        """Return the ids of the attached runs."""
        return [state.run_id for state in list(self._states.values()) if state.is_attached]

    def ancestors(self, run_id: str) -> Iterator[str]:
        """Return the runs that a run is nested in, the innermost first."""
        seen = {run_id}
        found = self._states.get(run_id)
        while found is not None and found.parent is not None and found.parent not in seen:
            seen.add(found.parent)
            yield found.parent
            found = self._states.get(found.parent)

    def end(self, run_id: str) -> None:
        """Learn that a run has ended and its record was written."""
        state = self._states.pop(run_id, None) or RunState(run_id)
        state.phase = ENDED
        state.parent = state.thread = None
        state.is_attached = state.is_secondary = state.is_clients = False
        state.applies = FULLY
        state.scope, state.nested = Scope(), Scope()
        state.interim_places = 0
        # At the end: the one that ended longest ago is forgotten first.
        self._states[run_id] = state
        ended = [other for other in list(self._states.values()) if other.phase == ENDED]
        for other in ended[:-_ENDED_LIMIT]:
            self._states.pop(other.run_id, None)

    def forked(self) -> None:
        """Forget the open runs in a forked child: they are the parent process's."""
        self._states = {key: state for key, state in self._states.items() if state.phase == ENDED}
