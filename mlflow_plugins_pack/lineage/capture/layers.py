"""The capture layers by name, and which libraries' imports each waits for; a leaf, for the start.

The modules on the right are loaded when one of theirs is; each has a function `wrap`.
"""

from __future__ import annotations

_CAPTURE = "mlflow_plugins_pack.lineage.capture"
_LIBRARIES = f"{_CAPTURE}.libraries"

LAYERS = ("audit", "wrap", "boto", "azure", "http", "sql", "mlflow", "spool")

_ARROW = ("", ".parquet.core", ".dataset", ".csv", ".json", ".feather", ".orc")
WAITS: dict[str, dict[str, tuple[str, ...]]] = {
    "wrap": {
        f"{_LIBRARIES}.tables": (
            *(f"pyarrow{name}" for name in _ARROW),
            "pandas.io.parquet",
            "polars",
            "duckdb",
        ),
        f"{_LIBRARIES}.arrays": (
            "h5py",
            "tables.file",
            "cv2",
            "safetensors",
            "safetensors.numpy",
            "safetensors.torch",
            "torch.serialization",
            "xgboost.core",
            "lightgbm.basic",
            "deltalake.table",
            "deltalake.writer.writer",
            "datasets.load",
        ),
    },
    "boto": {f"{_LIBRARIES}.s3": ("botocore.session",)},
    "azure": {f"{_LIBRARIES}.azure": ("azure.storage.blob", "azure.storage.blob.aio")},
    "http": {
        f"{_LIBRARIES}.http": ("requests.sessions", "urllib.request", "httpx", "aiohttp.client")
    },
    "sql": {f"{_LIBRARIES}.sql": ("sqlalchemy",)},
    "mlflow": {
        f"{_LIBRARIES}.mlflow": (
            "mlflow.store.artifact.runs_artifact_repo",
            "mlflow.store.artifact.models_artifact_repo",
            "mlflow.tracking.client",
            "mlflow.tracking._model_registry.client",
        )
    },
    "spool": {
        f"{_CAPTURE}.child_processes": (
            "multiprocessing.spawn",
            "joblib.externals.loky.backend.spawn",
            "loky.backend.spawn",
        )
    },
}


def targets(layers: tuple[str, ...]) -> dict[str, tuple[str, str]]:
    """Return what `imports.when_imported` needs for the layers that are on."""
    return {
        waited: (module, "wrap")
        for layer in layers
        for module, names in WAITS.get(layer, {}).items()
        for waited in names
    }


SEEN_INTO = tuple(
    dict.fromkeys(name.partition(".")[0] for names in WAITS["wrap"].values() for name in names)
)
"""Libraries that open files in native code and that the layer `wrap` covers."""

NOT_SEEN_INTO = (
    "adbc_driver_manager",
    "catboost",
    "cudf",
    "connectorx",
    "pymongo",
    "pyspark",
    "ray",
    "tensorflow",
)
"""Libraries that read data where no layer looks."""
