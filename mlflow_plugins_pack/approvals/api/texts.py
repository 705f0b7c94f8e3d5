"""The texts that endpoints take: names, targets, comments."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from mlflow_plugins_pack.approvals.commands.runner import MAX_COMMENT_LENGTH

_WITHOUT_NUL = r"^[^\x00]*$"  # not every database can hold the character NUL

Name = Annotated[str, Field(min_length=1, max_length=256, pattern=_WITHOUT_NUL)]
TargetText = Annotated[str, Field(min_length=1, max_length=210, pattern=_WITHOUT_NUL)]
Comment = Annotated[str, Field(max_length=MAX_COMMENT_LENGTH, pattern=_WITHOUT_NUL)]
Text = Annotated[str, Field(min_length=1, max_length=MAX_COMMENT_LENGTH, pattern=_WITHOUT_NUL)]
