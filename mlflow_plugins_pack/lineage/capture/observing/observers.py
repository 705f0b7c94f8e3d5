"""The functions that observe a call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Arguments = Mapping[str, Any]
"""The arguments of a call by the names of the parameters."""
AtStart = Callable[[Arguments], Any]
"""Called before the function's own code; returns what is to be known at the end, or None."""
AtEnd = Callable[[Any], None]
"""Called with what `AtStart` returned when the function has returned."""
