"""The base of the models that people write: the policy, sign-in profiles, identity; pure."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from mlflow_plugins_pack.settings import parse_duration


def _seconds(value: object) -> object:
    return parse_duration(value) if isinstance(value, str) else value


Seconds = Annotated[
    int,
    BeforeValidator(_seconds),
    Field(ge=1),
    WithJsonSchema({"type": "string", "pattern": "^[0-9]+[smhd]$"}),
]
"""A duration such as ``15m``, as whole seconds."""
Name = Annotated[str, Field(min_length=1, max_length=256)]


class StrictModel(BaseModel):
    """An immutable model that refuses unknown keys and values of another type.

    Its errors do not show the value that they refuse: a misplaced secret would be one.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)
