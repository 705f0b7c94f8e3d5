"""The storages that the pack serves: one entry each, and one module in `artifacts.backends`."""

from __future__ import annotations

import os
import posixpath
import re
import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mlflow_plugins_pack import uris
from mlflow_plugins_pack.artifacts.format import object_keys
from mlflow_plugins_pack.errors import ArtifactPathError, UnsupportedUriError

_AZURE = re.compile(
    r"(?P<container>[^@/]+)@(?P<account>[^.@/]+)\.(?P<service>blob|dfs)"
    r"\.(?P<domain>core\.(?:windows\.net|chinacloudapi\.cn|usgovcloudapi\.net))"
)


@dataclass(frozen=True)
class Scheme:
    """One storage.

    Attributes:
        parse: Takes a whole URI, for messages, and what follows its scheme's colon; returns
            container and path, or raises UnsupportedUriError or ArtifactPathError.
        backend: Name of the module in `artifacts.backends` whose ``open_backend`` serves it.
        environment: Prefixes of the variables that configure its client, which is replaced when
            one of them changes.
        extra: Extra of this package that installs its library; empty if every installation has it.
    """

    parse: Callable[[str, str], tuple[str, str]]
    backend: str
    environment: tuple[str, ...] = ()
    extra: str = ""


def _parse_file(uri: str, rest: str) -> tuple[str, str]:
    # MLflow turns `cas-file:///a` into `cas-file:/a` when it appends to it.
    if rest.startswith("//"):
        host, slash, path = rest[2:].partition("/")
        if host in (".", ".."):
            # `cas-file://./artifacts`: a relative path, written with two slashes.
            path, slash = rest[2:], ""
        elif host not in ("", "localhost"):
            raise UnsupportedUriError(
                f"The artifact URI {uri!r} names the host {host!r}, but a cas-file URI is a path "
                f"of this machine: write 'cas-file:///{host}/...'. Nothing was opened."
            )
        rest = slash + path
    path = urllib.parse.unquote(rest)
    if not path:
        raise UnsupportedUriError(f"The artifact URI {uri!r} has no path. Nothing was opened.")
    if "\0" in path or (".." in path.split("/") and path.startswith("/")):
        raise ArtifactPathError(
            f"The artifact URI {uri!r} climbs with '..' or has a NUL. Nothing was opened."
        )
    if not path.startswith("/"):
        path = posixpath.join(Path.cwd().as_posix(), path)
    return "", os.path.normpath(path).strip("/")


def _parse_bucket(uri: str, rest: str) -> tuple[str, str]:
    bucket, path = _split_container(uri, rest)
    if not bucket or "@" in bucket or ":" in bucket:
        raise UnsupportedUriError(
            f"The artifact URI {uris.without_credentials(uri)!r} must name a bucket alone after "
            f"the '//': no host, port or credentials. Nothing was opened."
        )
    return bucket, path


def _parse_wasbs(uri: str, rest: str) -> tuple[str, str]:
    return _parse_azure(uri, rest, "wasbs", "blob")


def _parse_abfss(uri: str, rest: str) -> tuple[str, str]:
    return _parse_azure(uri, rest, "abfss", "dfs")


def _parse_azure(uri: str, rest: str, scheme: str, service: str) -> tuple[str, str]:
    container, path = _split_container(uri, rest)
    match = _AZURE.fullmatch(container)
    if match is None or match["service"] != service:
        raise UnsupportedUriError(
            f"The artifact URI {uris.without_credentials(uri)!r} must start as "
            f"'cas-{scheme}://CONTAINER@ACCOUNT.{service}.core.windows.net/' does (or the same at "
            f"chinacloudapi.cn or usgovcloudapi.net). Nothing was opened."
        )
    return container, path


def _split_container(uri: str, rest: str) -> tuple[str, str]:
    if not rest.startswith("//"):
        raise UnsupportedUriError(
            f"The artifact URI {uri!r} lacks its '//' after the scheme. Nothing was opened."
        )
    container, _, path = rest[2:].partition("/")
    return container, object_keys.normalize_path(path.strip("/"))


def split_azure_container(container: str) -> tuple[str, str]:
    """Return a container's name and its account's host of the blob service.

    Accounts with a hierarchical namespace, which ``abfss`` URIs name, serve that too.
    """
    match = _AZURE.fullmatch(container)
    if match is None:
        raise UnsupportedUriError(f"{container!r} is not a container on Azure. Nothing was opened.")
    return match["container"], f"{match['account']}.blob.{match['domain']}"


_AZURE_ENVIRONMENT = ("AZURE_", "IDENTITY_", "MSI_")

SCHEMES = {
    "file": Scheme(_parse_file, "local"),
    "s3": Scheme(
        _parse_bucket, "s3", ("AWS_", "MLFLOW_S3_", "MLFLOW_BOTO_", "MLFLOW_EXPERIMENTAL_S3_")
    ),
    "gs": Scheme(
        _parse_bucket,
        "gs",
        ("GOOGLE_", "CLOUDSDK_", "STORAGE_EMULATOR_HOST", "MLFLOW_GCS_"),
        extra="gs",
    ),
    "wasbs": Scheme(_parse_wasbs, "azure", _AZURE_ENVIRONMENT),
    "abfss": Scheme(_parse_abfss, "azure", _AZURE_ENVIRONMENT),
}
"""By the scheme of stock MLflow's URI."""

PACK_SCHEMES = tuple(uris.to_pack(uris.ARTIFACT_WORD, scheme) for scheme in SCHEMES)
"""As users write them: ``cas-file``, ``cas-s3`` and so on. Each is an entry point in setup.cfg."""
