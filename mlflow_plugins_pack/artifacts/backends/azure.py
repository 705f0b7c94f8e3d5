"""Objects in an Azure Blob container, reached as stock MLflow reaches it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar

from azure.core.exceptions import (
    AzureError,
    ClientAuthenticationError,
    HttpResponseError,
    ResourceExistsError,
    ResourceNotFoundError,
)
from azure.storage.blob import BlobPrefix, BlobServiceClient, ContainerClient, ExponentialRetry
from mlflow.environment_variables import MLFLOW_ARTIFACT_UPLOAD_DOWNLOAD_TIMEOUT
from mlflow.utils.credentials import get_default_host_creds

from mlflow_plugins_pack.artifacts.backends.base import (
    Backend,
    Buffer,
    ObjectMissingError,
    Stored,
)
from mlflow_plugins_pack.artifacts.uri.location import Location
from mlflow_plugins_pack.artifacts.uri.schemes import split_azure_container
from mlflow_plugins_pack.errors import (
    ConfigurationError,
    StorageCredentialsError,
    StorageDeniedError,
    StorageError,
    StorageMissingError,
    StorageUnavailableError,
)

_DEFAULT_TIMEOUT_SECONDS = 600
_RETRIES = 6
_BACKOFF_SECONDS = 1
_LONGEST_WAIT_SECONDS = 60
_CONNECT_SECONDS = 20
_STALL_SECONDS = 60
"""So long a transfer may make no progress."""
_FOLDER_MARK = "hdi_isfolder"
"""Metadata of what stands for a folder where the account has a hierarchical namespace."""
_DENIED = (
    StorageDeniedError,
    "the credentials do not allow it or are wrong; check AZURE_*",
)
_UNKNOWN = (StorageCredentialsError, "Azure does not accept these credentials; check AZURE_*")
_ERRORS: dict[str, tuple[type[StorageError], str]] = {
    "ContainerNotFound": (StorageMissingError, "there is no such container; create it first"),
    "ContainerBeingDeleted": (StorageMissingError, "the container is being deleted"),
    "AuthenticationFailed": _UNKNOWN,
    "InvalidAuthenticationInfo": _UNKNOWN,
    "NoAuthenticationInformation": _UNKNOWN,
    "AuthorizationFailure": _DENIED,
    "AuthorizationPermissionMismatch": _DENIED,
    "InsufficientAccountPermissions": _DENIED,
    "AccountIsDisabled": _DENIED,
    "PublicAccessNotPermitted": _DENIED,
}
_OTHERWISE = (StorageUnavailableError, "check the account and the network, and try again")


class _Patience(ExponentialRetry):
    """Tries again soon, then later and later, and no sooner than Azure asks for.

    The library's own waits 15 s for the first time and does not look at Retry-After.
    """

    def __init__(self) -> None:
        super().__init__(_BACKOFF_SECONDS, 2, _RETRIES, random_jitter_range=_BACKOFF_SECONDS)

    def increment(
        self, settings: dict[str, Any], request: Any, response: Any = None, error: Any = None
    ) -> bool:
        """Note how long Azure asks to wait; tell whether to try again."""
        asked = response.headers.get("Retry-After", "") if response is not None else ""
        settings["asked_seconds"] = int(asked) if asked.isdecimal() else 0
        return bool(super().increment(settings, request, response, error))

    def get_backoff_time(self, settings: dict[str, Any]) -> float:
        """Return how long to wait, in seconds."""
        asked: float = min(settings.get("asked_seconds", 0), _LONGEST_WAIT_SECONDS)
        return max(float(super().get_backoff_time(settings)), asked)


class AzureBackend(Backend):
    """One container."""

    keeps_folders: ClassVar[bool] = False
    refuses_conflicts: ClassVar[bool] = False

    def __init__(self, client: ContainerClient, timeout_seconds: int) -> None:
        self._client = client
        self._timeout = timeout_seconds

    def read(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        try:
            stream = self._client.download_blob(
                key, offset=start, length=length, timeout=self._timeout
            )
            return stream.readall()
        except ResourceNotFoundError as exc:
            if _code_of(exc) in _ERRORS:
                raise self._translate(exc, key, "read") from exc
            raise ObjectMissingError(
                f"There is no blob {key!r} in {self._client.container_name!r}."
            ) from exc
        except HttpResponseError as exc:
            if exc.status_code == 416:
                return b""
            raise self._translate(exc, key, "read") from exc
        except AzureError as exc:
            raise self._translate(exc, key, "read") from exc

    def write(self, key: str, data: Buffer) -> None:
        try:
            self._client.upload_blob(key, _body(data), overwrite=True, timeout=self._timeout)
        except AzureError as exc:
            raise self._translate(exc, key, "write") from exc

    def write_if_absent(self, key: str, data: Buffer) -> bool:
        try:
            self._client.upload_blob(key, _body(data), overwrite=False, timeout=self._timeout)
        except ResourceExistsError:
            return False
        except AzureError as exc:
            raise self._translate(exc, key, "write") from exc
        return True

    def creates_exclusively(self, folder: str) -> bool:
        return True

    def list(self, prefix: str) -> Iterator[Stored]:
        try:
            for blob in self._client.list_blobs(
                name_starts_with=prefix or None, include=["metadata"], timeout=self._timeout
            ):
                if (blob.metadata or {}).get(_FOLDER_MARK) == "true":
                    continue
                yield Stored(blob.name, int(blob.size), blob.last_modified.timestamp())
        except AzureError as exc:
            raise self._translate(exc, prefix, "list") from exc

    def folders(self, prefix: str) -> Iterator[str]:
        try:
            for found in self._client.walk_blobs(
                name_starts_with=prefix or None, delimiter="/", timeout=self._timeout
            ):
                if isinstance(found, BlobPrefix):
                    yield str(found.name)[len(prefix) :].rstrip("/")
        except AzureError as exc:
            raise self._translate(exc, prefix, "list") from exc

    def delete(self, keys: Iterable[str]) -> None:
        for key in keys:
            try:
                self._client.delete_blob(key, timeout=self._timeout)
            except ResourceNotFoundError:
                continue
            except AzureError as exc:
                raise self._translate(exc, key, "delete") from exc

    def size(self, key: str) -> int | None:
        try:
            return int(self._client.get_blob_client(key).get_blob_properties().size)
        except ResourceNotFoundError as exc:
            if _code_of(exc) in _ERRORS:
                raise self._translate(exc, key, "read") from exc
            return None
        except AzureError as exc:
            raise self._translate(exc, key, "read") from exc

    def _translate(self, exc: AzureError, key: str, doing: str) -> StorageError:
        kind, advice = _ERRORS.get(_code_of(exc), _OTHERWISE)
        if isinstance(exc, ClientAuthenticationError) and kind is _OTHERWISE[0]:
            kind, advice = _UNKNOWN
        reason = str(exc.message or exc).strip().splitlines()
        return kind(
            f"Could not {doing} {key!r} in the Azure container {self._client.container_name!r}: "
            f"{reason[0] if reason else type(exc).__name__}; {advice}. "
            f"What was committed before is unchanged."
        )


def open_backend(location: Location) -> AzureBackend:
    """Return the backend of a location, configured as stock MLflow configures its own."""
    container, host = split_azure_container(location.container)
    timeout = MLFLOW_ARTIFACT_UPLOAD_DOWNLOAD_TIMEOUT.get() or _DEFAULT_TIMEOUT_SECONDS
    service = _make_client(f"https://{host}", location.uri)
    return AzureBackend(service.get_container_client(container), int(timeout))


def _code_of(exc: AzureError) -> str:
    code = getattr(exc, "error_code", None)
    return str(getattr(code, "value", code) or "")


def _body(data: Buffer) -> bytes:
    # The library takes a bytearray for an iterable of numbers.
    return data if isinstance(data, bytes) else bytes(data)


def _make_client(account_url: str, uri: str) -> BlobServiceClient:
    verify = get_default_host_creds(uri).verify
    arguments: dict[str, Any] = {
        "connection_verify": verify,
        "max_single_put_size": 64 << 20,
        "connection_timeout": min(_CONNECT_SECONDS, _STALL_SECONDS),
        "read_timeout": _STALL_SECONDS,
        "retry_policy": _Patience(),
    }
    try:
        if text := os.environ.get("AZURE_STORAGE_CONNECTION_STRING"):
            client = BlobServiceClient.from_connection_string(text, **arguments)
            if client.credential is not None or "sharedaccesssignature=" in text.lower():
                return client
            # It names the endpoint only.
            account_url = client.url
        elif key := os.environ.get("AZURE_STORAGE_ACCESS_KEY"):
            return BlobServiceClient(account_url, credential=key, **arguments)
    except ValueError as exc:
        raise StorageCredentialsError(
            f"The Azure credentials are malformed: {exc}. Nothing was opened. Check "
            f"AZURE_STORAGE_CONNECTION_STRING and AZURE_STORAGE_ACCESS_KEY."
        ) from exc
    try:
        from azure.identity import DefaultAzureCredential
    except ImportError as exc:
        raise ConfigurationError(
            "There are no Azure credentials: neither AZURE_STORAGE_CONNECTION_STRING nor "
            "AZURE_STORAGE_ACCESS_KEY has any, and identities of Microsoft Entra need one more "
            "package. Nothing was opened. Set one of them, or run "
            "`pip install 'mlflow-plugins-pack[azure-identity]'`."
        ) from exc
    return BlobServiceClient(account_url, credential=DefaultAzureCredential(), **arguments)
