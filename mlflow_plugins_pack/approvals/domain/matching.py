"""Compares names and matches them against a policy's patterns; pure.

Names compare folded: MySQL's collations take ``Prod``, ``pród`` and ``prod`` for one name, others
do not, and neither a second name for a protected row nor a look-alike may be free.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

# What databases' orders of letters pass over, wherever it stands.
_INVISIBLE = frozenset({"Cc", "Cf", "Mn", "Mc", "Me"})
# A letter's name says which plain one it is taken for: "LATIN SMALL LETTER INSULAR D".
_LATIN = re.compile(r"(?:LATIN|MODIFIER) .*?(?:LETTER|LIGATURE) (?:\w+ )*?([A-Z]{1,2})\b")
# Callers choose names: with 4096 entries the cache keeps at most 4 MiB of them.
_LONGEST_CACHED_NAME = 256
_NAMED_OTHERWISE = {"\u00f0": "d"}


def is_plain(name: str) -> bool:
    """Return whether a name has only letters that every database compares alike, case aside."""
    return name.isascii() and name.isprintable()


@lru_cache(maxsize=4096)
def _plainly(letter: str) -> str:
    """Return what a letter that Unicode does not decompose is taken for by some database."""
    if letter.isascii() and letter.isprintable():
        return letter
    if letter in _NAMED_OTHERWISE:
        return _NAMED_OTHERWISE[letter]
    called = unicodedata.name(letter, "")
    if (match := _LATIN.search(called)) is not None:
        return match[1].lower()
    if unicodedata.category(letter) in _INVISIBLE:
        return ""
    number = unicodedata.numeric(letter, -1)
    return str(int(number)) if number in range(10) else letter


def fold(name: str) -> str:
    """Return the form under which two names count as the same.

    Compatibility forms, case, accents, outer blanks and what cannot be seen make no difference, nor
    do letters and digits that some database takes for plain ones. Folding too much only protects a
    name more.
    """
    if is_plain(name):
        return name.lower().strip()
    plain = unicodedata.normalize("NFKC", name).casefold()
    parts = unicodedata.normalize("NFKD", plain)
    return "".join(map(_plainly, parts)).lower().strip()


@lru_cache(maxsize=4096)
def _pattern(glob: str) -> re.Pattern[str]:
    parts = {"**": ".*", "*": "[^/]*", "?": "[^/]"}
    tokens = re.split(r"(\*\*|\*|\?)", glob)
    return re.compile("".join(parts.get(token, re.escape(token)) for token in tokens), re.DOTALL)


def matches(glob: str, name: str) -> bool:
    """Return whether a name matches a pattern: ``*`` and ``?`` stop at a slash, ``**`` does not."""
    if len(name) > _LONGEST_CACHED_NAME:
        return matches_exactly(fold(glob), fold(name))
    return _matches_cached(glob, name)


@lru_cache(maxsize=4096)
def _matches_cached(glob: str, name: str) -> bool:
    return matches_exactly(fold(glob), fold(name))


def matches_exactly(glob: str, name: str) -> bool:
    """Return whether a name matches a pattern as it is written, case included."""
    return _pattern(glob).fullmatch(name) is not None
