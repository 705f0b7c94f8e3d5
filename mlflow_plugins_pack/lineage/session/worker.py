"""The background thread of a process with runs: it sorts, hashes and writes interim records.

It is started when MLflow asks for a run's tags, never from inside the audit hook, and not in a
forked child before that has a run of its own.
"""

from __future__ import annotations

import contextlib
import threading
import time

from mlflow_plugins_pack import settings
from mlflow_plugins_pack.lineage.attribution.ownership import Ownership
from mlflow_plugins_pack.lineage.session.options import Options
from mlflow_plugins_pack.lineage.session.records import Records

_SECONDS = 1.0


class Worker:
    """A thread that works ahead of the ends of runs.

    Args:
        records: What it works on.
        ownership: What mutes its thread.
        options: The settings.
    """

    def __init__(self, records: Records, ownership: Ownership, options: Options) -> None:
        self._records = records
        self._ownership = ownership
        self._options = options
        self.forked()

    def forked(self) -> None:
        """Forget the thread in a forked child, where it does not run."""
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread, unless it runs."""
        if self._thread is None:
            with self._lock:
                if self._thread is not None:
                    return
                self._thread = threading.Thread(
                    target=self._run, name="mlflow-pack-lineage-worker", daemon=True
                )
            with contextlib.suppress(RuntimeError):
                self._thread.start()

    def _run(self) -> None:
        with self._ownership.muted():
            last_interim = time.monotonic()
            with contextlib.suppress(Exception):
                self._records.prepare()
            while True:
                time.sleep(_SECONDS)
                with contextlib.suppress(Exception):
                    self._records.work_ahead()
                    period = self._options.get(settings.LINEAGE_FLUSH_SECONDS)
                    if period and time.monotonic() - last_interim >= period:
                        last_interim = time.monotonic()
                        self._records.write_interim()
