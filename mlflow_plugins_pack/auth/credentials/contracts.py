"""The two contracts of sign-in: a `SecretReader` gives one secret, a `Source` gives headers.

Both are asked for a *stamp* on every request, which must be cheap, and read only when the stamp
changed, the credential is about to end, or the server refused it.
"""

from __future__ import annotations

import importlib
import re
from dataclasses import dataclass, replace
from typing import Any, Protocol

from mlflow_plugins_pack.auth.credentials.claims import claims_of, who_is
from mlflow_plugins_pack.auth.credentials.lifetime import Credential
from mlflow_plugins_pack.auth.credentials.secret import Secret

_FORBIDDEN = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


class SourceError(Exception):
    """A secret is not available; the text says why and what to do, without the secret."""


class SourceDownError(SourceError):
    """The service that gives the secret does not answer now; it may in a moment.

    Attributes:
        retry_after_seconds: How long it asks not to be asked again; 0 if it does not say.
    """

    def __init__(self, text: str, retry_after_seconds: float = 0.0) -> None:
        super().__init__(text)
        self.retry_after_seconds = retry_after_seconds


@dataclass(frozen=True)
class SecretReading:
    """One secret as it was read.

    Attributes:
        secret: The secret, as it was found.
        lifetime_seconds: Seconds that it is valid; None if unknown.
    """

    secret: Secret
    lifetime_seconds: float | None = None


class SecretReader(Protocol):
    """A reader of one secret from its location."""

    def stamp(self) -> object:
        """Return a mark that changes when the secret may have changed; never raises."""

    def read(self) -> SecretReading:
        """Read the secret.

        Raises:
            SourceError: If it is missing, empty or unusable.
        """


class Source(Protocol):
    """A source of the headers that sign a request in."""

    def stamp(self) -> object:
        """Return a mark that changes when the credential may have changed; never raises."""

    def fetch(self) -> Credential:
        """Return the headers to send.

        Raises:
            SourceError: If a secret that they need is not available.
        """


def header_value(secret: Secret, scheme: str = "") -> Secret:
    """Make a header's value.

    Args:
        secret: The token; blanks and line ends around it are dropped.
        scheme: Word in front, such as ``Bearer``; none if empty.

    Returns:
        The value.

    Raises:
        SourceError: If it is empty, or holds what no header may.
    """
    text = secret.reveal().strip()
    if not text:
        raise SourceError("it is empty")
    if _FORBIDDEN.search(text):
        raise SourceError("it holds a line break or a control character, which no header may")
    try:
        text.encode("latin-1")
    except UnicodeEncodeError:
        bad = True
    else:
        bad = False
    if bad:  # raised outside the handler: the encoding error holds the text
        raise SourceError("it holds characters outside latin-1, which no header may")
    if scheme and text.lower().startswith(f"{scheme.lower()} "):
        raise SourceError(f'it already starts with the word {scheme}; set scheme = ""')
    return Secret(f"{scheme} {text}" if scheme else text)


class TokenSource:
    """One token in one header."""

    def __init__(self, header: str, scheme: str, place: SecretReader) -> None:
        self._header, self._scheme, self._place = header, scheme, place

    def stamp(self) -> object:
        """Return the place's stamp."""
        return self._place.stamp()

    def fetch(self) -> Credential:
        """Read the token."""
        reading = self._place.read()
        value = header_value(reading.secret, self._scheme)
        who = who_is(claims_of(reading.secret.reveal().strip()))
        return Credential(((self._header, value),), reading.lifetime_seconds, who=who)


def import_extra(module: str, extra: str) -> Any:
    """Import a package that only some profiles need.

    Raises:
        SourceError: If it is not installed; the text says how to.
    """
    try:
        return importlib.import_module(module)
    except ImportError:
        pass  # raised outside the handler: the text says all
    raise SourceError(
        f"the package {module.partition('.')[0]} is not installed; run: "
        f"pip install 'mlflow-plugins-pack[{extra}]'"
    )


class WithExtraHeaders:
    """A source with further headers in addition to its own."""

    def __init__(self, main: Source, extra: Source) -> None:
        self._main, self._extra = main, extra

    def stamp(self) -> object:
        """Return both stamps."""
        return self._main.stamp(), self._extra.stamp()

    def fetch(self) -> Credential:
        """Fetch both; the shorter life counts.

        The extra ones first: if one is missing, no token is created in vain.
        """
        extra, main = self._extra.fetch(), self._main.fetch()
        return replace(
            main,
            headers=main.headers + extra.headers,
            lifetime_seconds=shortest_life([main, extra]),
        )


def shortest_life(parts: list[Credential] | list[SecretReading]) -> float | None:
    """Return the shortest known life of the parts."""
    lives = [part.lifetime_seconds for part in parts if part.lifetime_seconds is not None]
    return min(lives, default=None)
