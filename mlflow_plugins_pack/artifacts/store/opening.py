"""Finds, opens and makes stores; one client per storage and one open store per place in a process.

Clients are replaced from time to time, and whenever a setting that concerns them changes.
"""

from __future__ import annotations

import os
import threading
import uuid
from typing import Any

from cachetools import TTLCache

from mlflow_plugins_pack import settings as config
from mlflow_plugins_pack.artifacts.backends import open_backend
from mlflow_plugins_pack.artifacts.backends.base import Backend, ObjectMissingError
from mlflow_plugins_pack.artifacts.format import object_keys
from mlflow_plugins_pack.artifacts.format.chunker import ChunkerParameters
from mlflow_plugins_pack.artifacts.format.encryption import make_store_keys
from mlflow_plugins_pack.artifacts.format.format_file import (
    StoreFormat,
    decode_format,
    encode_format,
)
from mlflow_plugins_pack.artifacts.store.foreign_data import (
    refuse_data_without_store,
    refuse_foreign_data,
)
from mlflow_plugins_pack.artifacts.store.keyring import Keyring, read_master_keys
from mlflow_plugins_pack.artifacts.store.reserve import keep_reserve
from mlflow_plugins_pack.artifacts.store.store import Store
from mlflow_plugins_pack.artifacts.uri.allowed_roots import allowed_roots, is_server
from mlflow_plugins_pack.artifacts.uri.location import Location
from mlflow_plugins_pack.artifacts.uri.schemes import SCHEMES
from mlflow_plugins_pack.errors import ArtifactKeyError, ConfigurationError, StorageDeniedError

_BACKEND_SECONDS = 300
"""A client is replaced this often, as stock MLflow's is, for credentials that rotate on disk."""

_backends: TTLCache[tuple[Any, ...], Backend] = TTLCache(256, _BACKEND_SECONDS)
_stores: dict[tuple[Any, ...], Store] = {}
_opening = threading.Lock()


def _fingerprint(location: Location) -> tuple[Any, ...]:
    prefixes = SCHEMES[location.scheme].environment
    names = sorted(name for name in os.environ if name.startswith(prefixes)) if prefixes else ()
    settings = tuple((name, os.environ.get(name)) for name in names)
    keys = os.environ.get(config.ARTIFACT_KEYS.name)
    return (os.getpid(), location.scheme, location.container, settings, keys)


def backend_of(location: Location) -> Backend:
    """Return the process's backend for a location."""
    return _backend(location, _fingerprint(location))


def _backend(location: Location, identity: tuple[Any, ...]) -> Backend:
    with _opening:
        backend = _backends.get(identity)
        if backend is None:
            backend = _backends[identity] = open_backend(location)
        return backend


def find_store(location: Location) -> Store | None:
    """Return the store that a location belongs to, or None if none exists yet.

    It is the nearest folder at or above the location that holds a format file.

    Raises:
        StoreFormatError: If the store cannot be read by this version.
        StorageError: If the storage fails.
    """
    identity = _fingerprint(location)
    backend = _backend(location, identity)
    above = object_keys.ancestors(location.path)
    for path in above:
        if (known := _stores.get((*identity, path))) is not None:
            # Credentials and settings may be newer than the store's first client.
            known.backend = backend
            return known
    expected = _root_of(location)
    for path in above:
        try:
            data = backend.read(object_keys.join(path, object_keys.FORMAT_KEY))
        except ObjectMissingError:
            continue
        except StorageDeniedError:
            # Credentials that end at a prefix may not look above it.
            if path != expected and object_keys.relative_to(expected, path) is not None:
                continue
            raise
        return _remember(backend, location.at(path), data)
    return None


def _root_of(location: Location) -> str:
    """Return where the store of a location begins, if one is to be made.

    On a server that is the destination or root that its operator named; elsewhere MLflow's layout
    is taken off the end of the path.
    """
    roots = allowed_roots(os.environ, config.ARTIFACT_ROOTS.get())
    named = [r.path for r in roots if r.contains(location)] if is_server(os.environ) else []
    return max(named, key=len) if named else object_keys.default_root(location.path)


