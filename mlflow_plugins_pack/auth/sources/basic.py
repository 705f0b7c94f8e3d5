"""User name and password as HTTP Basic (RFC 7617, UTF-8, as stock MLflow encodes them)."""

from __future__ import annotations

import base64

from mlflow_plugins_pack.auth.credentials.contracts import SecretReader, SourceError
from mlflow_plugins_pack.auth.credentials.lifetime import Credential
from mlflow_plugins_pack.auth.credentials.secret import Secret, is_text


class BasicSource:
    """A user name with a password from a place."""

    def __init__(self, username: str, password: SecretReader) -> None:
        self._username, self._password = username, password

    def stamp(self) -> object:
        """Return the password's stamp."""
        return self._password.stamp()

    def fetch(self) -> Credential:
        """Read the password; only the line end after it is dropped, blanks may belong to it."""
        reading = self._password.read()
        password = Secret(reading.secret.reveal().rstrip("\r\n"))
        if any(ord(character) < 32 or ord(character) == 127 for character in password.reveal()):
            raise SourceError("the password holds a line break or a control character")
        if not is_text(password.reveal()):
            raise SourceError("the password holds half of a character, which cannot be sent")
        pair = f"{self._username}:{password.reveal()}".encode()
        value = Secret("Basic " + base64.b64encode(pair).decode("ascii"))
        return Credential((("Authorization", value),), reading.lifetime_seconds, who=self._username)
