"""Objects in an S3 bucket, reached as stock MLflow reaches it: same settings, same credentials."""

from __future__ import annotations

import io
import random
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, ClassVar

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    EndpointConnectionError,
    FlexibleChecksumError,
    IncompleteReadError,
    NoCredentialsError,
    PartialCredentialsError,
    ReadTimeoutError,
    ResponseStreamingError,
)
from mlflow.environment_variables import (
    MLFLOW_BOTO_CLIENT_ADDRESSING_STYLE,
    MLFLOW_S3_EXPECTED_BUCKET_OWNER,
)

from mlflow_plugins_pack.artifacts.backends.base import (
    Backend,
    Buffer,
    ObjectMissingError,
    Stored,
)
from mlflow_plugins_pack.artifacts.backends.s3_client import (
    adapt,
    code_of,
    is_amazon,
    list_pages,
    make_client,
    sends_trailers,
    service_of,
    status_of,
    upload_arguments,
)
from mlflow_plugins_pack.artifacts.uri.location import Location
from mlflow_plugins_pack.errors import (
    ArtifactCorruptError,
    StorageCredentialsError,
    StorageDeniedError,
    StorageError,
    StorageMissingError,
    StorageUnavailableError,
)

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
_STYLE = "MLFLOW_BOTO_CLIENT_ADDRESSING_STYLE"
_VIRTUAL = (StorageError, f"the service wants the bucket in the host's name; set {_STYLE}=virtual")
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
    "SecondLevelDomainForbidden": _VIRTUAL,
    "PathStyleRequestNotAllowed": _VIRTUAL,
    "VirtualHostDomainRequired": _VIRTUAL,
    "PermanentRedirect": (StorageError, "the bucket is in another region; set AWS_DEFAULT_REGION"),
    "SlowDown": _SLOW,
    "ServiceUnavailable": _SLOW,
    "InternalError": _SLOW,
    "503": _SLOW,
    "500": _SLOW,
}
_OTHERWISE = (StorageUnavailableError, "check the endpoint and the network, and try again")
_ABSENT = frozenset({"NoSuchKey", "404", "NotFound"})
_NOT_TRAILERS = frozenset({400, 403, 411, 501})
"""What services answer that do not take checksums after a body; 403, as they sign the body."""
_SMALL_BYTES = 1 << 20
_EXISTS = frozenset({"PreconditionFailed", "412", "ConditionalRequestConflict", "409"})


