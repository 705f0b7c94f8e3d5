"""Keeps secrets out of everything that a person or a log may see; pure."""

from __future__ import annotations

import re
from typing import Any, NoReturn

HIDDEN = "[hidden]"

_NAMED = re.compile(
    r"(?i)((?:authorization|bearer|basic|password|passwd|secret|token|api[-_]?key)"
    r"[\"']?\s*[:=]?\s*[\"']?)(?:(?:bearer|basic)\s+)?[^\s\"',;]+"
)
_LONG = re.compile(r"[A-Za-z0-9_\-./+=~%:]{16,}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]+")


class Secret:
    """A text that only `reveal` returns: no repr, traceback, log or pickle shows it."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """Return the text."""
        return self._text

    def __repr__(self) -> str:
        return HIDDEN

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not pickled: the other process reads its own")


class HeaderText(str):
    """The text of a secret as a header carries it: its repr and its pickle do not show it.

    Requests and responses keep their headers, and are printed and pickled with them.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return repr(HIDDEN)

    def __reduce__(self) -> tuple[type[str], tuple[str]]:
        return str, (HIDDEN,)

    def __copy__(self) -> HeaderText:
        return self

    def __deepcopy__(self, memo: Any) -> HeaderText:
        return self


def is_text(text: str) -> bool:
    """Return whether a text can be encoded; if not, the error of trying would hold it."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def redact(text: str, limit_characters: int = 300) -> str:
    """Return the output of a foreign program without what may be a secret.

    Hides whatever looks like a credential, long or announced by a word such as ``token``. When in
    doubt it hides: paths and URLs may be hidden too.
    """
    shown = _CONTROL.sub(" ", text)
    shown = _NAMED.sub(rf"\1{HIDDEN}", shown)
    shown = _LONG.sub(HIDDEN, shown).strip()
    return shown if len(shown) <= limit_characters else f"{shown[:limit_characters]}..."
