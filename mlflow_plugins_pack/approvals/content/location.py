"""Decides where stock clients load a version from, and whether that can lead elsewhere later.

An approval is bound to bytes, so the server must read the files that every consumer loads, now and
later. A location is *pinned* if the stock client resolves it to the same files as the server, on
any host and at any time. A location that is not pinned is not approvable:

- ``runs:/RUN/NAME``: the client lays the files of a logged model called NAME over those of the
  run, and anyone who may write the run can add such a model.
- ``models:/NAME/VERSION``, ``@ALIAS``, ``/STAGE``: the name can be deleted and registered again.
- ``mlflow-artifacts://HOST/...`` and ``https://HOST/...``: the client asks that host; the server
  takes the path for one of its own.
- A proxied path with ``%``, ``//``, ``..``, ``?`` or ``#``: client and server decode it apart.
  The same is true of some names of files in a proxied folder; see `loaded_otherwise`.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Collection
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlparse, urlsplit

from mlflow.exceptions import MlflowException

from mlflow_plugins_pack.approvals import caller
from mlflow_plugins_pack.approvals.domain import messages
from mlflow_plugins_pack.errors import SourceNotPinnedError

if TYPE_CHECKING:
    from mlflow_plugins_pack.approvals.database.mlflow_tables import Version

LOGGED_MODEL = re.compile(r"models:/(?P<id>m-[0-9a-zA-Z]+)/?")
PROXIED = ("mlflow-artifacts", "http", "https")
_DECODED_APART = re.compile(r"[%?#\\;]|//|(^|/)\.{1,2}(/|$)")


def download_location(version: Version) -> str:
    """Return where a stock client downloads a version from, as the registry tells it."""
    return version.storage_location or version.source or ""


def pinned_location(version: Version) -> str:
    """Return a version's download location, with a logged model resolved to its files.

    Raises:
        SourceNotPinnedError: If a stock client could load other files from it.
        MlflowException: If the logged model does not exist.
    """
    location = download_location(version)
    if (model := LOGGED_MODEL.fullmatch(location)) is not None:
        # A logged model's location never changes, and its ID is never given again.
        location = tracking().get_logged_model(model["id"]).artifact_location
    if (why := reason_not_pinned(location)) is not None:
        raise SourceNotPinnedError(
            messages.source_not_pinned(
                name=version.name, version=version.version, location=location, why=why
            )
        )
    return location


def reason_not_pinned(location: str) -> str | None:
    """Return why a location can lead to other files, or None if it is pinned."""
    if not location.isprintable() or location != location.strip():
        return "it has blanks or control characters, which programs skip or keep"
    parts = urlparse(location)
    if parts.scheme == "runs":
        return "the files of a logged model of that name, added to the run at any time, replace it"
    if parts.scheme == "models":
        return "the model or version that it names can be deleted and registered again"
    if parts.scheme not in PROXIED:
        return None
    if parts.netloc:
        return "consumers load it from the host that it names, which this server cannot read"
    path = location.partition(":")[2].lstrip("/")
    if _DECODED_APART.search(path):
        return "client and server decode its path in different ways"
    return None


def loaded_otherwise(names: Collection[str]) -> str | None:
    """Return a file in a proxied folder that a stock client does not load as the server has it.

    The client decodes the names that the server lists, and fetches each by an address made of it:
    for ``a?b`` it gets the file ``a``. A folder with nothing but a file of the folder's own name it
    takes for that file, and leaves it out.

    Args:
        names: The paths of all files in the folder.
    """
    entries: dict[str, set[str]] = {}
    for name in names:
        if not _SURELY_ALIKE.fullmatch(name) and not _is_loaded_as_it_is(name):
            return name
        while name:
            folder, _, entry = name.rpartition("/")
            entries.setdefault(folder, set()).add(entry)
            name = folder
    for folder, inside in entries.items():
        own = folder.rpartition("/")[2]
        if folder and inside == {own} and f"{folder}/{own}" not in entries:
            return f"{folder}/{own}"
    return None


_SURELY_ALIKE = re.compile(r"[A-Za-z0-9_./+=@-]+")


def _is_loaded_as_it_is(name: str) -> bool:
    """Return whether what MLflow makes of a listed name leads back to the file."""
    import requests
    from mlflow.utils.uri import validate_path_is_safe

    try:
        listed = [validate_path_is_safe(part) for part in name.split("/")]
        address = requests.Request("GET", f"http://server/{name}").prepare().url or ""
        asked = validate_path_is_safe(unquote(urlsplit(address).path)[1:])
    except (MlflowException, ValueError, requests.RequestException):
        return False
    return listed == name.split("/") and asked == name


def tracking() -> Any:
    """Return the tracking store of this server, or a client of the tracking server."""
    if caller.in_server():
        from mlflow.server import handlers

        return handlers._get_tracking_store()
    from mlflow.tracking import MlflowClient

    return MlflowClient()


def repository_for(location: str) -> tuple[Any, str | None]:
    """Return the artifact repository that holds a location, and the path inside it.

    Raises:
        FileNotFoundError: If the location is empty.
        ValueError: If another server serves it.
    """
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    if not location:
        raise FileNotFoundError("the version has no source")
    if urlparse(location).scheme in PROXIED and caller.in_server():
        # Clients reach this place through the server; the server itself goes straight there.
        from mlflow.server import handlers

        if not handlers._is_servable_proxied_run_artifact_root(location):
            raise ValueError("the artifacts are served by another server")
        inside = handlers._get_proxied_run_artifact_destination_path(location)
        path = handlers._get_workspace_scoped_repo_path_if_enabled(inside)
        return handlers._get_artifact_repo_mlflow_artifacts(), path
    if caller.in_server():
        from mlflow.server import handlers

        # Since MLflow 3.17 a server opens its own storage only; before that it opens any.
        open_as_server = getattr(
            handlers, "_get_artifact_repository_for_uri", get_artifact_repository
        )
        return open_as_server(location), None
    return get_artifact_repository(location), None


def run_location(run: Any, path: str) -> str:
    """Return where the files of a run under a path are; without those of logged models."""
    return posixpath.join(run.info.artifact_uri, path)
