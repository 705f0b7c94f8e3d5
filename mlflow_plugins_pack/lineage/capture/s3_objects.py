"""Which objects a native client of S3 read or wrote: the store is asked, since no client says so.

pyarrow, polars and DuckDB read from S3 in native code. The worker asks the store, with the
credentials that the library was given, for size and version of the object, or of the objects that
a folder stands for.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote

from mlflow_plugins_pack.lineage import sink
from mlflow_plugins_pack.lineage.capture.event import READ, Event

_ACCESS: dict[str, Any] = {}
"""What a library was given to get at a bucket, as it was given; stays in memory."""
_silent_until: dict[str, float] = {}
"""When a bucket may be asked again that did not answer."""

_SILENCE_SECONDS = 60.0
_OBJECTS_LIMIT = 10_000
_VERSIONS_LIMIT = 100
"""Most objects of a folder that are asked for their version; of the others, the tag is known."""
# What object_store, which polars uses, and s3fs call each argument of botocore's clients.
_NAMES = {
    "aws_access_key_id": ("aws_access_key_id", "access_key_id", "access_key", "key"),
    "aws_secret_access_key": ("aws_secret_access_key", "secret_access_key", "secret_key", "secret"),
    "aws_session_token": ("aws_session_token", "session_token", "aws_token", "token"),
    "region_name": ("aws_region", "region", "aws_default_region", "default_region", "region_name"),
    "endpoint_url": ("aws_endpoint_url", "endpoint_url", "aws_endpoint", "endpoint"),
}


def remember(bucket: str, given: Any) -> None:
    """Remember how a library gets at a bucket.

    Args:
        bucket: Its name.
        given: A `pyarrow.fs.S3FileSystem`, a mapping of options, or None for the environment's.
    """
    _ACCESS[bucket] = given


def resolved(event: Event) -> Iterator[Event]:
    """Return an event with size and version, or those of a folder's objects.

    Where the store does not answer, it is returned as it is.
    """
    bucket, _, key = event.where.removeprefix("s3://").partition("/")
    if time.monotonic() < _silent_until.get(bucket, 0.0):
        yield event
        return
    try:
        with sink.current().muted():
            found = list(_objects(bucket, unquote(key), folders=event.kind == READ))
    except Exception:  # noqa: BLE001  # no network, no right, no such bucket
        _silent_until[bucket] = time.monotonic() + _SILENCE_SECONDS
        found = []
    if not found:
        yield event
    for name, size, version in found:
        from mlflow_plugins_pack.lineage.document.graph import object_uri

        yield event._replace(where=object_uri("s3", bucket, name), size=size, version=version)


def _objects(
    bucket: str, key: str, *, folders: bool
) -> Iterator[tuple[str, int | None, str | None]]:
    """Return key, size and version of an object, or of those that a key stands for."""
    client = _client(_ACCESS.get(bucket))
    wanted = _pattern(key)
    if wanted is None and (found := _head(client, bucket, key)):
        yield key, *found
        return
    if not folders:
        return
    prefix = f"{key.rstrip('/')}/" if wanted is None and key else key.partition("*")[0]
    count = 0
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        for entry in page.get("Contents", ()):
            name = entry["Key"]
            hidden = any(part[:1] in ("_", ".") for part in name[len(prefix) :].split("/"))
            if hidden or name.endswith("/") or (wanted and not wanted.fullmatch(name)):
                continue
            count += 1
            if count > _OBJECTS_LIMIT:
                return
            version = entry["ETag"].strip('"')
            if count <= _VERSIONS_LIMIT and (found := _head(client, bucket, name)):
                version = found[1] or version
            yield name, entry["Size"], version


def _pattern(key: str) -> re.Pattern[str] | None:
    """Return what a key with wildcards means: ``*`` a part of a name, ``**`` any folders."""
    if "*" not in key:
        return None
    parts = re.split(r"(\*\*/|\*\*|\*)", key)
    meanings = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*"}
    return re.compile("".join(meanings.get(part) or re.escape(part) for part in parts))


def _head(client: Any, bucket: str, key: str) -> tuple[int, str | None] | None:
    from botocore.exceptions import ClientError

    try:
        answer = client.head_object(Bucket=bucket, Key=key)
    except ClientError as exc:
        if exc.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
            return None
        raise
    version = answer.get("VersionId")
    if not version or version == "null":
        version = answer["ETag"].strip('"')
    return answer["ContentLength"], version


def _client(given: Any) -> Any:
    import boto3
    from botocore.config import Config

    options = _options(given)
    anonymous = options.pop("anonymous", None)
    times = {"connect_timeout": 2, "read_timeout": 3, "retries": {"max_attempts": 0}}
    if anonymous:
        from botocore import UNSIGNED

        times["signature_version"] = UNSIGNED
    return boto3.session.Session().client("s3", config=Config(**times), **options)


def _options(given: Any) -> dict[str, Any]:
    """Return a library's options as the arguments of a botocore client."""
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        return _options_of_arrow(given)
    lowered = {str(key).lower(): value for key, value in given.items()}
    options: dict[str, Any] = {}
    for name, spellings in _NAMES.items():
        value = next((lowered[spelling] for spelling in spellings if lowered.get(spelling)), None)
        if value is not None:
            options[name] = value
    return options


def _options_of_arrow(filesystem: Any) -> dict[str, Any]:
    # How a file system is pickled is the only public way to its options.
    options = filesystem.__reduce__()[1][0]
    if options.get("role_arn"):
        raise NotImplementedError("credentials of a role")
    endpoint = options.get("endpoint_override") or ""
    if endpoint and "://" not in endpoint:
        endpoint = f"{options.get('scheme') or 'https'}://{endpoint}"
    found = _options({**options, "endpoint_url": endpoint})
    return {**found, "anonymous": options.get("anonymous")}