class S3Backend(Backend):
    """One bucket."""

    keeps_folders: ClassVar[bool] = False
    refuses_conflicts: ClassVar[bool] = False

    def __init__(self, client: Any, bucket: str, extra: dict[str, Any], owner: str | None) -> None:
        self._client = client
        self._bucket = bucket
        self._service = service_of(client, bucket)
        adapt(client, self._service)
        self._plain: Any = None
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
            if code_of(exc) in ("InvalidRange", "416"):
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
            self._put(key, data)
        except (ClientError, BotoCoreError) as exc:
            raise self._translate(exc, key, "write") from exc

    def write_if_absent(self, key: str, data: Buffer) -> bool:
        if not self._service.offers_conditions:
            return self._write_unless_seen(key, data)
        try:
            self._put(key, data, IfNoneMatch="*")
        except ClientError as exc:
            code = code_of(exc)
            if code in _EXISTS:
                self._service.honours_conditions = True
                return False
            is_unknown = code == "NotImplemented" or status_of(exc) == 501
            # Refused as malformed: if it was not the condition, the plain write fails too.
            is_malformed = status_of(exc) == 400 and code not in _ERRORS
            if not self._service.honours_conditions and (is_unknown or is_malformed):
                self._service.offers_conditions = not is_unknown
                return self._write_unless_seen(key, data)
            raise self._translate(exc, key, "write") from exc
        except BotoCoreError as exc:
            raise self._translate(exc, key, "write") from exc
        return True

    def _write_unless_seen(self, key: str, data: Buffer) -> bool:
        if self.size(key) is not None:
            return False
        self.write(key, data)
        return True

    def creates_exclusively(self, folder: str) -> bool:
        return super().creates_exclusively(folder) and self._service.honours_conditions

    def _put(self, key: str, data: Buffer, **condition: str) -> None:
        """Store an object, in a form that the service takes.

        Raises:
            ClientError: If it refuses.
            BotoCoreError: If it cannot be reached.
        """
        service = self._service
        client = self._uploader
        try:
            self._send(client, key, data, condition)
        except ClientError as exc:
            if status_of(exc) == 417 and service.says_continue:
                service.says_continue = False
                self._put(key, data, **condition)
                return
            may_be_form = status_of(exc) in _NOT_TRAILERS and not service.is_tried
            if not (may_be_form and sends_trailers(client)):
                raise
        else:
            if service.is_tried or self._is_whole(client, key, len(data)):
                service.is_tried = True
                return
            # It took the frames of the trailer for content: this object is ours, and wrong.
            condition = {}
        self._send(self._plain_client(), key, data, condition)
        service.takes_trailers = False
        service.is_tried = True

    def _send(self, client: Any, key: str, data: Buffer, condition: dict[str, str]) -> None:
        # Before it sends what is not in memory, boto3 waits for the service to say "continue".
        body = bytes(data) if len(data) <= _SMALL_BYTES else _Body(data)
        client.put_object(Bucket=self._bucket, Key=key, Body=body, **condition, **self._to_write)

    @property
    def _uploader(self) -> Any:
        return self._client if self._service.takes_trailers else self._plain_client()

    def _plain_client(self) -> Any:
        if self._plain is None:
            self._plain = make_client(_ATTEMPTS, takes_trailers=False)
            adapt(self._plain, self._service)
        return self._plain

    def _is_whole(self, client: Any, key: str, length: int) -> bool:
        if not sends_trailers(client) or is_amazon(client):
            return True
        return self.size(key) == length

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
            if len(batch) == 1 or not self._delete_together(batch):
                self._delete_singly(batch)

    def _delete_together(self, batch: Sequence[str]) -> bool:
        """Delete objects in one request; return False if the service does not offer that."""
        if not self._service.deletes_together:
            return False
        try:
            answer = self._client.delete_objects(
                Bucket=self._bucket,
                Delete={"Objects": [{"Key": key} for key in batch], "Quiet": True},
                **self._owner,
            )
        except ClientError as exc:
            if code_of(exc) in _ERRORS:
                raise self._translate(exc, batch[0], "delete") from exc
            if status_of(exc) in (400, 411) and not self._service.wants_md5:
                self._service.wants_md5 = True
                return self._delete_together(batch)
            self._service.deletes_together = False
            return False
        except BotoCoreError as exc:
            raise self._translate(exc, batch[0], "delete") from exc
        for failure in answer.get("Errors", ()):
            kind, advice = _ERRORS.get(failure.get("Code", ""), _OTHERWISE)
            raise kind(
                f"Could not delete {failure.get('Key')!r} in the S3 bucket {self._bucket!r}: "
                f"{failure.get('Message')}; {advice}."
            )
        return True

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
        if code_of(exc) not in ("AccessDenied", "403"):
            return code_of(exc) in _ABSENT
        try:
            found = self._client.list_objects_v2(
                Bucket=self._bucket, Prefix=key, MaxKeys=1, **self._owner
            )
        except (ClientError, BotoCoreError):
            return False
        return all(listed["Key"] != key for listed in found.get("Contents", ()))

    def _pages(self, prefix: str, **arguments: str) -> Iterator[dict[str, Any]]:
        try:
            yield from list_pages(
                self._client, self._service, self._bucket, prefix, **self._owner, **arguments
            )
        except (ClientError, BotoCoreError) as exc:
            raise self._translate(exc, prefix, "list") from exc

    def _translate(self, exc: Exception, key: str, doing: str) -> StorageError:
        if isinstance(exc, NoCredentialsError | PartialCredentialsError):
            kind: type[StorageError] = StorageCredentialsError
            advice = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile or a role"
        else:
            code = code_of(exc) if isinstance(exc, ClientError) else ""
            kind, advice = _ERRORS.get(code, _OTHERWISE)
            is_virtual = MLFLOW_BOTO_CLIENT_ADDRESSING_STYLE.get() == "virtual"
            if is_virtual and (
                isinstance(exc, EndpointConnectionError) or kind is StorageMissingError
            ):
                advice += f"; if the service wants the bucket in the path, set {_STYLE}=path"
        return kind(
            f"Could not {doing} {key!r} in the S3 bucket {self._bucket!r}: {exc}; {advice}. "
            f"What was committed before is unchanged."
        )


def open_backend(location: Location) -> S3Backend:
    """Return the backend of a location, configured as stock MLflow configures its own."""
    return S3Backend(
        make_client(_ATTEMPTS),
        location.container,
        upload_arguments(),
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
