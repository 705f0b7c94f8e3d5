"""A time limit for libraries that have none, or one for each of the many ways that they try."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from mlflow_plugins_pack.auth.credentials.contracts import SourceDownError

T = TypeVar("T")


def bounded(seconds: float, library: str, call: Callable[[], T]) -> T:
    """Return the result of a library's call; give it up when its time is over.

    Args:
        seconds: The limit. The call's thread, and a program that it runs, end by themselves.
        library: Its name, for the message.
        call: The call.

    Raises:
        SourceDownError: If it has not returned in time.
        Exception: Whatever the call raises.
    """
    from mlflow_plugins_pack.http_deadline import within

    try:
        return within(seconds, call)
    except TimeoutError:
        pass  # raised outside the handler: the text says all
    raise SourceDownError(f"{library} gave no answer within {seconds:g} s")
