"""Compares names and matches them against a policy's patterns; pure.

Names compare folded: MySQL's collations take ``Prod``, ``pród`` and ``prod`` for one name, others
do not, and neither a second name for a protected row nor a look-alike may be free.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

# What databases' orders of letters pass over, wherever it stands.
_INVISIBLE = frozenset({"Cc", "Cf", "Mn", "Mc", "Me"})
# A letter's name says which plain one it is taken for: "LATIN SMALL LETTER INSULAR D".
_LATIN = re.compile(r"(?:LATIN|MODIFIER) .*?(?:LETTER|LIGATURE) (?:\w+ )*?([A-Z]{1,2})\b")
LONGEST_NAME = 4096
"""Longest text that is compared; a model's name and a tag's key are much shorter."""
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
    name more; so does leaving out what comes after the first `LONGEST_NAME` characters.
    """
    name = name[:LONGEST_NAME]
    if is_plain(name):
        return name.lower().strip()
    plain = unicodedata.normalize("NFKC", name).casefold()
    parts = unicodedata.normalize("NFKD", plain)
    return "".join(map(_plainly, parts)).lower().strip()


@dataclass(frozen=True)
class _Automaton:
    """A pattern as bit masks over its positions, so that matching takes linear time.

    Bit i of a state is set if the first i single characters of the pattern have been matched
    (Baeza-Yates and Gonnet 1992, with a loop for each star).

    Attributes:
        literals: for each character, the positions that it takes a step from.
        not_slash: the positions of ``?``, which any character but a slash takes a step from.
        within: the positions with a ``*``, which stays for any character but a slash.
        across: the positions with a ``**``, which stays for any character.
        end: the last position.
    """

    literals: Mapping[str, int]
    not_slash: int
    within: int
    across: int
    end: int

    def matches(self, name: str) -> bool:
        """Return whether the whole name matches."""
        state, literal = 1, self.literals.get
        steps, stays = self.not_slash, self.within | self.across
        for letter in name:
            if letter == "/":
                state = (state & literal(letter, 0)) << 1 | (state & self.across)
            else:
                state = (state & (literal(letter, 0) | steps)) << 1 | (state & stays)
            if not state:
                return False
        return bool(state & self.end)


@lru_cache(maxsize=1024)
def _automaton(glob: str) -> _Automaton:
    literals: dict[str, int] = {}
    not_slash = within = across = 0
    position = 1
    for part in re.findall(r"\*\*|.", glob, re.DOTALL):
        if part == "**":
            across |= position
        elif part == "*":
            within |= position
        else:
            if part == "?":
                not_slash |= position
            else:
                literals[part] = literals.get(part, 0) | position
            position <<= 1
    return _Automaton(literals, not_slash, within, across, position)


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
    literal = glob.strip("*")
    if "*" not in literal and "?" not in literal:
        # The two usual shapes, by the interpreter's own search.
        if glob == f"**{literal}**":
            return literal in name
        if glob == f"{literal}**":
            return name.startswith(literal)
    return _automaton(glob).matches(name)
