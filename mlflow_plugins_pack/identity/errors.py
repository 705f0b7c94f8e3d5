"""Why a caller is not known; neither text ever holds a token."""

from __future__ import annotations


class TokenRefusedError(Exception):
    """A token was presented and does not hold; the text says why."""


class KeysUnavailableError(Exception):
    """An issuer's keys cannot be had, so nothing of it can be verified."""