def _remember(backend: Backend, root: Location, data: bytes) -> Store:
    key = (*_fingerprint(root), root.path)
    store_format = decode_format(data, root.uri)
    with _opening:
        store = _stores.get(key)
        if store is None or store.format != store_format:
            store = _stores[key] = Store(backend, root, store_format)
        store.backend = backend
        return store


def refuse_missing_store(location: Location) -> None:
    """Refuse to take a location for empty that is in no store and has data.

    Raises:
        ForeignDataError: If stock MLflow left artifacts there.
        DamagedFormatError: If the format file of its store is missing.
    """
    root = location.at(_root_of(location))
    refuse_data_without_store(backend_of(location), location, root)


def forget_store(store: Store) -> None:
    """Find a store again before its next use: it turned out to be another one by now."""
    with _opening:
        for key in [key for key, known in _stores.items() if known is store]:
            del _stores[key]


def open_store(location: Location) -> Store:
    """Return the store that a location belongs to, to write to it, and create it if needed.

    Raises:
        ArtifactKeyError: If only encrypted stores may be written to, and it is not one.
        ConfigurationError: If it must be created by `artifacts init`.
    """
    store = find_store(location)
    is_required = config.ARTIFACT_ENCRYPT.get()
    if store is None:
        root = location.at(_root_of(location))
        if is_required:
            _refuse_two_keyrings(root)
        store = create_store(root, is_encrypted=is_required)
    if is_required and not store.format.is_encrypted:
        # Else a replaced format file would make every client write in the clear.
        raise ArtifactKeyError(
            f"The artifact store {store.location.uri} is not encrypted, and "
            f"{config.ARTIFACT_ENCRYPT.name} is set. Nothing was written. Copy it into an "
            f"encrypted one with `mlflow-pack artifacts migrate`, or unset the setting."
        )
    return store


def _refuse_two_keyrings(root: Location) -> None:
    """Refuse to create an encrypted store where two hosts at once would each create their own.

    Raises:
        ConfigurationError: If the service ignores conditional writes.
    """
    backend = backend_of(root).within(root.path)
    if not backend.creates_exclusively(object_keys.join(root.path, object_keys.OWN_FOLDER)):
        raise ConfigurationError(
            f"There is no artifact store at {root.uri} yet, and this storage ignores conditional "
            f"writes: two hosts at once would each create an encrypted store with keys of their "
            f"own, and one would lose what it wrote. Nothing was written. Run `mlflow-pack "
            f"artifacts init --encrypt {root.uri}` once, on one host."
        )


def create_store(root: Location, *, is_encrypted: bool = False) -> Store:
    """Make a store, or return the one that another process has just made at the same place.

    Raises:
        ArtifactKeyError: If it is to be encrypted, and there is no key.
        ForeignDataError: If stock MLflow has artifacts there, or a store is below.
    """
    backend = backend_of(root).within(root.path)
    refuse_foreign_data(backend, root)
    key = object_keys.join(root.path, object_keys.FORMAT_KEY)
    store_id = str(uuid.uuid4())
    if is_encrypted:
        # First: a process that finds the format file finds the keys too.
        masters = read_master_keys()
        if not masters:
            raise ArtifactKeyError(
                f"An encrypted store at {root.uri} needs a key, and {config.ARTIFACT_KEYS.name} "
                f"is not set. Nothing was made. Make a key with `openssl rand -base64 32`, keep "
                f"it in a safe place, and set {config.ARTIFACT_KEYS.name}=file:/path."
            )
        keyring = Keyring(backend, root.path, store_id, root.uri)
        keyring.write(masters[0], make_store_keys())
    is_numbered = backend.creates_exclusively(object_keys.join(root.path, object_keys.OWN_FOLDER))
    fresh = StoreFormat(store_id, ChunkerParameters(), is_encrypted, is_numbered)
    backend.write_if_absent(key, encode_format(fresh))
    # Read back: another process may have been first, or have replaced ours on a server that
    # ignores the condition.
    store = _remember(backend, root, backend.read(key))
    if is_encrypted and store.format.store_id != store_id:
        keyring.remove([masters[0].name])
    keep_reserve(store)
    return store
