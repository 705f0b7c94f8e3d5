"""Plugin: the dataset source by which MLflow loads again what a run read or wrote.

Stock MLflow's own sources load objects of a cloud store and files on the web. This one is for local
files, whose content may have changed since, and for what has no source type in MLflow, as tables.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mlflow_plugins_pack.lineage.document.datasets import OWN_SOURCE_TYPE


class RecordedSource:
    """A place, and the content that was there when a run read or wrote it.

    It has the methods of MLflow's `DatasetSource` without being a subclass: importing that would
    import every artifact store.

    Args:
        uri: The place, as the record names it.
        digest: ``sha256:<hex>`` of the whole content, or None if it is not known.
        version: Its version, or None.
        origin: The artifact that a local file was downloaded from, or None.
    """

    def __init__(
        self,
        uri: str,
        digest: str | None = None,
        version: str | None = None,
        origin: str | None = None,
    ) -> None:
        self.uri = uri
        self.digest = digest
        self.version = version
        self.origin = origin

    @staticmethod
    def _get_source_type() -> str:
        return OWN_SOURCE_TYPE

    @staticmethod
    def _can_resolve(raw_source: Any) -> bool:  # noqa: ARG004  # MLflow's name for it
        """Return False: what a person logs keeps the source type that stock MLflow gives it."""
        return False

    @classmethod
    def _resolve(cls, raw_source: Any) -> RecordedSource:
        raise NotImplementedError(f"{cls.__name__} is read from a run, not made of {raw_source!r}")

    def to_dict(self) -> dict[str, Any]:
        """Return what `from_dict` takes."""
        values = (
            ("uri", self.uri),
            ("digest", self.digest),
            ("version", self.version),
            ("from", self.origin),
        )
        return {key: value for key, value in values if value is not None}

    def to_json(self) -> str:
        """Return what `from_json` takes."""
        return json.dumps(self.to_dict())

    @classmethod
    def from_json(cls, source_json: str) -> RecordedSource:
        """Return the source that `to_json` described."""
        return cls.from_dict(json.loads(source_json))

    @classmethod
    def from_dict(cls, source_dict: dict[Any, Any]) -> RecordedSource:
        """Return the source that `to_dict` described."""
        return cls(
            str(source_dict["uri"]),
            source_dict.get("digest"),
            source_dict.get("version"),
            source_dict.get("from"),
        )

    def load(self, dst_path: str | None = None) -> str:
        """Return a local path at which the content is that was recorded.

        Args:
            dst_path: Folder to download to, if the file must be downloaded; a new one if None.

        Raises:
            LineageSourceError: If the content is not there any more, or is not a file.
        """
        from mlflow_plugins_pack.errors import LineageSourceError
        from mlflow_plugins_pack.lineage.document.graph import path_of, shown_uri

        shown = shown_uri(self.uri)
        if not self.uri.startswith("file://"):
            raise LineageSourceError(
                f"{shown} is not a file that can be downloaded. Nothing was loaded. Read it with "
                f"the library and the credentials that the run used."
            )
        path = Path(path_of(self.uri, str(Path.home())))
        if self._is_recorded(path):
            return str(path)
        if self.origin:
            from mlflow.artifacts import download_artifacts

            fetched = Path(download_artifacts(artifact_uri=self.origin, dst_path=dst_path))
            if self._is_recorded(fetched):
                return str(fetched)
        now = "has another content now" if path.exists() else "does not exist here"
        known = f" {self.version} names what was there." if self.version else ""
        raise LineageSourceError(
            f"{shown} {now} than the run recorded ({self.digest or 'not hashed'}). Nothing was "
            f"loaded.{known} `mlflow-pack lineage used-by {self.digest or self.uri}` finds other "
            f"places that had this content."
        )

    def _is_recorded(self, path: Path) -> bool:
        """Return whether a path has the content; of what was not hashed, whether it exists."""
        from mlflow_plugins_pack.lineage.files import file_state
        from mlflow_plugins_pack.lineage.fingerprints.hashing import Fingerprinter

        if self.digest is None or path.is_dir():
            return path.exists()
        state = file_state(str(path))
        if state is None:
            return False
        made = Fingerprinter().fingerprint(str(path), state, full=True)
        return made is not None and made.digest == self.digest
