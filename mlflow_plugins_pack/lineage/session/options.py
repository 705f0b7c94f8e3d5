"""The settings as the session reads them: a broken one never raises, and is reported once."""

from __future__ import annotations

import logging
from typing import TypeVar

from mlflow_plugins_pack.settings import Setting

_logger = logging.getLogger("mlflow_plugins_pack.lineage")
T = TypeVar("T")


class Options:
    """Reads settings, and remembers what is wrong with them until it can be said."""

    def __init__(self) -> None:
        self._complaints: list[str] = []
        self._reported: set[str] = set()

    def get(self, setting: Setting[T], broken: T | None = None) -> T:
        """Return a setting's value.

        Args:
            setting: Which one.
            broken: What an unreadable value counts as, if not as the default: the value that
                reveals least.
        """
        try:
            return setting.get()
        except Exception as exc:  # noqa: BLE001  # lineage never raises
            self.complain(str(exc))
            return setting.default if broken is None else broken

    def complain(self, message: str) -> None:
        """Remember a message for `report`."""
        if message not in self._complaints:
            self._complaints.append(message)

    def report(self) -> None:
        """Log each complaint, once."""
        for message in self._complaints:
            if message not in self._reported:
                self._reported.add(message)
                _logger.warning("Lineage: %s", message)
