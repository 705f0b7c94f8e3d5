"""Freeze windows: times at which no promotion is made; pure, the clock is an argument."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo

from pydantic import field_validator

from mlflow_plugins_pack.strict_model import StrictModel

_MINUTE = timedelta(minutes=1)
_LONGEST = timedelta(days=31)


class Freeze(StrictModel):
    """A window that is closed in each minute a cron expression matches.

    Attributes:
        cron: Minute, hour, day, month, weekday; ``* * * * FRI`` is all of Friday.
        tz: IANA name of the time zone whose local time counts.
    """

    cron: str
    tz: str = "UTC"

    @field_validator("cron")
    @classmethod
    def _cron(cls, value: str) -> str:
        from cronsim import CronSimError

        if len(value.split()) != 5:
            raise ValueError("a cron expression has five fields: minute hour day month weekday")
        try:
            next(_matches(value, datetime(2000, 1, 1)), None)  # noqa: DTZ001 - only parsed
        except CronSimError as exc:
            raise ValueError(f"{value!r} is not a cron expression: {exc}") from exc
        return value

    @field_validator("tz")
    @classmethod
    def _tz(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (OSError, ValueError, KeyError) as exc:
            raise ValueError(
                f"{value!r} is not a time zone; expected a name such as Europe/Berlin"
            ) from exc
        return value

    def is_closed(self, now_ms: int) -> bool:
        """Return whether the window is closed at a moment, in milliseconds since the epoch."""
        wall = self._wall(now_ms)
        return next(_matches(self.cron, wall), None) == wall

    def reopens(self, now_ms: int) -> int | None:
        """Return when the window that is closed now opens again; None: not within a month."""
        wall = self._wall(now_ms)
        end = wall
        for minute in _matches(self.cron, wall):
            if minute != end:
                break
            end += _MINUTE
            if end - wall > _LONGEST:
                return None
        local = end.replace(tzinfo=ZoneInfo(self.tz))
        return int(local.timestamp() * 1000)

    def _wall(self, now_ms: int) -> datetime:
        """Return the local time, to the minute."""
        now = datetime.fromtimestamp(now_ms // 1000, timezone.utc).astimezone(ZoneInfo(self.tz))
        return now.replace(second=0, microsecond=0, tzinfo=None)


def _matches(cron: str, start: datetime) -> Iterator[datetime]:
    """Yield the minutes that match, from a start on; without zone, so no hour is special."""
    from cronsim import CronSim

    return iter(CronSim(cron, start - _MINUTE))


def closed(windows: Iterable[Freeze], now_ms: int) -> Freeze | None:
    """Return the first window that is closed now."""
    return next((window for window in windows if window.is_closed(now_ms)), None)
