"""``init --restore``: write the format file of a store again, from what the store holds.

All of it is known but the store's id, which names local caches, and in an encrypted store the
keyring too.
"""

from __future__ import annotations

import itertools
import uuid

from mlflow_plugins_pack.artifacts.backends.base import Backend, ObjectMissingError
from mlflow_plugins_pack.artifacts.format import object_keys
from mlflow_plugins_pack.artifacts.format.chunker import ChunkerParameters
from mlflow_plugins_pack.artifacts.format.encryption import OBJECT_MAGIC
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
    segment = _first_segment(backend, prefix)
    # Of a store that was wiped in use a call may be left, and nothing else.
    if segment is None and object_keys.OWN_FOLDER not in backend.folders(prefix):
        raise StoreFormatError(
            f"There is no artifact store at {root.uri}. Nothing was changed. Give the folder that "
            f"holds {object_keys.OWN_FOLDER!r}, or make a store with `mlflow-pack artifacts init`."
        )
    found = _found_format(backend, root, segment)
    if damaged is None:
        backend.write_if_absent(key, encode_format(found))
    else:
        backend.write(key, encode_format(found))
    store = find_store(root)
    assert store is not None  # noqa: S101 - its format file was just written
    return store


def _found_format(backend: Backend, root: Location, segment: str | None) -> StoreFormat:
    """Return what the format file of a store must have said.

    Args:
        backend: The storage.
        root: The store's root.
        segment: The key of its first manifest segment, if there is any.
    """
    # Calls are ordered as those that are there, else as the service allows.
    if segment is None:
        own = object_keys.join(root.path, object_keys.OWN_FOLDER)
        is_numbered = backend.creates_exclusively(own)
    else:
        name = parse_segment_name(segment.rpartition("/")[2])
        is_numbered = name is not None and not name.writer
    keys = object_keys.join(root.path, object_keys.KEYS_PREFIX)
    ids = list(backend.folders(keys))
    if not ids:
        _refuse_sealed(backend, root, segment)
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


def _first_segment(backend: Backend, prefix: str) -> str | None:
    """Return the key of the first manifest segment, None if there is none."""
    for stored in backend.list(prefix):
        key = stored.key[len(prefix) :]
        if object_keys.scope_of_key(key) is not None and parse_segment_name(key.rpartition("/")[2]):
            return stored.key
    return None


def _refuse_sealed(backend: Backend, root: Location, segment: str | None) -> None:
    """Refuse to take an encrypted store whose keyring is gone for one in the clear.

    Raises:
        ArtifactKeyError: If a manifest segment or index delta is encrypted.
    """
    index = backend.list(object_keys.join(root.path, object_keys.INDEX_PREFIX))
    found = [segment, *(stored.key for stored in itertools.islice(index, 1))]
    for key in filter(None, found):
        try:
            is_sealed = backend.read(key, 0, len(OBJECT_MAGIC)) == OBJECT_MAGIC
        except ObjectMissingError:
            continue
        if is_sealed:
            raise ArtifactKeyError(
                f"The artifact store {root.uri} is encrypted, such as {key!r}, and has no keyring: "
                f"nothing of it can be read. Nothing was changed. Restore "
                f"{object_keys.KEYS_PREFIX!r} from a backup; or, if the store was wiped, remove "
                f"what is left of it and run `mlflow-pack artifacts init --encrypt {root.uri}`."
            )
