"""The sides of the artifact cases: stock, the pack, boto3 alone, hf_xet.

*boto3* moves the same files with its own defaults and does nothing else with them: no repository
can be much faster than that. *hf_xet* is the client of the Hugging Face Hub's storage, which cuts
files into chunks of 64 KiB and stores each once; it writes to a local folder here.
"""

from __future__ import annotations

import importlib.util
import shutil
import uuid
from pathlib import Path
from typing import Any, Protocol

from benchmarks.targets import S3, RequestCounter, Target

BOTO3, XET = "boto3", "hf_xet"


class Side(Protocol):
    """One empty place to log to."""

    def log(self, step: int, folder: Path) -> None:
        """Store the files of a folder."""

    def download(self, step: int, goal: Path) -> None:
        """Write the files of a step into an empty folder."""

    def stored_bytes(self) -> int:
        """Return how many bytes the place holds."""

    def requests(self) -> RequestCounter | None:
        """Return what counts the requests to the storage; None if it gets none."""

    def remove(self) -> None:
        """Delete the place."""


class Repository:
    """Stock's repository or ours, driven as MLflow drives them: a new object per call."""

    def __init__(self, place: Target, scheme_prefix: str) -> None:
        self._place, self._root = place, place.new_root()
        self._uri = scheme_prefix + self._root

    def _open(self, step: int) -> Any:
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        # The server's own layout: experiment, run, artifacts.
        return get_artifact_repository(f"{self._uri}/1/{step:032x}/artifacts")

    def log(self, step: int, folder: Path) -> None:
        self._open(step).log_artifacts(str(folder))

    def download(self, step: int, goal: Path) -> None:
        self._open(step).download_artifacts("", str(goal))

    def stored_bytes(self) -> int:
        return self._place.stored_bytes(self._root)

    def requests(self) -> RequestCounter | None:
        return self._place.requests(self._root)

    def remove(self) -> None:
        self._place.remove(self._root)


class Boto3:
    """boto3's managed transfers, one file after the other, each in parts on ten threads."""

    def __init__(self, place: S3) -> None:
        import boto3

        self._place, self._root = place, place.new_root()
        self._client = boto3.client("s3", endpoint_url=place.endpoint)
        self._bucket = self._root.removeprefix("s3://").partition("/")[0]
        self._files: dict[int, list[tuple[Path, str]]] = {}

    def log(self, step: int, folder: Path) -> None:
        files = self._files[step] = [
            (path.relative_to(folder), f"{step}/{path.relative_to(folder).as_posix()}")
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        ]
        for path, key in files:
            with (folder / path).open("rb") as file:
                self._client.upload_fileobj(file, self._bucket, key)

    def download(self, step: int, goal: Path) -> None:
        for path, key in self._files[step]:
            (goal / path).parent.mkdir(parents=True, exist_ok=True)
            with (goal / path).open("wb") as file:
                self._client.download_fileobj(self._bucket, key, file)

    def stored_bytes(self) -> int:
        return self._place.stored_bytes(self._root)

    def requests(self) -> RequestCounter | None:
        return self._place.requests(self._root)

    def remove(self) -> None:
        self._place.remove(self._root)


class Xet:
    """hf_xet's local backend: its chunks and indexes in a folder, without a server."""

    def __init__(self, work: Path) -> None:
        import hf_xet

        self._folder = work / f"xet-{uuid.uuid4().hex}"
        self._endpoint = f"local://{self._folder}"
        self._session: Any = hf_xet.XetSession()
        self._files: dict[int, list[tuple[Path, Any]]] = {}

    def log(self, step: int, folder: Path) -> None:
        paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
        with self._session.new_upload_commit(endpoint=self._endpoint) as commit:
            uploads = [commit.start_upload_file(str(path)) for path in paths]
        self._files[step] = [
            (path.relative_to(folder), upload.result().xet_info)
            for path, upload in zip(paths, uploads, strict=True)
        ]

    def download(self, step: int, goal: Path) -> None:
        with self._session.new_file_download_group(endpoint=self._endpoint) as group:
            for path, info in self._files[step]:
                (goal / path).parent.mkdir(parents=True, exist_ok=True)
                group.start_download_file(info, str(goal / path))

    def requests(self) -> RequestCounter | None:
        return None

    def stored_bytes(self) -> int:
        # Next to what a server would keep there are the client's own caches.
        stored = (self._folder / "xet" / "xorbs").rglob("*")
        return sum(path.stat().st_size for path in stored if path.is_file())

    def remove(self) -> None:
        shutil.rmtree(self._folder)


def has_xet() -> bool:
    """Return whether hf_xet is installed."""
    return importlib.util.find_spec("hf_xet") is not None
