"""Objects in a Google Cloud Storage bucket, reached as stock MLflow reaches it.

Needs the extra ``gs``. A conditional write names the generation 0, "no object": the service honours
that for every object, see https://cloud.google.com/storage/docs/request-preconditions.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

from google.api_core import exceptions as api
from google.auth import exceptions as auth
from google.cloud import storage
from google.cloud.storage.exceptions import DataCorruption, InvalidResponse
from google.cloud.storage.retry import DEFAULT_RETRY
from mlflow.environment_variables import (
    MLFLOW_ARTIFACT_UPLOAD_DOWNLOAD_TIMEOUT,
    MLFLOW_GCS_DOWNLOAD_CHUNK_SIZE,
    MLFLOW_GCS_UPLOAD_CHUNK_SIZE,
)
from requests.adapters import HTTPAdapter
from requests.exceptions import RequestException

from mlflow_plugins_pack.artifacts.backends.base import (
    Backend,
    Buffer,
    ObjectMissingError,
    Stored,
)
from mlflow_plugins_pack.artifacts.uri.location import Location
from mlflow_plugins_pack.errors import (
    ArtifactCorruptError,
    ConfigurationError,
    StorageCredentialsError,
    StorageDeniedError,
    StorageError,
    StorageMissingError,
    StorageUnavailableError,
)

_CONNECTIONS = 32
_TIMEOUT_SECONDS = 60
_PATIENCE_SECONDS = 120
_BACKOFF_SECONDS = 1.0
_LONGEST_WAIT_SECONDS = 20
_ATTEMPTS = 3
"""So often an object is read whose bytes do not have its checksum."""
_DELETERS = 8
_CHUNK_UNIT = 256 * 1024

_FAILURES = (
    api.GoogleAPIError,
    auth.GoogleAuthError,
    RequestException,
    DataCorruption,
    InvalidResponse,
)
_UNKNOWN = (
    "Google does not accept these credentials; check GOOGLE_APPLICATION_CREDENTIALS, or run "
    "`gcloud auth application-default login`"
)
_DENIED = (
    "these credentials do not allow it, or a retention policy forbids it; check the bucket's IAM "
    "roles"
)
_SLOW = "Google Cloud Storage asked to slow down or failed; try again"
_KINDS: tuple[tuple[type[Exception], type[StorageError], str], ...] = (
    (api.Unauthorized, StorageCredentialsError, _UNKNOWN),
    (auth.RefreshError, StorageCredentialsError, _UNKNOWN),
    (auth.DefaultCredentialsError, StorageCredentialsError, _UNKNOWN),
    (api.Forbidden, StorageDeniedError, _DENIED),
    (api.NotFound, StorageMissingError, "there is no such bucket; create it first"),
    (api.TooManyRequests, StorageUnavailableError, _SLOW),
    (api.ServerError, StorageUnavailableError, _SLOW),
)
_from_response: Callable[[Any], Exception] = api.from_http_response
_OTHERWISE = (StorageUnavailableError, "check the network, and try again")


class GoogleStorageBackend(Backend):
    """One bucket."""

    keeps_folders: ClassVar[bool] = False
    refuses_conflicts: ClassVar[bool] = False

    def __init__(
        self,
        client: Any,
        bucket: str,
        timeout_seconds: float | None,
        upload_chunk_bytes: int | None = None,
        download_chunk_bytes: int | None = None,
    ) -> None:
        self._client = client
        self._bucket = client.bucket(bucket)
        self._upload_chunk_bytes = upload_chunk_bytes
        self._download_chunk_bytes = download_chunk_bytes
        self._has_answered = False
        patience = DEFAULT_RETRY.with_timeout(_PATIENCE_SECONDS).with_delay(
            initial=_BACKOFF_SECONDS, maximum=_LONGEST_WAIT_SECONDS, multiplier=2
        )
        # Each write has the same effect when it is repeated, so that all may be.
        self._options: dict[str, Any] = {"timeout": timeout_seconds, "retry": patience}

    def read(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        blob = self._bucket.blob(key, chunk_size=self._download_chunk_bytes)
        end = None if length is None else start + length - 1
        try:
            data = self._read_checked(blob, start or None, end)
        except api.RequestRangeNotSatisfiable:
            return b""
        except api.NotFound as exc:
            self._refuse_missing_bucket(key)
            raise ObjectMissingError(
                f"There is no object {key!r} in {self._bucket.name!r}."
            ) from exc
        except DataCorruption as exc:
            raise ArtifactCorruptError(
                f"The object {key!r} in the Google Cloud Storage bucket {self._bucket.name!r} does "
                f"not have the checksum that it was stored with. Nothing was read from it and "
                f"nothing was changed. Run `mlflow-pack artifacts fsck --read-data` on the store."
            ) from exc
        except _FAILURES as exc:
            raise self._translate(exc, key, "read") from exc
        self._has_answered = True
        return data

    def _read_checked(self, blob: Any, start: int | None, end: int | None) -> bytes:
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                data: bytes = blob.download_as_bytes(
                    start=start,
                    end=end,
                    raw_download=True,
                    single_shot_download=True,
                    **self._options,
                )
                return data
            except DataCorruption:
                if attempt == _ATTEMPTS:
                    raise
        raise AssertionError("unreachable")

    def write(self, key: str, data: Buffer) -> None:
        try:
            self._upload(key, data)
        except _FAILURES as exc:
            raise self._translate(exc, key, "write") from exc

    def write_if_absent(self, key: str, data: Buffer) -> bool:
        try:
            self._upload(key, data, if_generation_match=0)
        except api.PreconditionFailed:
            return False
        except _FAILURES as exc:
            raise self._translate(exc, key, "write") from exc
        return True

    def _upload(self, key: str, data: Buffer, **condition: int) -> None:
        blob = self._bucket.blob(key, chunk_size=self._upload_chunk_bytes)
        blob.upload_from_file(io.BytesIO(data), size=len(data), **condition, **self._options)
        self._has_answered = True

    def creates_exclusively(self, folder: str) -> bool:
        return True

    def list(self, prefix: str) -> Iterator[Stored]:
        for page in self._pages(prefix, "items(name,size,timeCreated)"):
            for found in page:
                yield Stored(found.name, int(found.size), found.time_created.timestamp())

    def folders(self, prefix: str) -> Iterator[str]:
        for page in self._pages(prefix, "prefixes", delimiter="/"):
            for found in sorted(page.prefixes):
                yield found[len(prefix) :].rstrip("/")

    def _pages(self, prefix: str, fields: str, **arguments: Any) -> Iterator[Any]:
        found = self._client.list_blobs(
            self._bucket,
            prefix=prefix or None,
            fields=f"{fields},nextPageToken",
            **arguments,
            **self._options,
        )
        try:
            yield from found.pages
        except _FAILURES as exc:
            raise self._translate(exc, prefix, "list") from exc

    def delete(self, keys: Iterable[str]) -> None:
        # One request each: the library's batches neither repeat what fails nor say which it was.
        with ThreadPoolExecutor(_DELETERS) as pool:
            for _ in pool.map(self._delete_one, keys):
                pass

    def _delete_one(self, key: str) -> None:
        try:
            self._bucket.delete_blob(key, **self._options)
        except api.NotFound:
            return
        except _FAILURES as exc:
            raise self._translate(exc, key, "delete") from exc

    def size(self, key: str) -> int | None:
        try:
            blob = self._bucket.get_blob(key, **self._options)
        except _FAILURES as exc:
            raise self._translate(exc, key, "read") from exc
        if blob is None:
            self._refuse_missing_bucket(key)
            return None
        return int(blob.size)

    def _refuse_missing_bucket(self, key: str) -> None:
        """Make sure that the bucket exists: the service says 404 whichever of the two is missing.

        Raises:
            StorageMissingError: If it does not exist.
        """
        if self._has_answered:
            return
        try:
            found = self._client.list_blobs(
                self._bucket, prefix=key, max_results=1, **self._options
            )
            next(iter(found), None)
        except api.Forbidden:
            return
        except _FAILURES as exc:
            raise self._translate(exc, key, "read") from exc
        self._has_answered = True

    def _translate(self, exc: Exception, key: str, doing: str) -> StorageError:
        cause = exc.cause if isinstance(exc, api.RetryError) and exc.cause else exc
        if isinstance(cause, InvalidResponse):
            cause = _from_response(cause.response)
        kind, advice = next(
            ((kind, advice) for failure, kind, advice in _KINDS if isinstance(cause, failure)),
            _OTHERWISE,
        )
        reason = str(getattr(cause, "message", None) or cause).strip().splitlines()
        return kind(
            f"Could not {doing} {key!r} in the Google Cloud Storage bucket {self._bucket.name!r}: "
            f"{reason[0] if reason else type(cause).__name__}; {advice}. "
            f"What was committed before is unchanged."
        )


def open_backend(location: Location) -> GoogleStorageBackend:
    """Return the backend of a location, configured as stock MLflow configures its own."""
    timeout = MLFLOW_ARTIFACT_UPLOAD_DOWNLOAD_TIMEOUT.get() or _TIMEOUT_SECONDS
    return GoogleStorageBackend(
        _make_client(),
        location.container,
        None if timeout == -1 else timeout,
        _chunk_bytes(MLFLOW_GCS_UPLOAD_CHUNK_SIZE),
        _chunk_bytes(MLFLOW_GCS_DOWNLOAD_CHUNK_SIZE),
    )


class _Adapter(HTTPAdapter):
    """Reads answers that are errors to their end, so that their connections are used again."""

    def send(self, request: Any, *arguments: Any, **named: Any) -> Any:
        response = super().send(request, *arguments, **named)
        if response.status_code >= 400:
            # The library drops those that it asks again for.
            _ = response.content
        return response


def _chunk_bytes(setting: Any) -> int | None:
    value: int | None = setting.get()
    if value is not None and (value <= 0 or value % _CHUNK_UNIT):
        raise ConfigurationError(
            f"{setting.name} must be a multiple of {_CHUNK_UNIT} bytes (256 KiB), and is {value}. "
            f"Nothing was opened."
        )
    return value


def _make_client() -> Any:
    try:
        # Without a project: nothing here needs one, and where none is set the library would fail.
        client = storage.Client(project=None)
    except auth.DefaultCredentialsError as exc:
        if "GOOGLE_APPLICATION_CREDENTIALS" in os.environ:
            raise StorageCredentialsError(
                f"The Google credentials that GOOGLE_APPLICATION_CREDENTIALS names are unusable: "
                f"{exc}. Nothing was opened."
            ) from exc
        client = storage.Client.create_anonymous_client()
    except (auth.GoogleAuthError, ValueError) as exc:
        raise StorageCredentialsError(
            f"The Google credentials are unusable: {exc}. Nothing was opened. Check "
            f"GOOGLE_APPLICATION_CREDENTIALS, or run `gcloud auth application-default login`."
        ) from exc
    # The default is ten connections; those beyond are closed after each request.
    adapter = _Adapter(pool_maxsize=_CONNECTIONS)
    for scheme in ("https://", "http://"):
        client._http.mount(scheme, adapter)
    return client
