"""Targets: the aliases and stages that a policy protects; pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

STAGES = ("None", "Staging", "Production", "Archived")
PROTECTABLE_STAGES = ("Staging", "Production", "Archived")

Kind = Literal["alias", "stage"]


@dataclass(frozen=True)
class Target:
    """What a policy protects: an alias or a stage.

    Attributes:
        kind: ``alias`` or ``stage``.
        name: the name as the policy spells it.
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


ARCHIVED = Target("stage", "Archived")
"""The stage of versions that are out of use."""


def parse_target(text: str) -> Target:
    """Read ``prod``, ``alias:prod`` or ``stage:Production``.

    Raises:
        ValueError: If the text is not a target.
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
    """Return names of stages, checked to be stages that a version can hold.

    Raises:
        ValueError: If one is not.
    """
    for stage in names:
        if stage not in PROTECTABLE_STAGES:
            raise ValueError(f"{stage!r} is not one of {', '.join(PROTECTABLE_STAGES)}")
    return names
