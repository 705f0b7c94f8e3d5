"""Clients of services that speak S3, set up as stock MLflow's, and what such a service lacks."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import boto3
import botocore
from botocore.client import Config
from botocore.exceptions import BotoCoreError, ClientError, PaginationError
from mlflow.environment_variables import (
    MLFLOW_ARTIFACT_UPLOAD_DOWNLOAD_TIMEOUT,
    MLFLOW_BOTO_CLIENT_ADDRESSING_STYLE,
    MLFLOW_S3_ENDPOINT_URL,
    MLFLOW_S3_IGNORE_TLS,
    MLFLOW_S3_UPLOAD_EXTRA_ARGS,
)

from mlflow_plugins_pack.errors import ConfigurationError

_CONNECTIONS = 32


@dataclass
class Service:
    """What the calls of this process have found out about one service and bucket.

    Attributes:
        is_tried: An object was stored, and arrived as it was sent.
        takes_trailers: Takes checksums that follow a body, which boto3 sends over TLS.
        says_continue: Understands ``Expect: 100-continue``, which boto3 sends with long bodies.
        offers_conditions: Has not answered that it does not know conditional writes.
        honours_conditions: Has refused to replace an object.
        deletes_together: Deletes many objects in one request.
        wants_md5: Deletes many objects only with the checksum of earlier years.
        lists_version_2: Knows the second version of listings.
    """

    is_tried: bool = False
    takes_trailers: bool = True
    says_continue: bool = True
    offers_conditions: bool = True
    honours_conditions: bool = False
    deletes_together: bool = True
    wants_md5: bool = False
    lists_version_2: bool = True


_services: dict[tuple[str, str], Service] = {}


def service_of(client: Any, bucket: str) -> Service:
    """Return what is known of the service behind a client; nothing is asked."""
    return _services.setdefault((client.meta.endpoint_url, bucket), Service())


def status_of(exc: ClientError) -> int:
    """Return the HTTP status of an answer, or 0."""
    return int(exc.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def code_of(exc: ClientError) -> str:
    """Return the code of an error; its status if it has no code."""
    return str(exc.response.get("Error", {}).get("Code") or status_of(exc) or "")


def make_client(attempts: int, *, takes_trailers: bool = True) -> Any:
    """Return a client, configured by the settings that stock MLflow reads.

    Args:
        attempts: So often a request is sent at most.
        takes_trailers: False to leave out each checksum that a service may not know.

    Raises:
        ConfigurationError: If a setting is unusable.
    """
    signature: Any = os.environ.get("MLFLOW_EXPERIMENTAL_S3_SIGNATURE_VERSION", "s3v4")
    if signature.lower() == "unsigned":
        signature = botocore.UNSIGNED
    options = {} if takes_trailers else {"request_checksum_calculation": "when_required"}
    config = Config(
        signature_version=signature,
        s3={"addressing_style": MLFLOW_BOTO_CLIENT_ADDRESSING_STYLE.get()},
        max_pool_connections=_CONNECTIONS,
        retries={"mode": "standard", "total_max_attempts": attempts},
        read_timeout=MLFLOW_ARTIFACT_UPLOAD_DOWNLOAD_TIMEOUT.get() or 60,
        **options,
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


def is_amazon(client: Any) -> bool:
    """Return whether a client talks to Amazon itself."""
    host = urllib.parse.urlsplit(client.meta.endpoint_url).hostname or ""
    return host.endswith((".amazonaws.com", ".amazonaws.com.cn"))


def sends_trailers(client: Any) -> bool:
    """Return whether the client's uploads carry checksums that follow the body."""
    # Versions before 1.36 do not know the setting, nor trailers by default.
    calculation = getattr(client.meta.config, "request_checksum_calculation", "when_required")
    return client.meta.endpoint_url.startswith("https:") and calculation == "when_supported"


def adapt(client: Any, service: Service) -> None:
    """Have a client send what its service wants, as soon as that is known."""

    def drop_expect(request: Any, **_: Any) -> None:
        if not service.says_continue:
            del request.headers["Expect"]

    def add_md5(request: Any, **_: Any) -> None:
        if service.wants_md5:
            for name in [n for n in request.headers if n.lower().startswith("x-amz-checksum-")]:
                del request.headers[name]
            del request.headers["x-amz-sdk-checksum-algorithm"]
            digest = hashlib.md5(request.body, usedforsecurity=False).digest()
            request.headers["Content-MD5"] = base64.b64encode(digest).decode()

    client.meta.events.register("before-sign.s3.PutObject", drop_expect)
    client.meta.events.register("before-sign.s3.DeleteObjects", add_md5)


def list_pages(
    client: Any, service: Service, bucket: str, prefix: str, **arguments: Any
) -> Iterator[dict[str, Any]]:
    """Yield the pages of a listing, from services of either version.

    Raises:
        ClientError: If the service refuses.
        BotoCoreError: If it cannot be reached, or gives the same page again.
    """
    position: dict[str, str] = {}
    while True:
        page = _list(client, service, Bucket=bucket, Prefix=prefix, **arguments, **position)
        yield page
        if not page.get("IsTruncated"):
            return
        if token := page.get("NextContinuationToken"):
            following = {"ContinuationToken": token}
        else:
            # It took the request for one of the first version: what follows would be lost.
            service.lists_version_2 = False
            keys = [found["Key"] for found in page.get("Contents", ())]
            folders = [found["Prefix"] for found in page.get("CommonPrefixes", ())]
            following = {"Marker": page.get("NextMarker") or max(keys + folders, default="")}
        if following == position:
            raise PaginationError(message=f"the service lists the same page again: {following}")
        position = following


def _list(client: Any, service: Service, **arguments: Any) -> dict[str, Any]:
    page: dict[str, Any]
    if service.lists_version_2:
        try:
            page = client.list_objects_v2(**arguments)
            return page
        except ClientError as exc:
            # 400 and 404 have other reasons, too: a malformed name, a bucket that does not exist.
            if status_of(exc) not in (405, 501):
                raise
        service.lists_version_2 = False
    page = client.list_objects(**arguments)
    return page


def upload_arguments() -> dict[str, Any]:
    """Return what goes with every upload, as MLFLOW_S3_UPLOAD_EXTRA_ARGS has it.

    Raises:
        ConfigurationError: If that is not a JSON object.
    """
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
