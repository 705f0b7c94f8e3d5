"""Objects in an S3 bucket, reached as stock MLflow reaches it: same settings, same credentials."""

from __future__ import annotations

import io
import json
import os
import random
import time
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar

import boto3
import botocore
from botocore.client import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    FlexibleChecksumError,
    IncompleteReadError,
    NoCredentialsError,
    PartialCredentialsError,
    ReadTimeoutError,
    ResponseStreamingError,
)
from mlflow.environment_variables import (
    MLFLOW_ARTIFACT_UPLOAD_DOWNLOAD_TIMEOUT,
    MLFLOW_BOTO_CLIENT_ADDRESSING_STYLE,
    MLFLOW_S3_ENDPOINT_URL,
    MLFLOW_S3_EXPECTED_BUCKET_OWNER,
    MLFLOW_S3_IGNORE_TLS,
    MLFLOW_S3_UPLOAD_EXTRA_ARGS,
)

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
_ATTEMPTS = 6
_BACKOFF_SECONDS = 20
_BROKE_OFF = (
    FlexibleChecksumError,
    IncompleteReadError,
    ReadTimeoutError,
    ResponseStreamingError,
)
"""Faults of an answer's body, which boto3 does not retry by itself."""
_DELETE_BATCH = 1000
_CUSTOMER_KEY = ("SSECustomerAlgorithm", "SSECustomerKey", "SSECustomerKeyMD5")

_DENIED = (StorageDeniedError, "these credentials do not allow it; check the bucket's policy")
_UNKNOWN_KEY = (StorageCredentialsError, "S3 does not accept these credentials; check AWS_*")
_SLOW = (StorageUnavailableError, "S3 asked to slow down or failed; try again")
_ERRORS: dict[str, tuple[type[StorageError], str]] = {
    "NoSuchBucket": (StorageMissingError, "there is no such bucket; create it first"),
    "AccessDenied": _DENIED,
    "AllAccessDisabled": _DENIED,
    "403": _DENIED,
    "InvalidAccessKeyId": _UNKNOWN_KEY,
    "SignatureDoesNotMatch": _UNKNOWN_KEY,
    "ExpiredToken": (StorageCredentialsError, "the credentials have expired; renew them"),
    "InvalidToken": _UNKNOWN_KEY,
    "PermanentRedirect": (StorageError, "the bucket is in another region; set AWS_DEFAULT_REGION"),
    "SlowDown": _SLOW,
    "ServiceUnavailable": _SLOW,
    "InternalError": _SLOW,
    "503": _SLOW,
    "500": _SLOW,
}
_OTHERWISE = (StorageUnavailableError, "check the endpoint and the network, and try again")
_ABSENT = frozenset({"NoSuchKey", "404", "NotFound"})
# Some servers that speak S3, Google's among them, delete one object at a time only.
_NOT_OFFERED = frozenset({"NotImplemented", "MethodNotAllowed", "501", "405"})
_EXISTS = frozenset({"PreconditionFailed", "412", "ConditionalRequestConflict", "409"})


