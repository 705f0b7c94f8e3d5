"""Decides where approved bytes may be stored: in places that consumers and the server share.

An experiment may have any ``artifact_location``. A local path in it means the server's disk to the
server and the consumer's own disk to a consumer, so what is approved is not what is loaded.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from urllib.parse import unquote, urlparse

from mlflow_plugins_pack.approvals.domain.matching import matches_exactly
from mlflow_plugins_pack.settings import ARTIFACT_ROOTS

# Set by `mlflow server` for its workers (mlflow.server.constants).
_ROOT = "_MLFLOW_SERVER_ARTIFACT_ROOT"
_DESTINATION = "_MLFLOW_SERVER_ARTIFACT_DESTINATION"
_SERVES = "_MLFLOW_SERVER_SERVE_ARTIFACTS"
_PROXY = "mlflow-artifacts:/"


def is_allowed(
    location: str, patterns: Sequence[str] | None, environment: Mapping[str, str] = os.environ
) -> bool:
    """Return whether approved files may be at a location.

    Args:
        location: The location, pinned.
        patterns: The policy's ``sources_under``; None: the server's own artifact roots, of which
            a local path counts only if the server serves no artifacts.
        environment: The process's environment.
    """
    if ".." in unquote(urlparse(location).path).split("/"):
        return False
    place = _path_of(location) if _is_local(location) else _with_slashes(location)
    if patterns is not None:
        return any(matches_exactly(pattern, place) for pattern in patterns)
    roots = default_roots(environment)
    return roots is None or any(_is_under(place, root) for root in roots)


def default_roots(environment: Mapping[str, str]) -> list[str] | None:
    """Return a server's own artifact roots; None: this process works for no configured server."""
    own = [environment.get(name) for name in (_ROOT, _DESTINATION)]
    if not any(own):
        return None
    serves = environment.get(_SERVES) == "true"
    roots = [_PROXY] if serves else []
    for root in (*own, *ARTIFACT_ROOTS.get()):
        if root and not _is_local(root):
            roots.append(_with_slashes(root))
        elif root and not serves:
            roots.append(_path_of(root))
    return roots


def _is_local(location: str) -> bool:
    return urlparse(location).scheme in ("", "file")


def _with_slashes(location: str) -> str:
    """Return a URI of an absolute path with three slashes.

    MLflow makes `cas-file:/a/b` of `cas-file:///a` and `b`.
    """
    scheme, colon, path = location.partition(":")
    is_absolute = path.startswith("/") and not path.startswith("//")
    return (
        f"{scheme}://{path}" if colon and is_absolute and scheme != "mlflow-artifacts" else location
    )


def _path_of(location: str) -> str:
    path = unquote(urlparse(location).path) if location.startswith("file:") else location
    return os.path.realpath(path)


def _is_under(place: str, root: str) -> bool:
    return place == root or place.startswith(root if root.endswith("/") else f"{root}/")
