"""Types of options that more than one command takes."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import click

from mlflow_plugins_pack.settings import parse_duration


class _Duration(click.ParamType[int]):
    """A duration such as 24h, as seconds."""

    name = "duration"

    def convert(self, value: Any, param: Any, ctx: Any) -> int:
        """Return the duration in seconds."""
        try:
            return value if isinstance(value, int) else parse_duration(value)
        except ValueError as exc:
            self.fail(str(exc), param, ctx)


class _Moment(click.ParamType[int]):
    """A time in ISO 8601, as milliseconds since the epoch; UTC where it names no zone."""

    name = "time"

    def convert(self, value: Any, param: Any, ctx: Any) -> int:
        """Return the time in milliseconds."""
        try:
            found = datetime.fromisoformat(value.strip().replace("Z", "+00:00"))
        except ValueError:
            self.fail(f"{value!r} is not a time such as 2026-11-23T20:51Z", param, ctx)
        if found.tzinfo is None:
            found = found.replace(tzinfo=timezone.utc)
        return int(found.timestamp() * 1000)


DURATION = _Duration()
MOMENT = _Moment()