class S3Backend(Backend):
    """One bucket."""

    keeps_folders: ClassVar[bool] = False
    refuses_conflicts: ClassVar[bool] = False

    def __init__(self, client: Any, bucket: str, extra: dict[str, Any], owner: str | None) -> None:
        self._client = client
        self._bucket = bucket
        self._offers_conditions = True
        self._owner = {"ExpectedBucketOwner": owner} if owner else {}
        self._to_write = {**self._owner, **extra}
        customer_key = {name: extra[name] for name in _CUSTOMER_KEY if name in extra}
        self._to_read = {**self._owner, **customer_key}

    def read(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        arguments = dict(self._to_read)
        if start or length is not None:
            end = "" if length is None else str(start + length - 1)
            arguments["Range"] = f"bytes={start}-{end}"
        try:
            return self._read_body(key, arguments)
        except ClientError as exc:
            if _code_of(exc) in ("InvalidRange", "416"):
                return b""
            if self._is_absent(key, exc):
                raise ObjectMissingError(
                    f"There is no object {key!r} in {self._bucket!r}."
                ) from exc
            raise self._translate(exc, key, "read") from exc
        except FlexibleChecksumError as exc:
            raise ArtifactCorruptError(
                f"The object {key!r} in the S3 bucket {self._bucket!r} does not have the checksum "
                f"that it was stored with: {exc}. Nothing was read from it and nothing was "
                f"changed. Run `mlflow-pack artifacts fsck --read-data` on the store."
            ) from exc
        except BotoCoreError as exc:
            raise self._translate(exc, key, "read") from exc

    def _read_body(self, key: str, arguments: dict[str, Any]) -> bytes:
        """Read an object; what breaks off after the answer has begun is for us to repeat."""
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                answer = self._client.get_object(Bucket=self._bucket, Key=key, **arguments)
                data: bytes = answer["Body"].read()
                return data
            except _BROKE_OFF as exc:
                if attempt == _ATTEMPTS:
                    if "Range" not in arguments and answer["ContentLength"] < (self.size(key) or 0):
                        raise StorageUnavailableError(
                            f"The answer for {key!r} from the S3 bucket {self._bucket!r} was cut "
                            f"on its way {_ATTEMPTS} times. The object itself is longer, and "
                            f"nothing was changed. Check the network, and try again."
                        ) from exc
                    raise
                # Full jitter, as boto3's own retries: many readers must not come back at once.
                time.sleep(random.uniform(0, min(_BACKOFF_SECONDS, 2**attempt / 10)))  # noqa: S311
        raise AssertionError("unreachable")

    def write(self, key: str, data: Buffer) -> None:
        try:
            self._client.put_object(
                Bucket=self._bucket, Key=key, Body=_Body(data), **self._to_write
            )
        except (ClientError, BotoCoreError) as exc:
            raise self._translate(exc, key, "write") from exc

    def write_if_absent(self, key: str, data: Buffer) -> bool:
        try:
            self._client.put_object(
                Bucket=self._bucket, Key=key, Body=data, IfNoneMatch="*", **self._to_write
            )
        except ClientError as exc:
            code = _code_of(exc)
            if code in _EXISTS:
                return False
            if code in ("NotImplemented", "501") or (
                # Refused as malformed: if it was not the condition, the plain write fails too.
                _status_of(exc) == 400 and code not in _ERRORS
            ):
                self._offers_conditions = False
                if self.size(key) is not None:
                    return False
                self.write(key, data)
                return True
            raise self._translate(exc, key, "write") from exc
        except BotoCoreError as exc:
            raise self._translate(exc, key, "write") from exc
        return True

    def creates_exclusively(self, folder: str) -> bool:
        return super().creates_exclusively(folder) and self._offers_conditions

    def list(self, prefix: str) -> Iterator[Stored]:
        for page in self._pages(prefix):
            for found in page.get("Contents", ()):
                modified = found["LastModified"].timestamp()
                yield Stored(found["Key"], int(found["Size"]), modified)

    def folders(self, prefix: str) -> Iterator[str]:
        for page in self._pages(prefix, Delimiter="/"):
            for found in page.get("CommonPrefixes", ()):
                yield found["Prefix"][len(prefix) :].rstrip("/")

    def delete(self, keys: Iterable[str]) -> None:
        waiting = list(keys)
        while waiting:
            batch, waiting = waiting[:_DELETE_BATCH], waiting[_DELETE_BATCH:]
            try:
                answer = self._client.delete_objects(
                    Bucket=self._bucket,
                    Delete={"Objects": [{"Key": key} for key in batch], "Quiet": True},
                    **self._owner,
                )
            except ClientError as exc:
                if _code_of(exc) not in _NOT_OFFERED:
                    raise self._translate(exc, batch[0], "delete") from exc
                self._delete_singly(batch)
                continue
            except BotoCoreError as exc:
                raise self._translate(exc, batch[0], "delete") from exc
            for failure in answer.get("Errors", ()):
                kind, advice = _ERRORS.get(failure.get("Code", ""), _OTHERWISE)
                raise kind(
                    f"Could not delete {failure.get('Key')!r} in the S3 bucket {self._bucket!r}: "
                    f"{failure.get('Message')}; {advice}."
                )

    def _delete_singly(self, keys: Iterable[str]) -> None:
        for key in keys:
            try:
                self._client.delete_object(Bucket=self._bucket, Key=key, **self._owner)
            except (ClientError, BotoCoreError) as exc:
                raise self._translate(exc, key, "delete") from exc

    def size(self, key: str) -> int | None:
        try:
            answer = self._client.head_object(Bucket=self._bucket, Key=key, **self._to_read)
        except ClientError as exc:
            if self._is_absent(key, exc):
                return None
            raise self._translate(exc, key, "read") from exc
        except BotoCoreError as exc:
            raise self._translate(exc, key, "read") from exc
        return int(answer["ContentLength"])

    def _is_absent(self, key: str, exc: ClientError) -> bool:
        """Return whether a request failed because its key does not exist.

        To credentials that may list only below a prefix S3 answers 403 for that, not 404. A
        listing of this very key tells which of the two it is.
        """
        if _code_of(exc) not in ("AccessDenied", "403"):
            return _code_of(exc) in _ABSENT
        try:
            found = self._client.list_objects_v2(
                Bucket=self._bucket, Prefix=key, MaxKeys=1, **self._owner
            )
        except (ClientError, BotoCoreError):
            return False
        return all(listed["Key"] != key for listed in found.get("Contents", ()))

    def _pages(self, prefix: str, **arguments: str) -> Iterator[dict[str, Any]]:
        try:
            yield from self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=prefix, **self._owner, **arguments
            )
        except (ClientError, BotoCoreError) as exc:
            raise self._translate(exc, prefix, "list") from exc

    def _translate(self, exc: Exception, key: str, doing: str) -> StorageError:
        if isinstance(exc, NoCredentialsError | PartialCredentialsError):
            kind: type[StorageError] = StorageCredentialsError
            advice = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile or a role"
        else:
            code = _code_of(exc) if isinstance(exc, ClientError) else ""
            kind, advice = _ERRORS.get(code, _OTHERWISE)
        return kind(
            f"Could not {doing} {key!r} in the S3 bucket {self._bucket!r}: {exc}; {advice}. "
            f"What was committed before is unchanged."
        )


