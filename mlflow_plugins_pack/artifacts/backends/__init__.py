"""One module per storage, and the contract that all of them fulfil (`base`).

May import ``uri`` and what is below it. Never imports a store: a backend knows objects and keys.
A new storage is one module here with ``open_backend`` and one entry in `uri.schemes.SCHEMES`.
"""

from __future__ import annotations

import importlib

from mlflow_plugins_pack.artifacts.backends.base import Backend
from mlflow_plugins_pack.artifacts.uri.location import Location
from mlflow_plugins_pack.artifacts.uri.schemes import SCHEMES
from mlflow_plugins_pack.errors import ConfigurationError


def open_backend(location: Location) -> Backend:
    """Return the backend that serves a location; nothing is contacted yet.

    Raises:
        ConfigurationError: If a setting of the backend is unusable, or its library not installed.
        StorageCredentialsError: If its credentials can be seen to be missing or malformed.
    """
    # Imported now: a cloud's library takes a third of a second, and most processes need none.
    scheme = SCHEMES[location.scheme]
    try:
        module = importlib.import_module(f"{__name__}.{scheme.backend}")
    except ModuleNotFoundError as exc:
        if not scheme.extra:
            raise
        raise ConfigurationError(
            f"{location.uri} needs a library that is not installed ({exc.name}). Nothing was "
            f"opened. Run `pip install 'mlflow-plugins-pack[{scheme.extra}]'`."
        ) from exc
    backend: Backend = module.open_backend(location)
    return backend
