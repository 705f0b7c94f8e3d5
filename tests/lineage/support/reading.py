"""Reads runs back with the stock client, as any other user would."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mlflow import MlflowClient


class RunRecord:
    """A run's lineage as it stands on the server."""

    def __init__(self, tracking_uri: str, run_id: str) -> None:
        self.client = MlflowClient(tracking_uri)
        self.run = self.client.get_run(run_id)
        self.tags: dict[str, str] = {
            k.removeprefix("lineage."): v
            for k, v in self.run.data.tags.items()
            if k.startswith("lineage.")
        }

    @property
    def status(self) -> str:
        return str(self.run.info.status)

    def entries(self, which: str = "inputs") -> dict[str, dict[str, Any]]:
        """Return a tag's entries by the last part of their URI."""
        return {e["u"].rstrip("/").rpartition("/")[2]: e for e in json.loads(self.tags[which])}

    def inputs(self) -> set[str]:
        """Return the last parts of all inputs."""
        return set(self.entries())

    def own(self) -> set[str]:
        """Return the last parts of the inputs that the run read itself."""
        return {name for name, entry in self.entries().items() if not entry.get("shared")}

    def outputs(self) -> set[str]:
        """Return the last parts of all outputs."""
        return set(self.entries("outputs"))

    def datasets(self) -> dict[str, str]:
        """Return names and digests of the datasets with context ``read``."""
        return {
            i.dataset.name: i.dataset.digest
            for i in self.run.inputs.dataset_inputs
            if ("mlflow.data.context", "read") in {(t.key, t.value) for t in i.tags}
        }

    def document(self, folder: Path) -> dict[str, Any]:
        """Return ``lineage/lineage.json``."""
        path = self.client.download_artifacts(
            self.run.info.run_id, "lineage/lineage.json", str(folder)
        )
        value: dict[str, Any] = json.loads(Path(path).read_text())
        return value