def open_backend(location: Location) -> S3Backend:
    """Return the backend of a location, configured as stock MLflow configures its own."""
    return S3Backend(
        _make_client(),
        location.container,
        _upload_arguments(),
        MLFLOW_S3_EXPECTED_BUCKET_OWNER.get(),
    )


class _Body(io.RawIOBase):
    """A buffer as a file, since botocore copies a buffer to make it one."""

    def __init__(self, data: Buffer) -> None:
        self._data = memoryview(data)
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        piece = self._data[self._at : self._at + len(buffer)]
        buffer[: len(piece)] = piece
        self._at += len(piece)
        return len(piece)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: len(self._data)}[whence]
        self._at = max(0, start + offset)
        return self._at

    def tell(self) -> int:
        return self._at


def _status_of(exc: ClientError) -> int:
    return int(exc.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _code_of(exc: ClientError) -> str:
    return str(exc.response.get("Error", {}).get("Code") or _status_of(exc) or "")


def _make_client() -> Any:
    signature: Any = os.environ.get("MLFLOW_EXPERIMENTAL_S3_SIGNATURE_VERSION", "s3v4")
    if signature.lower() == "unsigned":
        signature = botocore.UNSIGNED
    timeout = MLFLOW_ARTIFACT_UPLOAD_DOWNLOAD_TIMEOUT.get()
    config = Config(
        signature_version=signature,
        s3={"addressing_style": MLFLOW_BOTO_CLIENT_ADDRESSING_STYLE.get()},
        max_pool_connections=_CONNECTIONS,
        retries={"mode": "standard", "total_max_attempts": _ATTEMPTS},
        read_timeout=timeout or 60,
    )
    try:
        # A session of its own: boto3's default one keeps the first credentials that it ever saw.
        return boto3.Session().client(
            "s3",
            config=config,
            endpoint_url=MLFLOW_S3_ENDPOINT_URL.get(),
            verify=False if MLFLOW_S3_IGNORE_TLS.get() else None,
        )
    except (BotoCoreError, ValueError) as exc:
        raise ConfigurationError(
            f"The S3 settings are unusable: {exc}. Nothing was opened. Check "
            f"MLFLOW_S3_ENDPOINT_URL and the AWS_* variables."
        ) from exc


def _upload_arguments() -> dict[str, Any]:
    text = MLFLOW_S3_UPLOAD_EXTRA_ARGS.get()
    if not text:
        return {}
    try:
        arguments = json.loads(text)
    except ValueError as exc:
        raise ConfigurationError(
            f"MLFLOW_S3_UPLOAD_EXTRA_ARGS is not JSON: {exc}. Nothing was written."
        ) from exc
    if not isinstance(arguments, dict):
        raise ConfigurationError(
            "MLFLOW_S3_UPLOAD_EXTRA_ARGS must be a JSON object. Nothing was written."
        )
    return arguments
