"""Computes the digest of a version's content, to which approvals are bound.

The digest is that of `folder_digest`. A repository that keeps content addresses answers from its
manifest (`content_digest`); for any other the bytes are read once. A version whose bytes cannot be
read cannot be approved.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlparse

from mlflow.exceptions import MlflowException

from mlflow_plugins_pack.approvals.content import location as locations
from mlflow_plugins_pack.approvals.content.file_marks import marks_of, number_of_files
from mlflow_plugins_pack.approvals.content.hashing import (
    Progress,
    ReadingStoppedError,
    are_few,
    hash_files,
    hash_folder,
    list_files,
    on_disk,
)
from mlflow_plugins_pack.approvals.domain import messages
from mlflow_plugins_pack.approvals.domain.tag_names import is_prompt_content
from mlflow_plugins_pack.errors import DigestUnavailableError, SourceNotPinnedError
from mlflow_plugins_pack.folder_digest import digest_files
from mlflow_plugins_pack.settings import APPROVALS_DIGEST_SECONDS

MOST_MARKS = 5000
"""Files whose marks are compared where people wait: some five calls of S3."""

if TYPE_CHECKING:
    from mlflow_plugins_pack.approvals.database.mlflow_tables import Version


def tags_digest(tags: Mapping[str, str | None]) -> str:
    """Return the digest over the tags that a prompt consists of."""
    return digest_files(
        (key, len(content), hashlib.sha256(content).hexdigest())
        for key, value in tags.items()
        if is_prompt_content(key)
        for content in [(value or "").encode()]
    )


def version_digest(version: Version, tags: Mapping[str, str | None]) -> str:
    """Return the digest of a version as it is now, however long that takes.

    Args:
        version: The version.
        tags: Its tags; they are a prompt's content.

    Raises:
        DigestUnavailableError: If it has no content, or the content cannot be read.
    """
    return whole_digest(version, tags, Files(version).read(Progress()))


def whole_digest(version: Version, tags: Mapping[str, str | None], files: str | None) -> str:
    """Return the digest of a version from that of its files.

    Raises:
        DigestUnavailableError: If it has neither files nor text.
    """
    if files is not None and not version.is_prompt:
        return files
    if files is not None:
        both = f"{tags_digest(tags)}\n{files}\n"
        return f"sha256:{hashlib.sha256(both.encode()).hexdigest()}"
    if not any(is_prompt_content(key) for key in tags):
        raise DigestUnavailableError(
            f"version {version.version} of prompt '{version.name}' has no text. "
            "Nothing was changed. Register the prompt again."
        )
    return tags_digest(tags)


@dataclass(frozen=True)
class DigestResult:
    """The digest of what was read.

    Attributes:
        digest: The digest.
        file_marks: Marks of the files as they were read, by which a later write shows; None: the
            store has none, or reading again is as quick.
    """

    digest: str
    file_marks: str | None = None


class Files:
    """A version's files where they are now; any thread may read them.

    Args:
        version: The version.
    """

    def __init__(self, version: Version) -> None:
        self.version = version
        self.problem: DigestUnavailableError | None = None
        """Why the files cannot be reached."""
        self._location = locations.download_location(version)
        self._repository: Any = None
        self._path: str | None = None
        self._few: Path | None = None
        try:
            with _saying_why(version, self._location):
                if version.has_files:
                    self._location = locations.pinned_location(version)
                    self._repository, self._path = locations.repository_for(self._location)
        except DigestUnavailableError as exc:
            self.problem = exc

    @property
    def place(self) -> str | None:
        """The pinned location; None: the version has no files, or they cannot be reached."""
        return self._location if self._repository is not None else None

    def marks(self, most: int | None = None) -> str | None:
        """Return marks by which a later write of any file shows; see `file_marks`."""
        if self._repository is None or self._has_digest:
            return None
        try:
            return marks_of(self._repository, self._path, most)
        except Exception:  # noqa: BLE001 - a file that vanishes, a store that fails: no marks
            return None

    def marks_differ(self, marks: str | None) -> bool | None:
        """Return whether the marks are others than before; None: to tell would take too long."""
        if marks is None or number_of_files(marks) > MOST_MARKS:
            return None
        now = self.marks(MOST_MARKS)
        return None if now is None else now != marks

    def differ_from(
        self, tags: Mapping[str, str | None], digest: str, marks: str | None
    ) -> bool | None:
        """Return whether the version's content may be another than that of a digest.

        Args:
            tags: The version's tags; they are a prompt's content.
            digest: The digest.
            marks: The marks of the files as they were read for it.

        Returns:
            True also if large files were written since, with whatever content; None: to tell would
            take reading them all, or they cannot be read here.
        """
        if not self.is_quick:
            return self.marks_differ(marks)
        try:
            return whole_digest(self.version, tags, self.read(Progress())) != digest
        except DigestUnavailableError:
            return None

    @property
    def is_pinned(self) -> bool:
        """Whether a later write is refused by a lock, or shows by the files' marks."""
        return self.can_lock or not self.version.has_files or self.marks() is not None

    @functools.cached_property
    def is_quick(self) -> bool:
        """Whether reading them takes less time than looking for a running job."""
        if not self.version.has_files or self._has_digest:
            return True
        try:
            may_wait = APPROVALS_DIGEST_SECONDS.get() > 0
            root = on_disk(self._repository, self._path) if may_wait else None
            self._few = root if root is not None and are_few(root) else None
        except (MlflowException, OSError):
            return False  # `read` says why
        return self._few is not None

    @property
    def can_lock(self) -> bool:
        """Whether the repository can keep them as they are, and says at once what they are."""
        has_locks = callable(getattr(self._repository, "lock", None))
        return has_locks and self._has_digest and self.version.has_files

    def lock(self, reason: str) -> None:
        """Have the repository keep them as they are until they are unlocked for that reason.

        Raises:
            DigestUnavailableError: If it does not.
        """
        with _saying_why(self.version, self._location, "locked"):
            self._repository.lock(reason, self._path)

    def locked_for(self) -> set[str]:
        """Return the reasons of all locks on them."""
        found: dict[str, list[str]] = self._repository.locks(self._path)
        return {reason for reasons in found.values() for reason in reasons}

    def unlock(self, reasons: Iterable[str]) -> None:
        """Remove locks."""
        for reason in reasons:
            self._repository.unlock(reason, self._path)

    @property
    def _has_digest(self) -> bool:
        return callable(getattr(self._repository, "content_digest", None))

    def read(self, progress: Progress) -> str | None:
        """Return the digest; None if there are no files.

        Raises:
            DigestUnavailableError: If they cannot be read.
        """
        if self.problem is not None:
            raise self.problem
        if not self.version.has_files:
            return None
        with _saying_why(self.version, self._location):
            if self._has_digest:
                found: str = self._repository.content_digest(self._path)
                self._check_names(lambda: list_files(self._repository, self._path))
                return found
            if self._few is not None:
                files = hash_folder(self._few, progress)
            else:
                files = hash_files(self._repository, self._path, progress)
            self._check_names(lambda: [name for name, *_ in files])
            return digest_files(files)

    def _check_names(self, names: Callable[[], Collection[str]]) -> None:
        """Check that consumers load every file as it was read here.

        Raises:
            SourceNotPinnedError: If they would not.
        """
        if urlparse(self._location).scheme not in locations.PROXIED:
            return
        if (odd := locations.loaded_otherwise(names())) is not None:
            raise SourceNotPinnedError(
                messages.loaded_otherwise(
                    name=self.version.name, version=self.version.version, file=odd
                )
            )


