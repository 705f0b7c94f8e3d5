"""The artifact repository that stock MLflow loads for the ``cas-`` schemes.

It is imported inside ``import mlflow``: everything but the base class is imported on first use.
"""

from __future__ import annotations

import asyncio
import io
import os
from collections.abc import AsyncIterable
from typing import TYPE_CHECKING, Any, BinaryIO

from mlflow.store.artifact import artifact_repo

if TYPE_CHECKING:
    from mlflow.entities import FileInfo

    from mlflow_plugins_pack.artifacts.uri.location import Location

_WRITE_BYTES = 1024 * 1024

# Tells a server that uploads need no temporary file; MLflow before 3.15 makes one in any case.
_StreamUploadMixin: type = getattr(artifact_repo, "StreamUploadMixin", object)


class CasArtifactRepository(artifact_repo.ArtifactRepository, _StreamUploadMixin):
    """Stores artifacts deduplicated and verified; the format is described in the docs.

    The constructor only remembers its arguments: a wrong URI or setting surfaces in the first
    call that needs it.
    """

    def __init__(
        self, artifact_uri: str, tracking_uri: str | None = None, registry_uri: str | None = None
    ) -> None:
        super().__init__(artifact_uri, tracking_uri, registry_uri)

    def _location(self) -> Location:
        from mlflow_plugins_pack.artifacts.repository import open_location

        return open_location(self.artifact_uri)

    def log_artifact(self, local_file: Any, artifact_path: str | None = None) -> None:
        """Store a local file in the folder ``artifact_path``."""
        from mlflow_plugins_pack.artifacts import repository

        repository.log_file(self._location(), local_file, artifact_path)

    def log_artifacts(self, local_dir: Any, artifact_path: str | None = None) -> None:
        """Store the files of a local folder in the folder ``artifact_path``, all or none."""
        from mlflow_plugins_pack.artifacts import repository

        repository.log_folder(self._location(), os.fspath(local_dir), artifact_path)

    def log_artifact_from_stream(
        self, stream: BinaryIO, artifact_file_name: str, artifact_path: str | None = None
    ) -> None:
        """Store what a binary stream gives, without a temporary file."""
        from mlflow_plugins_pack.artifacts import repository

        repository.log_stream(self._location(), stream, artifact_file_name, artifact_path)

    async def log_artifact_from_async_stream(
        self,
        chunks: AsyncIterable[bytes],
        artifact_file_name: str,
        artifact_path: str | None = None,
    ) -> None:
        """Store what an async stream gives; an upload that breaks off leaves nothing."""
        from mlflow_plugins_pack.artifacts import repository

        def begin() -> repository.StreamedFile:
            return repository.StreamedFile(self._location(), artifact_file_name, artifact_path)

        file: repository.StreamedFile | None = None
        try:
            waiting = bytearray()
            async for chunk in chunks:
                waiting += chunk
                if len(waiting) >= _WRITE_BYTES:
                    data, waiting = bytes(waiting), bytearray()
                    if file is None:
                        file = await asyncio.to_thread(begin)
                    await asyncio.to_thread(file.write, data)
            rest = bytes(waiting)
            if file is None:
                # A small file takes one turn of a thread.
                await asyncio.to_thread(lambda: begin().finish(rest))
            else:
                await asyncio.to_thread(file.finish, rest)
        except BaseException:
            if file is not None:
                file.abandon()
            raise

    def list_artifacts(self, path: str | None = None) -> list[FileInfo]:
        """List what is directly in the folder ``path``, sorted; a file's list is empty."""
        from mlflow_plugins_pack.artifacts import reading

        return reading.list_files(self._location(), path)

    def download_artifacts(self, artifact_path: str | None, dst_path: str | None = None) -> str:
        """Download a file or folder, every byte checked, and return its local path."""
        from mlflow_plugins_pack.artifacts import reading

        return reading.download_to(self._location(), artifact_path, dst_path)

    def _download_file(self, remote_file_path: str, local_path: Any) -> None:
        from mlflow_plugins_pack.artifacts import reading

        reading.download_file(self._location(), remote_file_path, local_path)

    def delete_artifacts(self, artifact_path: str | None = None) -> None:
        """Delete a file, a folder or, without a path, everything.

        A path that does not exist is not an error.
        """
        from mlflow_plugins_pack.artifacts import repository

        repository.delete(self._location(), artifact_path)

    def upload_archived_trace_data_bytes(self, data: bytes) -> None:
        """Store an archived trace without a temporary file."""
        from mlflow.tracing.otel.otel_archival import TRACE_ARCHIVAL_FILENAME

        self.log_artifact_from_stream(io.BytesIO(data), TRACE_ARCHIVAL_FILENAME)

    def open_artifact(self, artifact_path: str) -> BinaryIO:
        """Open a stored file for reading, seekable, where only a part of it is needed.

        Only the chunks that a read touches are fetched, and each is checked. The file as it was
        when it was opened is read, whatever is logged meanwhile.

        Raises:
            ArtifactNotFoundError: If there is no such file.
        """
        from mlflow_plugins_pack.artifacts import reading

        return reading.open_artifact(self._location(), artifact_path)

    def content_digest(self, artifact_path: str | None = None) -> str:
        r"""Return the digest of all files under a path from the manifest, without reading data.

        The digest is the sha256 over one line ``{path}\0{size}\0{sha256 hex}\n`` per file,
        sorted by the bytes of the path, which is relative to ``artifact_path``.

        Args:
            artifact_path: A folder or file; everything if not given.

        Returns:
            ``sha256:`` and 64 hex digits.

        Raises:
            ArtifactNotFoundError: If there is no such artifact.
        """
        from mlflow_plugins_pack.artifacts import reading

        return reading.content_digest(self._location(), artifact_path)

    def file_digests(self, artifact_path: str | None = None) -> dict[str, str]:
        """Return the SHA-256 of each file under a path from the manifest, without reading data.

        Args:
            artifact_path: A folder or file; everything if not given.

        Returns:
            64 hex digits by the file's path, which is relative to ``artifact_path``.

        Raises:
            ArtifactNotFoundError: If there is no such artifact.
        """
        from mlflow_plugins_pack.artifacts import reading

        return reading.file_digests(self._location(), artifact_path)

    def lock(self, reason: str, artifact_path: str | None = None) -> None:
        """Refuse every change of what is at and under a path, until `unlock` with this reason.

        Logging over it, into it and deleting it are refused with CONTENT_LOCKED and the reason,
        for every caller. Several reasons may hold at once. No data is read.

        Args:
            reason: Why, for those who are refused, and which lock this is: at most 1,000
                characters. Locking again for the same reason changes nothing.
            artifact_path: A folder or file of one run or model; everything if not given.

        Raises:
            ArtifactNotFoundError: If the path does not exist.
        """
        from mlflow_plugins_pack.artifacts import repository

        repository.lock(self._location(), artifact_path, reason)

    def unlock(self, reason: str, artifact_path: str | None = None) -> None:
        """Remove the lock with this reason and path; a lock that does not exist is not an error."""
        from mlflow_plugins_pack.artifacts import repository

        repository.unlock(self._location(), artifact_path, reason)

    def locks(self, artifact_path: str | None = None) -> dict[str, list[str]]:
        """Return the reasons of the locks that concern a path, by the path that is locked."""
        from mlflow_plugins_pack.artifacts import repository

        return repository.locks(self._location(), artifact_path)
