"""Targets, patterns and fingerprints of names; pure.

Names compare folded: MySQL's collations take ``Prod``, ``pród`` and ``prod`` for one name, others
do not, and neither a second name for a protected row nor a look-alike beside it may be free.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

PROJECTION_PREFIX = "mlflow_approvals."
DIGEST_SUFFIX = ".digest"
"""Ends the projection tag that holds the digest with which a target was approved."""
COMMAND_PREFIX = "approvals."
COMMANDS = (
    "request",
    "approve",
    "withdraw",
    "reject",
    "cancel",
    "comment",
    "comment.edit",
    "comment.delete",
    "break_glass",
    "break_glass.demote",
)
STAGES = ("None", "Staging", "Production", "Archived")
PROTECTABLE_STAGES = ("Staging", "Production", "Archived")

PROMPT_FLAG_TAG = "mlflow.prompt.is_prompt"
# What MLflow writes as a prompt's source, which must not be empty and leads nowhere.
PROMPT_SOURCES = frozenset({"dummy-source", "prompt-template"})
PROMPT_CONTENT_PREFIXES = ("mlflow.prompt.", "_mlflow_prompt_")
# MLflow itself appends to this one whenever a run uses the prompt; it is no content.
PROMPT_BOOKKEEPING_TAGS = frozenset({"mlflow.prompt.associatedRunIds"})

Kind = Literal["alias", "stage"]


# What databases' orders of letters pass over, wherever it stands.
_INVISIBLE = frozenset({"Cc", "Cf", "Mn", "Mc", "Me"})
# A letter's name says which plain one it is taken for: "LATIN SMALL LETTER INSULAR D".
_LATIN = re.compile(r"(?:LATIN|MODIFIER) .*?(?:LETTER|LIGATURE) (?:\w+ )*?([A-Z]{1,2})\b")
_NAMED_OTHERWISE = {"\u00f0": "d"}


def is_plain(name: str) -> bool:
    """Tell whether a name is of letters that every database compares alike, case aside."""
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


@dataclass(frozen=True)
class Target:
    """What a policy protects: an alias or a stage.

    Attributes:
        kind: ``alias`` or ``stage``.
        name: As the policy spells it.
    """

    kind: Kind
    name: str

    @property
    def key(self) -> str:
        """The form kept in the database, such as ``alias:prod``."""
        return f"{self.kind}:{self.name}"

    @property
    def tag(self) -> str:
        """The form people type and the projection tag ends with: ``prod``, ``stage:Production``."""
        return self.name if self.kind == "alias" else self.key

    def __str__(self) -> str:
        return f"{self.kind} '{self.name}'"


def parse_target(text: str) -> Target:
    """Read ``prod``, ``alias:prod`` or ``stage:Production``.

    Raises:
        ValueError: If the text is none of them.
    """
    kind, colon, name = text.strip().partition(":")
    if not colon:
        kind, name = "alias", kind
    name = name.strip()
    if kind == "alias" and re.fullmatch(r"[\w\-]+", name):
        return Target("alias", name)
    if kind == "stage":
        for stage in STAGES:
            if stage.casefold() == name.casefold():
                return Target("stage", stage)
    raise ValueError(f"{text.strip()!r} is neither an alias nor stage:<stage>")


def check_stages(names: list[str]) -> list[str]:
    """Return names of stages that a version can be said to hold.

    Raises:
        ValueError: If one is none.
    """
    for stage in names:
        if stage not in PROTECTABLE_STAGES:
            raise ValueError(f"{stage!r} is not one of {', '.join(PROTECTABLE_STAGES)}")
    return names


def parse_command(text: str) -> tuple[Target, str]:
    """Split the value of a command tag, ``TARGET: text``, into the target and the text.

    Raises:
        ValueError: If the target is missing or malformed.
    """
    head, _, rest = text.partition(":")
    if head.strip() in ("alias", "stage"):
        name, _, rest = rest.partition(":")
        head = f"{head.strip()}:{name}"
    return parse_target(head), rest.strip()


@lru_cache(maxsize=4096)
def _pattern(glob: str) -> re.Pattern[str]:
    parts = {"**": ".*", "*": "[^/]*", "?": "[^/]"}
    tokens = re.split(r"(\*\*|\*|\?)", glob)
    return re.compile("".join(parts.get(token, re.escape(token)) for token in tokens), re.DOTALL)


@lru_cache(maxsize=4096)
def matches(glob: str, name: str) -> bool:
    """Tell whether a name matches a pattern: ``*`` and ``?`` stop at a slash, ``**`` does not."""
    return matches_exactly(fold(glob), fold(name))


def matches_exactly(glob: str, name: str) -> bool:
    """Tell whether a name matches a pattern as it is written, case included."""
    return _pattern(glob).fullmatch(name) is not None


def version_uid(
    workspace: str,
    name: str,
    version: int,
    creation_time: int | None,
    source: str | None,
    storage_location: str | None,
    run_id: str | None,
) -> str:
    """Return the identity of one registered version.

    Version numbers restart at 1 when a model is deleted and created again; this never repeats.
    """
    fields = [workspace, name, version, creation_time, source, storage_location, run_id]
    text = json.dumps(fields, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def open_key(workspace: str, uid: str, target: Target, *, review: bool = False) -> str:
    """Return the value that is unique among open requests; reviews are open beside the others."""
    fields = [workspace, uid, target.key] + ["review"] * review
    text = json.dumps(fields, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def command_of(tag_key: str) -> str | None:
    """Return the command a tag's key stands for, or None."""
    folded = fold(tag_key)
    if folded.startswith(COMMAND_PREFIX) and folded[len(COMMAND_PREFIX) :] in COMMANDS:
        return folded[len(COMMAND_PREFIX) :]
    return None


def is_reserved_tag(tag_key: str) -> bool:
    """Tell whether a tag's key belongs to this plugin."""
    return fold(tag_key).startswith(PROJECTION_PREFIX) or command_of(tag_key) is not None


def is_prompt_content(tag_key: str) -> bool:
    """Tell whether a version tag is part of what loading a prompt returns."""
    folded = fold(tag_key)
    return folded.startswith(PROMPT_CONTENT_PREFIXES) and tag_key not in PROMPT_BOOKKEEPING_TAGS
