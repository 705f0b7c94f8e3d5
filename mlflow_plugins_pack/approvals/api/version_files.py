"""Reads the files of a version that MLflow lets the visitor read: their sizes, small texts.

MLflow decides the visitor's rights. Who may read a model's version may download each of its files
by name; which files there are, MLflow tells those who may read the run or logged model that they
belong to. With the server's stores at hand the files are read there, once MLflow has told the
visitor about the version and its run; else through the server, with the visitor's credentials.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from mlflow.exceptions import MlflowException

from mlflow_plugins_pack.approvals.api.review import Review
from mlflow_plugins_pack.approvals.api.visitors import Visitor
from mlflow_plugins_pack.approvals.content import location, recorded
from mlflow_plugins_pack.approvals.database import mlflow_tables

_MAX_FILES = 200
_MAX_FOLDERS = 20


class VersionFiles(Protocol):
    """The files of one version; any thread may read them."""

    @property
    def sizes(self) -> Mapping[str, int]:
        """In bytes, by path; empty where they cannot be read."""
        ...

    @property
    def digests(self) -> Mapping[str, str]:
        """SHA-256 in hex, by path, of those files whose store knows it."""
        ...

    def text(self, path: str) -> str | None:
        """Return a small text file; None if it cannot be read."""
        ...


class NoFiles:
    """The files of a version that cannot be read."""

    sizes: Mapping[str, int] = {}
    digests: Mapping[str, str] = {}

    def text(self, path: str) -> str | None:
        """Return nothing."""
        return None


class StoredFiles:
    """The files of a model's version, read in the server's own stores.

    Args:
        review: The review app's parts.
        visitor: Who asks; MLflow lets them read the version.
        version: MLflow's fields of the version.
        run: MLflow's fields of its run; empty: the visitor cannot read it.
        place: Where stock clients download the version from.
    """

    def __init__(
        self,
        review: Review,
        visitor: Visitor,
        version: Mapping[str, Any],
        run: Mapping[str, Any],
        place: str,
    ) -> None:
        self._review, self._visitor = review, visitor
        self._version, self._run, self._place = version, run, place

    @functools.cached_property
    def sizes(self) -> Mapping[str, int]:
        """In bytes, by path; empty where they cannot be listed for the visitor."""
        return self._stored if self._may_list() else {}

    @functools.cached_property
    def digests(self) -> Mapping[str, str]:
        """SHA-256 in hex, by path, of those files whose store knows it."""
        if not self.sizes or self._opened is None:
            return {}
        with self._review.acting(self._visitor):
            return recorded.digests(*self._opened)

    def _may_list(self) -> bool:
        """Return whether MLflow lists the files for the visitor."""
        listed = _listed_of(self._version, self._run)
        if listed is None or not listed.model_id:
            return listed is not None
        try:
            path = f"logged-models/{listed.model_id}"
            self._review.server.call("GET", path, self._visitor.credentials)
        except MlflowException:
            return False
        return True

    @functools.cached_property
    def _opened(self) -> tuple[Any, str | None] | None:
        place = self._place
        try:
            with self._review.acting(self._visitor):
                if match := location.LOGGED_MODEL.fullmatch(place):
                    place = location.tracking().get_logged_model(match["id"]).artifact_location
                return recorded.opened(place)
        except MlflowException:
            return None

    @functools.cached_property
    def _stored(self) -> Mapping[str, int]:
        if self._opened is None:
            return {}
        with self._review.acting(self._visitor):
            return recorded.sizes(*self._opened, files=_MAX_FILES, folders=_MAX_FOLDERS)

    def text(self, path: str) -> str | None:
        """Return a small text file; None if it cannot be read."""
        if self._opened is None:
            return None
        size = self._stored.get(path)
        if size is None and len(self._stored) < _MAX_FILES:
            return None
        with self._review.acting(self._visitor):
            if size is None:  # it may be among the files that were left out
                return recorded.read_small(*self._opened, path)
            if size > recorded.LARGEST_BYTES:
                return None
            return recorded.read_text(*self._opened, path)


@dataclass(frozen=True)
class _Listed:
    """The files that MLflow lists for a version.

    Attributes:
        model_id: The logged model that has them; empty: the version's run has them.
        folder: Their folder; empty: the root.
    """

    model_id: str
    folder: str


def _listed_of(version: Mapping[str, Any], run: Mapping[str, Any]) -> _Listed | None:
    """Return the files that MLflow lists for a version; None: it lists none."""
    source = str(version.get("source") or "")
    if match := location.LOGGED_MODEL.fullmatch(source):
        return _Listed(match["id"], "")
    root = str(run.get("info", {}).get("artifact_uri") or "\0")
    return _Listed("", source[len(root) + 1 :]) if source.startswith(f"{root}/") else None


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
        self.digests: Mapping[str, str] = {}  # MLflow serves none

    @functools.cached_property
    def sizes(self) -> Mapping[str, int]:
        """In bytes, by path; empty where they cannot be listed for the visitor."""
        try:
            return self._listed()
        except MlflowException:
            return {}

    def _listed(self) -> dict[str, int]:
        listed = _listed_of(self._version, self._run)
        if listed is None:
            return {}
        base, where = listed.folder, {"run_id": str(self._version.get("run_id"))}
        path, key = "artifacts/list", "path"
        if listed.model_id:
            path = f"logged-models/{listed.model_id}/artifacts/directories"
            where, key = {}, "artifact_directory_path"
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
    if not review.site.has_stores:
        return ServedFiles(review, visitor, version, run)
    about = (visitor.workspace, str(version["name"]), int(version["version"]))
    row = review.read(visitor, lambda s, _: mlflow_tables.find_version(s, *about))
    if row is None or row.is_prompt:
        # Who may read a prompt may not read the files of a model of that name.
        return ServedFiles(review, visitor, version, run)
    return StoredFiles(review, visitor, version, run, location.download_location(row))


def served_text(
    review: Review, visitor: Visitor, path: str, where: Mapping[str, str]
) -> str | None:
    """Return a small text file that the server sends the visitor, or None if it does not."""
    try:
        return review.server.text(path, visitor.credentials, where, recorded.LARGEST_BYTES)
    except (MlflowException, UnicodeError):  # the name of a file may not be one of an address
        return None
