"""A secret in an environment variable, read again whenever it changes."""

from __future__ import annotations

import os

from mlflow_plugins_pack.auth.credentials.contracts import SecretReading, SourceError
from mlflow_plugins_pack.auth.credentials.secret import Secret, is_text


class EnvReader:
    """An environment variable."""

    def __init__(self, name: str) -> None:
        self._name = name

    def stamp(self) -> object:
        """Return the value, hidden; a notebook may set it again at any time."""
        return Secret(os.environ.get(self._name, ""))

    def read(self) -> SecretReading:
        """Read the variable."""
        text = os.environ.get(self._name)
        if text is None:
            raise SourceError(f"the environment variable {self._name} is not set; set it")
        if not text.strip():
            raise SourceError(f"the environment variable {self._name} is empty; set it")
        if not is_text(text):
            raise SourceError(f"the environment variable {self._name} is not UTF-8 text")
        return SecretReading(Secret(text))
