"""Tokens of Microsoft and Google, by their own libraries, which find the credentials."""

from __future__ import annotations

import time
from typing import Any

from mlflow_plugins_pack.auth.credentials.claims import life_of
from mlflow_plugins_pack.auth.credentials.contracts import SecretReading, SourceError, import_extra
from mlflow_plugins_pack.auth.credentials.secret import Secret, redact
from mlflow_plugins_pack.auth.sources.bounded import bounded


class AzureReader:
    """An access token of Microsoft Entra ID."""

    def __init__(self, scope: str, client_id: str | None, timeout_seconds: float) -> None:
        self._scope, self._client_id = scope, client_id
        self._timeout_seconds = timeout_seconds
        self._credential: Any = None

    def stamp(self) -> object:
        """Return a constant: the token's end makes it asked for again."""
        return None

    def read(self) -> SecretReading:
        """Ask azure-identity's default chain: variables, workload or managed identity, CLI."""
        identity = import_extra("azure.identity", "azure-identity")
        problem = ""

        def ask() -> Any:
            if self._credential is None:
                settings = (
                    {"managed_identity_client_id": self._client_id} if self._client_id else {}
                )
                self._credential = identity.DefaultAzureCredential(**settings)
            return self._credential.get_token(self._scope)

        try:
            token = bounded(self._timeout_seconds, "azure-identity", ask)
            return SecretReading(Secret(token.token), max(0.0, token.expires_on - time.time()))
        except SourceError:
            raise
        except Exception as exc:  # noqa: BLE001 - of the library and of all it tries
            problem = _first_line(exc)
        raise SourceError(f"azure-identity gave no token: {problem}")


class GoogleReader:
    """An ID token of Google for one audience, such as Identity-Aware Proxy's client ID.

    The audience comes from the profile alone: a server that chose it could have tokens made out
    to another service.
    """

    def __init__(self, audience: str, credentials_file: str | None, timeout_seconds: float) -> None:
        self._audience, self._file = audience, credentials_file
        self._timeout_seconds = timeout_seconds

    def stamp(self) -> object:
        """Return a constant: the token's end makes it asked for again."""
        return None

    def read(self) -> SecretReading:
        """Ask google-auth: a service account's key, or the metadata server."""
        transport = import_extra("google.auth.transport.requests", "google")
        problem = ""
        try:
            token = bounded(
                self._timeout_seconds, "google-auth", lambda: self._token(transport.Request())
            )
            return SecretReading(Secret(token), life_of(token))
        except SourceError:
            raise
        except Exception as exc:  # noqa: BLE001 - of the library and of all it tries
            problem = _first_line(exc)
        raise SourceError(f"google-auth gave no ID token: {problem}")

    def _token(self, request: Any) -> str:
        if self._file is None:
            id_token = import_extra("google.oauth2.id_token", "google")
            return str(id_token.fetch_id_token(request, self._audience))
        accounts = import_extra("google.oauth2.service_account", "google")
        credentials = accounts.IDTokenCredentials.from_service_account_file(
            self._file, target_audience=self._audience
        )
        credentials.refresh(request)
        return str(credentials.token)


def _first_line(exc: Exception) -> str:
    text = str(exc).strip() or type(exc).__name__
    return redact(text.splitlines()[0])
