"""Where an artifact URI points: storage, container and path; pure but for relative paths."""

from __future__ import annotations

import os
import posixpath
import re
import urllib.parse
from dataclasses import dataclass, replace
from pathlib import Path

from mlflow_plugins_pack import uris
from mlflow_plugins_pack.artifacts.format import object_keys
from mlflow_plugins_pack.errors import ArtifactPathError, UnsupportedUriError

_WASBS = re.compile(
    r"(?P<container>[^@/]+)@(?P<account>[^.@/]+)"
    r"\.(?P<domain>blob\.core\.(?:windows\.net|chinacloudapi\.cn|usgovcloudapi\.net))"
)


@dataclass(frozen=True)
class Location:
    """A place in a storage.

    Attributes:
        scheme: ``file``, ``s3`` or ``wasbs``.
        container: Bucket, or ``container@account.blob.core...``; empty on disk.
        path: Key prefix without slashes around; on disk the absolute path without its first.
    """

    scheme: str
    container: str
    path: str

    def at(self, path: str) -> Location:
        """Return another place in the same storage."""
        return replace(self, path=path)

    @property
    def uri(self) -> str:
        """The location as a URI of the pack."""
        separator = ":/" if self.scheme == "file" else f"://{self.container}/"
        return uris.to_pack(uris.ARTIFACT_WORD, f"{self.scheme}{separator}{self.path}").rstrip("/")

    def contains(self, other: Location) -> bool:
        """Tell whether the other place is this one or below it."""
        return (self.scheme, self.container) == (other.scheme, other.container) and (
            object_keys.relative_to(other.path, self.path) is not None
        )


def parse_location(uri: str) -> Location:
    """Read an artifact URI.

    ``cas-file:///a``, ``cas-file:/a`` and ``cas-file:a`` (relative to the working directory) are
    read alike, since MLflow turns the first into the second when it appends to it.

    Raises:
        UnsupportedUriError: If it is none of ours, has a query or fragment, or names a host where
            none may be named.
        ArtifactPathError: If its path climbs.
    """
    stock = uris.to_stock(uris.ARTIFACT_WORD, uri)
    scheme, _, rest = stock.partition(":")
    scheme = scheme.lower()
    if f"{uris.ARTIFACT_WORD}-{scheme}" not in uris.ARTIFACT_SCHEMES:
        raise UnsupportedUriError(
            f"The artifact URI {uris.without_credentials(uri)!r} has a scheme that the pack does "
            f"not serve; it serves {', '.join(uris.ARTIFACT_SCHEMES)}. Nothing was opened."
        )
    if "?" in rest or "#" in rest:
        raise UnsupportedUriError(
            f"The artifact URI {uris.without_credentials(uri)!r} has a '?' or '#'. Endpoints and "
            f"credentials come from the environment, never from the URI. Nothing was opened."
        )
    if scheme == "file":
        return _parse_file(uri, rest)
    if not rest.startswith("//"):
        raise UnsupportedUriError(
            f"The artifact URI {uri!r} lacks its '//' after the scheme. Nothing was opened."
        )
    container, _, path = rest[2:].partition("/")
    if scheme == "wasbs" and _WASBS.fullmatch(container) is None:
        raise UnsupportedUriError(
            f"The artifact URI {uris.without_credentials(uri)!r} must start as "
            f"'cas-wasbs://CONTAINER@ACCOUNT.blob.core.windows.net/' does (or the same at "
            f"chinacloudapi.cn or usgovcloudapi.net). Nothing was opened."
        )
    if not container or ("@" in container and scheme == "s3") or ":" in container:
        raise UnsupportedUriError(
            f"The artifact URI {uris.without_credentials(uri)!r} must name a bucket alone after "
            f"the '//': no host, port or credentials. Nothing was opened."
        )
    return Location(scheme, container, object_keys.normalize_path(path.strip("/")))


def _parse_file(uri: str, rest: str) -> Location:
    if rest.startswith("//"):
        host, slash, path = rest[2:].partition("/")
        if host in (".", ".."):
            # `cas-file://./artifacts`: a relative path that somebody wrote with two slashes.
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
    return Location("file", "", os.path.normpath(path).strip("/"))


def parse_wasbs_container(container: str) -> tuple[str, str]:
    """Return container name and account URL host of a wasbs authority."""
    match = _WASBS.fullmatch(container)
    if match is None:
        raise UnsupportedUriError(f"{container!r} is not a container on Azure. Nothing was opened.")
    return match["container"], f"{match['account']}.{match['domain']}"
