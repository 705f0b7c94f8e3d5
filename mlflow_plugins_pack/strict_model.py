"""What every part of the policy file is made of: strict models, durations, principals; pure."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from mlflow_plugins_pack.settings import parse_duration


def _seconds(value: object) -> object:
    return parse_duration(value) if isinstance(value, str) else value


Seconds = Annotated[int, BeforeValidator(_seconds), Field(ge=1)]
Name = Annotated[str, Field(min_length=1, max_length=256)]


class Strict(BaseModel):
    """A part of the policy: unknown keys and values of another type are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
