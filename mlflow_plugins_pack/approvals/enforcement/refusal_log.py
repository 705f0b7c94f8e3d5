"""Writes refusals to the audit log, at a rate that no caller can raise."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable
from typing import Any

from mlflow.exceptions import MlflowException

from mlflow_plugins_pack.errors import ApprovalError, RegistryBusyError

_logger = logging.getLogger(__name__)

_REPEAT_SECONDS = 60.0
_MAX_REMEMBERED = 10_000
# The audit table's columns.
_MAX_NAME = 256
_MAX_TARGET = 210


class RefusalLog:
    """Writes refusals, each kind at most once a minute per process.

    Args:
        write: Appends an audit entry REFUSED with the columns given, in its own transaction.
    """

    def __init__(self, write: Callable[..., None]) -> None:
        self._write = write
        self._written: dict[tuple[Any, ...], float] = {}

    def record(
        self,
        refusal: ApprovalError,
        actor: str | None,
        workspace: str,
        name: str,
        version: object,
        target: str | None,
    ) -> None:
        """Write a refusal once, however many callers on its way up ask for it."""
        if refusal.is_recorded or isinstance(refusal, RegistryBusyError):
            return
        refusal.is_recorded = True
        about = {
            "workspace": workspace,
            "name": str(name)[:_MAX_NAME],
            "version": int(str(version)) if re.fullmatch(r"[0-9]{1,9}", str(version)) else None,
            "target": target[:_MAX_TARGET] if target else None,
        }
        key = (actor, refusal.code, *about.values())
        now = time.monotonic()
        if now - self._written.get(key, -_REPEAT_SECONDS) < _REPEAT_SECONDS:
            return
        if len(self._written) >= _MAX_REMEMBERED:
            self._written.clear()
        self._written[key] = now
        try:
            self._write(after={"code": refusal.code, **refusal.fields}, **about)
        except MlflowException:
            # The refusal stands; a failure to record it must not replace it.
            _logger.exception("A refusal is not in the audit log: %s", refusal.message)
