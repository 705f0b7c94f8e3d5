"""``init --restore``: write the format file of a store again, from what the store holds.

All of it is known but the store's id, which names local caches, and in an encrypted store the
keyring too.
"""

from __future__ import annotations

import uuid

from mlflow_plugins_pack.artifacts.backends.base import Backend, ObjectMissingError
from mlflow_plugins_pack.artifacts.format import object_keys
from mlflow_plugins_pack.artifacts.format.chunker import ChunkerParameters
from mlflow_plugins_pack.artifacts.format.format_file import (
    DamagedFormatError,
    StoreFormat,
    decode_format,
    encode_format,
)
from mlflow_plugins_pack.artifacts.format.segment_names import parse_segment_name
from mlflow_plugins_pack.artifacts.store.keyring import Keyring
from mlflow_plugins_pack.artifacts.store.opening import backend_of, find_store
from mlflow_plugins_pack.artifacts.store.store import Store
from mlflow_plugins_pack.artifacts.uri.location import Location
from mlflow_plugins_pack.errors import (
    ArtifactCorruptError,
    ArtifactKeyError,
    StoreFormatError,
)


def restore_format(root: Location) -> Store:
    """Write a store's format file again; a damaged one is kept below ``.cas/damaged/``.

    Raises:
        StoreFormatError: If it is neither missing nor damaged, or if there is no store.
        ArtifactKeyError: If the store is encrypted, and no key that is given opens it.
    """
    backend = backend_of(root).within(root.path)
    key = object_keys.join(root.path, object_keys.FORMAT_KEY)
    damaged = None
    try:
        damaged = backend.read(key)
        decode_format(damaged, root.uri)
    except ObjectMissingError:
        pass
    except DamagedFormatError:
        kept = f"{object_keys.DAMAGED_PREFIX}format-{uuid.uuid4().hex[:8]}.json"
        backend.write(object_keys.join(root.path, kept), damaged or b"")
    else:
        raise StoreFormatError(
            f"{object_keys.FORMAT_KEY} of the artifact store {root.uri} is neither missing nor "
            f"damaged. Nothing was changed."
        )
    prefix = f"{root.path}/" if root.path else ""
    if object_keys.OWN_FOLDER not in backend.folders(prefix):
        raise StoreFormatError(
            f"There is no artifact store at {root.uri}. Nothing was changed. Give the folder that "
            f"holds {object_keys.OWN_FOLDER!r}, or make a store with `mlflow-pack artifacts init`."
        )
    found = _found_format(backend, root)
    if damaged is None:
        backend.write_if_absent(key, encode_format(found))
    else:
        backend.write(key, encode_format(found))
    store = find_store(root)
    assert store is not None  # noqa: S101 - its format file was just written
    return store


def _found_format(backend: Backend, root: Location) -> StoreFormat:
    is_numbered = _is_numbered(backend, root)
    keys = object_keys.join(root.path, object_keys.KEYS_PREFIX)
    ids = list(backend.folders(keys))
    if not ids:
        return StoreFormat(str(uuid.uuid4()), ChunkerParameters(), is_numbered=is_numbered)
    errors = []
    for store_id in ids:
        parameters = ChunkerParameters()
        found = StoreFormat(store_id, parameters, is_encrypted=True, is_numbered=is_numbered)
        try:
            Keyring(backend, root.path, store_id, root.uri).load()
            if _opens(Store(backend, root, found)):
                return found
        except ArtifactKeyError as exc:
            errors.append(exc)
    if errors:
        raise errors[0]
    raise ArtifactKeyError(
        f"The keys that are given open a keyring of the artifact store {root.uri}, but nothing "
        f"that the store holds. Nothing was changed. Restore the keyring from a backup."
    )


def _opens(store: Store) -> bool:
    """Return whether a store's keys open the first object there is, if there is any."""
    for scope in store.manifests.scopes_under(""):
        for name in store.manifests.segment_names(scope):
            try:
                store.read_object(object_keys.segment_key(scope, name))
            except ObjectMissingError:
                continue
            except ArtifactCorruptError:
                return False
            return True
    return True


def _is_numbered(backend: Backend, root: Location) -> bool:
    """Return how calls are ordered: as those that are there, else as the service allows."""
    prefix = f"{root.path}/" if root.path else ""
    for stored in backend.list(prefix):
        name = parse_segment_name(stored.key.rpartition("/")[2])
        if name is not None and object_keys.scope_of_key(stored.key[len(prefix) :]) is not None:
            return not name.writer
    return backend.creates_exclusively(object_keys.join(root.path, object_keys.OWN_FOLDER))
