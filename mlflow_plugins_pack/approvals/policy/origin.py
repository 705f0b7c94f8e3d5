"""Promotion in steps: which alias or stage a version must hold before the next one; pure."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import field_validator, model_validator

from mlflow_plugins_pack.approvals.domain.targets import check_stages
from mlflow_plugins_pack.strict_model import Name, StrictModel


class Origin(StrictModel):
    """The policy's key ``from``: a version must hold one of these before it may hold the target."""

    stages: list[str] = []
    aliases: list[Name] = []

    @field_validator("stages")
    @classmethod
    def _stages(cls, value: list[str]) -> list[str]:
        return check_stages(value)

    @model_validator(mode="after")
    def _names_one(self) -> Origin:
        if not self.stages and not self.aliases:
            raise ValueError("name at least one alias or stage")
        return self

    def and_also(self, other: Origin | None) -> Origin:
        """Return what satisfies another policy's key, too; perhaps nothing does."""
        if other is None:
            return self
        # Unchecked: a policy file must name one, which two need not have in common.
        return Origin.model_construct(
            stages=[stage for stage in self.stages if stage in other.stages],
            aliases=[alias for alias in self.aliases if alias in other.aliases],
        )

    def problems(self, held: Iterable[tuple[str, str]]) -> list[str]:
        """Return what the version lacks.

        Args:
            held: The kind and name of each target that the version holds now.
        """
        wanted = [("stage", stage) for stage in self.stages]
        wanted += [("alias", alias) for alias in self.aliases]
        holds = list(held)
        for kind, name in wanted:
            if (kind, name) in holds:
                return []
        listed = " or ".join(f"{kind} '{name}'" for kind, name in wanted) or "what two policies ask"
        return [f"the version to be {listed} first, and it is not"]
