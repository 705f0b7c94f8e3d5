"""The ID token that a CI service gives a job: by a request (GitHub) or in a variable (GitLab)."""

from __future__ import annotations

import os
from urllib.parse import quote

from mlflow_plugins_pack.auth.credentials.claims import life_of
from mlflow_plugins_pack.auth.credentials.contracts import (
    SecretReading,
    SourceError,
    header_value,
)
from mlflow_plugins_pack.auth.credentials.secret import Secret
from mlflow_plugins_pack.auth.oidc.transport import Transport
from mlflow_plugins_pack.web_urls import check_secure_url

_URL = "ACTIONS_ID_TOKEN_REQUEST_URL"
_TOKEN = "ACTIONS_ID_TOKEN_REQUEST_TOKEN"


class GithubActionsReader:
    """The ID token of a GitHub Actions job, for one audience."""

    def __init__(self, audience: str, transport: Transport) -> None:
        self._audience, self._transport = audience, transport

    def stamp(self) -> object:
        """Return a constant: the token's own end makes it asked for again."""
        return None

    def read(self) -> SecretReading:
        """Ask the service that the runner names."""
        url, token = os.environ.get(_URL, ""), os.environ.get(_TOKEN, "")
        if not url or not token:
            raise SourceError(
                f"{_URL} is not set: this is not a GitHub Actions job, or it lacks "
                f"`permissions: id-token: write`"
            )
        try:
            check_secure_url(url, may_have_query=True)
        except ValueError as exc:
            problem = str(exc)
        else:
            separator = "&" if "?" in url else "?"
            document = self._transport.get(
                f"{url}{separator}audience={quote(self._audience, safe='')}",
                {"Authorization": header_value(Secret(token), "Bearer").reveal()},
            )
            value = document.get("value")
            if isinstance(value, str) and value:
                return SecretReading(Secret(value), life_of(value))
            problem = "its answer holds no token"
        raise SourceError(f"{_URL}: {problem}")


class GitlabReader:
    """The ID token of a GitLab job: the variable that ``id_tokens`` in its file names."""

    def __init__(self, variable: str) -> None:
        self._variable = variable

    def stamp(self) -> object:
        """Return the value, hidden."""
        return Secret(os.environ.get(self._variable, ""))

    def read(self) -> SecretReading:
        """Read the variable."""
        token = os.environ.get(self._variable, "")
        if not token:
            raise SourceError(
                f"the variable {self._variable} is not set: this is not a GitLab job, or its "
                f"`id_tokens` does not name it"
            )
        return SecretReading(Secret(token), life_of(token))
