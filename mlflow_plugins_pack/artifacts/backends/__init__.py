"""Where a store's objects live: a folder, an S3 bucket, an Azure container."""

from __future__ import annotations

from mlflow_plugins_pack.artifacts.backends.base import Backend
from mlflow_plugins_pack.artifacts.uri.location import Location


def open_backend(location: Location) -> Backend:
    """Return the backend that serves a location; nothing is contacted yet.

    Raises:
        ConfigurationError: If a setting of the backend is unusable.
        StorageCredentialsError: If its credentials can be seen to be missing or malformed.
    """
    # Imported here: each cloud's library takes a third of a second and most processes need none.
    if location.scheme == "s3":
        from mlflow_plugins_pack.artifacts.backends.s3 import S3Backend

        return S3Backend.open(location)
    if location.scheme == "wasbs":
        from mlflow_plugins_pack.artifacts.backends.azure import AzureBackend

        return AzureBackend.open(location)
    from mlflow_plugins_pack.artifacts.backends.local import LocalBackend

    return LocalBackend()
