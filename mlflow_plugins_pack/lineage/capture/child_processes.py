"""The spool layer: child processes report to the process that has the run.

A forked child has the capture already. One that multiprocessing or loky (joblib) spawns gets it
with its preparation data. One that `subprocess` starts has it if it imports mlflow, or if
``mlflow-pack lineage early install`` was run.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from mlflow_plugins_pack.lineage import sink
from mlflow_plugins_pack.lineage.capture import child_spool
from mlflow_plugins_pack.lineage.capture.event import Event

_START = """
try:
    from mlflow_plugins_pack.lineage.session import session
    session.begin_child({folder!r}, {owners!r})
except Exception:
    pass
"""


class Children:
    """Which process reads this one's reports, and whose reports this one reads.

    Attributes:
        writer: Reports to the parent; None in a process that no captured one started.
        is_later_rank: This is a rank above 0 of a distributed training: it reports to rank 0.
    """

    def __init__(self) -> None:
        self.writer: child_spool.Writer | None = None
        self.is_later_rank = False
        self._readers: list[child_spool.Reader] = []
        self._own: str = ""
        self._is_made = False
        self._is_rank_0 = False

    def start(self) -> None:
        """Find the process that waits for reports, and announce where children report to."""
        inherited = os.environ.get(child_spool.VARIABLE, "")
        ranks = child_spool.rank_folder()
        # Children inherit the environment of a rank: only a process that differs from it is one.
        place = f"{ranks}/{os.environ.get('RANK')}"
        is_rank = ranks is not None and os.environ.get(child_spool.RANK_VARIABLE) != place
        if is_rank and ranks and child_spool.make(ranks):
            os.environ[child_spool.RANK_VARIABLE] = place
            if os.environ["RANK"] != "0":
                self.is_later_rank = True
                self.writer = child_spool.Writer(ranks)
                os.environ[child_spool.VARIABLE] = ranks
                return
            self._readers.append(child_spool.Reader(ranks))
            self._is_rank_0 = True
        if inherited and os.path.isdir(inherited):  # noqa: PTH112
            self.writer = child_spool.Writer(inherited, is_program=True)
        else:
            self.has_run()

    def has_run(self) -> None:
        """Note that this process has runs of its own: its children's reads are theirs."""
        if not self._own:
            self._own = os.environ[child_spool.VARIABLE] = child_spool.new_folder()
            self._is_made = False
            self._readers.append(child_spool.Reader(self._own))

    def before_child(self) -> None:
        """Make the folder; called before a process is started."""
        if self._own and not self._is_made:
            self._is_made = child_spool.make(self._own)

    @property
    def folder(self) -> str:
        """The folder that a child of this process reports to; empty if none is read."""
        return self._own or (self.writer.folder if self.writer else "")

    def begin(self, folder: str, owners: tuple[str, ...]) -> None:
        """Report to a parent process that gave its folder."""
        os.environ[child_spool.VARIABLE] = folder
        self.writer = child_spool.Writer(folder, owners)

    def forked(self, owners: tuple[str, ...]) -> None:
        """Report to the process that this one was forked from."""
        folder = self.folder
        self.writer = child_spool.Writer(folder, owners) if folder else None
        self._own, self._readers, self._is_rank_0 = "", [], False

    def start_code(self, owners: tuple[str, ...]) -> str | None:
        """Return the code with which a spawned child begins; None if it needs not report."""
        self.before_child()
        return _START.format(folder=self.folder, owners=owners) if self.folder else None

    def events(self, thread: int) -> Iterator[Event]:
        """Return what the children reported since the last call."""
        if self._is_made or self._is_rank_0:
            for reader in self._readers:
                yield from reader.events(thread)

    def captured_programs(self) -> int:
        """Return how many of the programs that were started capture too."""
        return sum(reader.programs() for reader in self._readers)

    def remove(self) -> None:
        """Remove what is on the disk; for the end of the process."""
        for reader in self._readers:
            reader.remove()


class _Start:
    """Unpickles as the running of its code, guarded; needs nothing importable on the other side."""

    def __init__(self, code: str) -> None:
        self._code = code

    def __reduce__(self) -> tuple[Any, ...]:
        return exec, (self._code, {})


def prepare_children(module: ModuleType) -> None:
    """Have each spawned child begin its capture before it loads the user's code.

    The function is private to multiprocessing, and what it returns is added to: it is the one that
    is wrapped.
    """
    original = module.get_preparation_data

    @functools.wraps(original)
    def get_preparation_data(*args: Any, **kwargs: Any) -> Any:
        data = original(*args, **kwargs)
        with contextlib.suppress(Exception):
            code = sink.current().child_start_code()
            if code:
                data["mlflow_pack_lineage"] = _Start(code)
        return data

    module.get_preparation_data = get_preparation_data  # type: ignore[attr-defined]
