"""One end of a shipment: a server, a workspace of it, and the storage that it may name.

A server says where artifacts are. Only places that a person named are opened: a hostile one would
have files of this machine, or of a bucket that only we may read, taken to the other end.
"""

from __future__ import annotations

import contextlib
import functools
import os
import posixpath
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import unquote, urlsplit

from mlflow_plugins_pack.errors import (
    AuthConflictError,
    ConfigurationError,
    StorageNotNamedError,
)
from mlflow_plugins_pack.uris import without_credentials

_PROXIED = ("mlflow-artifacts", "http", "https")


class End:
    """A server that a version comes from or goes to.

    Args:
        uri: Its address, ``http(s)://...``.
        workspace: A workspace of it; the server's default, or MLFLOW_WORKSPACE, if not given.
        storage: Roots of storage that it may name.

    Raises:
        ConfigurationError: If the URI is not a server's.
    """

    def __init__(self, uri: str, workspace: str | None = None, storage: Sequence[str] = ()) -> None:
        parts = urlsplit(uri)
        if parts.scheme not in ("http", "https") or not parts.netloc or "@" in parts.netloc:
            raise ConfigurationError(
                f"{without_credentials(uri)!r} is not the address of a server, such as "
                "https://mlflow.example.com. Nothing was copied. Start a server on the database, "
                "and keep user names and passwords in a sign-in profile."
            )
        self.uri = uri.rstrip("/")
        self.workspace = workspace
        self._storage = tuple(map(_plain, storage))

    @functools.cached_property
    def client(self) -> Any:
        """A stock client."""
        from mlflow import MlflowClient

        return MlflowClient(tracking_uri=self.uri, registry_uri=self.uri)

    @contextlib.contextmanager
    def acting(self) -> Iterator[Any]:
        """Act in the workspace; gives the client."""
        from mlflow.utils.workspace_context import ServerWorkspaceContext

        # Also without one: the other end may be acting around this.
        with ServerWorkspaceContext(self.workspace):
            yield self.client

    @property
    def origin(self) -> tuple[str, str]:
        """Scheme and host with port."""
        parts = urlsplit(self.uri)
        return parts.scheme, parts.netloc.lower()

    def repository(self, location: str) -> Any:
        """Return the artifact repository of a place that the server named.

        Raises:
            StorageNotNamedError: If a person has not named that place.
        """
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        self.check(location)
        return get_artifact_repository(location, tracking_uri=self.uri)

    def check(self, location: str) -> None:
        """Check that a place may be opened.

        Raises:
            StorageNotNamedError: If it may not.
        """
        parts = urlsplit(location)
        is_plain = location.isprintable() and not _climbs(location)
        if parts.scheme in _PROXIED:
            own = parts.scheme == "mlflow-artifacts" and not parts.netloc
            if is_plain and (own or (parts.scheme, parts.netloc.lower()) == self.origin):
                return
            raise StorageNotNamedError(
                f"{self.uri} says that files are at {location[:300]!r}, which is another host. "
                "Nothing was read there, and no credential was sent. Ask who runs the server."
            )
        place = _plain(location)
        if is_plain and any(_is_under(place, root) for root in self._storage):
            return
        raise StorageNotNamedError(
            f"{self.uri} says that files are at {without_credentials(location)[:300]!r}, and "
            "that place was not named. Nothing was read or written there. If the server may name "
            "it, repeat the command with --storage and the root of that storage."
        )


def _climbs(location: str) -> bool:
    return ".." in unquote(location).replace("\\", "/").split("/") or "%" in location


def _plain(location: str) -> str:
    """Return a place in its one spelling: MLflow makes ``cas-file:/a`` of ``cas-file:///a``."""
    scheme, colon, path = location.partition(":")
    if not colon or scheme == "file":
        path = unquote(urlsplit(location).path) if colon else location
        return f"file:{os.path.realpath(path)}"
    if path.startswith("///"):
        path = path[2:]
    return posixpath.join(f"{scheme.lower()}:{path.rstrip('/')}", "").rstrip("/")


def _is_under(place: str, root: str) -> bool:
    return place == root or place.startswith(f"{root}/")


# --- credentials ----------------------------------------------------------------------------------


def end_of(profile_or_uri: str, workspace: str | None, storage: Sequence[str]) -> End:
    """Return the end that a sign-in profile or an address names.

    Raises:
        AuthConfigError: If the profile does not exist.
        ConfigurationError: If the profile has several hosts.
    """
    if "://" in profile_or_uri:
        return End(profile_or_uri, workspace, storage)
    from mlflow_plugins_pack.auth.manager import get_manager

    profile = get_manager().profile(profile_or_uri)
    if len(profile.hosts) != 1:
        raise ConfigurationError(
            f"The sign-in profile {profile_or_uri!r} has several hosts. Nothing was copied. Give "
            f"the address of one instead: {', '.join(profile.hosts)}"
        )
    return End(profile.hosts[0], workspace or profile.workspace, storage)


def check_credentials(source: End, target: End) -> None:
    """Check that no credential of the source's goes to the target.

    What the environment or ``~/.mlflow/credentials`` holds, stock MLflow sends to every server.

    Raises:
        AuthConflictError: If it would be sent to the target.
    """
    if source.origin == target.origin:
        return
    found = _ambient()
    if found is None:
        return
    from mlflow_plugins_pack.auth.manager import get_manager
    from mlflow_plugins_pack.errors import AuthConfigError

    try:
        current = get_manager().match(f"{target.uri}/api/2.0/mlflow/model-versions/get")
    except AuthConfigError:
        current = None
    if current is not None and "Authorization" in current.profile.own_headers():
        return  # which replaces the other
    raise AuthConflictError(
        f"{found} would be sent to {target.uri}, too. Nothing was sent. Unset it and write a "
        "sign-in profile for each of the two servers, which names its host; or one for the target."
    )


def _ambient() -> str | None:
    """Return what stock MLflow would sign every request with, in words."""
    from mlflow.environment_variables import (
        MLFLOW_TRACKING_AUTH,
        MLFLOW_TRACKING_AWS_SIGV4,
        MLFLOW_TRACKING_TOKEN,
    )
    from mlflow.utils.credentials import read_mlflow_creds

    for name, is_set in (
        ("MLFLOW_TRACKING_TOKEN", bool(MLFLOW_TRACKING_TOKEN.get())),
        ("MLFLOW_TRACKING_AWS_SIGV4", bool(MLFLOW_TRACKING_AWS_SIGV4.get())),
        ("MLFLOW_TRACKING_AUTH", (MLFLOW_TRACKING_AUTH.get() or "plugins-pack") != "plugins-pack"),
    ):
        if is_set:
            return name
    found = read_mlflow_creds()
    if found.username or found.password:
        return "The user name and password of MLFLOW_TRACKING_USERNAME or ~/.mlflow/credentials"
    return None
