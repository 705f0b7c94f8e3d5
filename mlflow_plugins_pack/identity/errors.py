"""Why a caller cannot be identified; no text contains a token."""

from __future__ import annotations


class TokenRefusedError(Exception):
    """A token was presented and is not valid; the text says why."""


class KeysUnavailableError(Exception):
    """An issuer's keys cannot be fetched, so its tokens cannot be verified."""
