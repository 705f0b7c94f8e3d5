"""What a check of a store's data has found good so far, so that a killed one can go on."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable
from io import TextIOWrapper
from pathlib import Path

from mlflow_plugins_pack.artifacts.store.index_cache import cache_folder

_logger = logging.getLogger(__name__)


class CheckJournal:
    """A file of this host's cache with one name of good content a line; it ends with the check.

    Only what is good is in it: what is not is read, and told, again. Without a place to write it,
    the check works and cannot go on later.

    Args:
        store_id: Which store is checked.
        resume: Go on with what an earlier check left, if it left anything.
    """

    def __init__(self, store_id: str, *, resume: bool) -> None:
        self._path = cache_folder() / f"artifact-check-{store_id}"
        self._known: frozenset[str] = _lines(self._path) if resume else frozenset()
        self._file: TextIOWrapper | None = None
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._file = self._path.open("a" if resume else "w", encoding="ascii")
        except OSError as exc:
            _logger.debug("A check that is interrupted cannot go on later: %s", exc)

    def __contains__(self, name: str) -> bool:
        return name in self._known

    def add(self, names: Iterable[str]) -> None:
        """Note what is good."""
        if self._file is None:
            return
        try:
            self._file.writelines(f"{name}\n" for name in names)
            self._file.flush()
        except OSError as exc:
            _logger.debug("A check that is interrupted cannot go on from here: %s", exc)

    def close(self, *, is_done: bool) -> None:
        """End it; what a check that is done found is of no use to the next one."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
        if is_done:
            with contextlib.suppress(OSError):
                self._path.unlink()


def _lines(path: Path) -> frozenset[str]:
    try:
        text = path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError):
        return frozenset()
    # The last line may have been cut off; then it is the name of nothing.
    return frozenset(text.split("\n")[:-1])
