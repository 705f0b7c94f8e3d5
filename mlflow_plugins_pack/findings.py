"""What a doctor's check found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Finding:
    """One result of a check.

    Attributes:
        level: ``ok``, ``warning`` or ``error``.
        subject: What was looked at, in a few words.
        message: What was found, and for a problem what to do about it.
    """

    level: Literal["ok", "warning", "error"]
    subject: str
    message: str
