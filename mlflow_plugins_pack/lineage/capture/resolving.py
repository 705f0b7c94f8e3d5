"""What an event was, where that shows only after it: done by the worker, not by the caller."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from mlflow_plugins_pack.lineage.capture.event import (
    DATABASE,
    EITHER,
    READ,
    STATEMENT,
    WRITE,
    Event,
)
from mlflow_plugins_pack.lineage.files import file_state, is_same_content


def is_unknown(event: Event) -> bool:
    """Return whether an event names an object of S3 of which nothing else is known."""
    return event.via == "wrap" and event.version is None and event.where.startswith("s3://")


def resolved(
    event: Event, is_excluded: Callable[[str], bool], *, looks: bool = True
) -> Iterator[Event]:
    """Return the reads, writes and moves that an event stands for.

    Args:
        event: As it was emitted.
        is_excluded: Tells whether a URI is not to be recorded; asked where it shows only now.
        looks: Look at the file, or ask the store for the object; else a file that existed counts
            as read.
    """
    if event.kind == EITHER:
        # Who opens a file to write it cuts it first.
        is_read = event.state is not None and (
            not looks or is_same_content(event.state, file_state(event.where))
        )
        yield event._replace(kind=READ if is_read else WRITE)
    elif event.kind == DATABASE:
        # One that was not there is made by this process; one that was, is read.
        yield event._replace(kind=READ if event.state is not None else WRITE)
    elif event.kind == STATEMENT:
        from mlflow_plugins_pack.lineage.capture.libraries.sql_statements import events_of

        yield from (e for e in events_of(event) if not is_excluded(e.where))
    elif looks and is_unknown(event):
        from mlflow_plugins_pack.lineage.capture import s3_objects

        yield from (e for e in s3_objects.resolved(event) if not is_excluded(e.where))
    else:
        yield event
