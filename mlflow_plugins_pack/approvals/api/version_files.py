"""Reads the files of a version that MLflow lets the visitor read: their sizes, small texts.

MLflow decides the visitor's right when it tells them about the version: who may read a version may
download each of its files. With the server's stores at hand they are read there; else through the
server, with the visitor's credentials.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, Protocol

from mlflow.exceptions import MlflowException

from mlflow_plugins_pack.approvals.api.review import Review
from mlflow_plugins_pack.approvals.api.visitors import Visitor
from mlflow_plugins_pack.approvals.content import location, recorded

_MAX_FILES = 200
_MAX_FOLDERS = 20


class VersionFiles(Protocol):
    """The files of one version; any thread may read them."""

    @property
    def sizes(self) -> Mapping[str, int]:
        """In bytes, by path; empty where they cannot be read."""
        ...

    def text(self, path: str) -> str | None:
        """Return a small text file; None if it cannot be read."""
        ...


class NoFiles:
    """The files of a version that cannot be read."""

    sizes: Mapping[str, int] = {}

    def text(self, path: str) -> str | None:
        """Return nothing."""
        return None


class StoredFiles:
    """A version's files, read in the server's own stores.

    Args:
        review: The review app's parts.
        visitor: Who asks; MLflow lets them read the version.
        name: The model.
        number: The version.
    """

    def __init__(self, review: Review, visitor: Visitor, name: str, number: int) -> None:
        self._review, self._visitor = review, visitor
        self._name, self._number = name, number

    @functools.cached_property
    def _opened(self) -> tuple[Any, str | None] | None:
        with self._review.acting(self._visitor) as store:
            place = store.get_model_version_download_uri(self._name, str(self._number))
            if match := location.LOGGED_MODEL.fullmatch(place or ""):
                place = location.tracking().get_logged_model(match["id"]).artifact_location
            return recorded.opened(place)

    @functools.cached_property
    def sizes(self) -> Mapping[str, int]:
        """In bytes, by path; empty where they cannot be read."""
        try:
            opened = self._opened
        except MlflowException:
            opened = None
        if opened is None:
            return {}
        with self._review.acting(self._visitor):
            return recorded.sizes(*opened, files=_MAX_FILES, folders=_MAX_FOLDERS)

    def text(self, path: str) -> str | None:
        """Return a small text file; None if it cannot be read."""
        size = self.sizes.get(path)
        if size is None or size > recorded.LARGEST_BYTES or self._opened is None:
            return None
        with self._review.acting(self._visitor):
            return recorded.read_text(*self._opened, path)


class ServedFiles:
    """A version's files, read through the MLflow server.

    Args:
        review: The review app's parts.
        visitor: Who asks.
        version: MLflow's fields of the version.
        run: MLflow's fields of its run; empty: it cannot be read.
    """

    def __init__(
        self, review: Review, visitor: Visitor, version: Mapping[str, Any], run: Mapping[str, Any]
    ) -> None:
        self._review, self._visitor = review, visitor
        self._version, self._run = version, run

    @functools.cached_property
    def sizes(self) -> Mapping[str, int]:
        """In bytes, by path; empty where they cannot be listed for the visitor."""
        try:
            return self._listed()
        except MlflowException:
            return {}

    def _listed(self) -> dict[str, int]:
        source = str(self._version.get("source") or "")
        root = str(self._run.get("info", {}).get("artifact_uri") or "\0")
        where: dict[str, str]
        if match := location.LOGGED_MODEL.fullmatch(source):
            path = f"logged-models/{match['id']}/artifacts/directories"
            where, base, key = {}, "", "artifact_directory_path"
        elif source.startswith(f"{root}/"):
            run_id = str(self._version.get("run_id"))
            path, where, base = "artifacts/list", {"run_id": run_id}, source[len(root) + 1 :]
            key = "path"
        else:
            return {}
        found: dict[str, int] = {}
        folders = [base]
        for folder in folders:
            params = {**where, **({key: folder} if folder else {})}
            answer = self._review.server.call("GET", path, self._visitor.credentials, params=params)
            for file in answer.get("files", ()):
                if file.get("is_dir"):
                    folders += [file["path"]] if len(folders) < _MAX_FOLDERS else []
                elif len(found) < _MAX_FILES:
                    inside = file["path"].removeprefix(f"{base}/") if base else file["path"]
                    found[inside] = int(file.get("file_size") or 0)
        return found

    def text(self, path: str) -> str | None:
        """Return a small text file; None if the visitor cannot read it."""
        where = {
            "name": str(self._version.get("name")),
            "version": str(self._version.get("version")),
            "path": path,
        }
        return served_text(self._review, self._visitor, "/model-versions/get-artifact", where)


def files_of(
    review: Review,
    visitor: Visitor,
    version: Mapping[str, Any],
    run: Mapping[str, Any],
) -> VersionFiles:
    """Return the files of a version, whose fields MLflow has told the visitor."""
    if not version:
        return NoFiles()
    if review.site.has_stores:
        return StoredFiles(review, visitor, str(version["name"]), int(version["version"]))
    return ServedFiles(review, visitor, version, run)


def served_text(
    review: Review, visitor: Visitor, path: str, where: Mapping[str, str]
) -> str | None:
    """Return a small text file that the server sends the visitor, or None if it does not."""
    try:
        return review.server.text(path, visitor.credentials, where, recorded.LARGEST_BYTES)
    except (MlflowException, UnicodeError):  # the name of a file may not be one of an address
        return None