@contextlib.contextmanager
def _saying_why(version: Version, location: str | None, act: str = "read") -> Iterator[None]:
    try:
        yield
    except (ReadingStoppedError, SourceNotPinnedError):
        raise
    except (MlflowException, OSError, ValueError, ImportError) as exc:
        message = exc.message if isinstance(exc, MlflowException) else str(exc)
        raise DigestUnavailableError(
            f"the files of version {version.version} of '{version.name}' at {location!r} cannot "
            f"be {act} here ({message}), so no approval can be bound to them. Nothing was changed. "
            "Store the artifacts where the server can read them and register the version again."
        ) from exc
    except Exception as exc:  # boto3, azure, ...: whatever it is, unread bytes are unapproved bytes
        raise DigestUnavailableError(
            f"the files of version {version.version} of '{version.name}' at {location!r} cannot "
            f"be {act} here ({type(exc).__name__}: {exc}), so no approval can be bound to them. "
            "Nothing was changed. Check the server's access to its artifact store."
        ) from exc


def downloaded_digest(version: Version, tags: Mapping[str, str | None]) -> str:
    """Return the digest of what a stock client downloads as a version, on this machine.

    Unlike `version_digest` it goes the client's way to the end: what the client would lay over or
    leave out is in the digest.

    Args:
        version: The version, with the location that the registry gives to clients.
        tags: Its tags; they are a prompt's content.

    Raises:
        DigestUnavailableError: If it cannot be downloaded.
    """
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
    from mlflow.store.artifact.models_artifact_repo import ModelsArtifactRepository

    if not version.has_files:
        return whole_digest(version, tags, None)
    location = locations.download_location(version)
    with (
        _saying_why(version, location),
        tempfile.TemporaryDirectory(prefix="mlflow-pack-verify-") as folder,
    ):
        repository = get_artifact_repository(location)
        if isinstance(repository, ModelsArtifactRepository):
            repository = repository.repo  # which adds no file about the registry
        root = on_disk(repository, None) or Path(repository.download_artifacts("", folder))
        files = digest_files(hash_folder(root, Progress()))
    return whole_digest(version, tags, files)
