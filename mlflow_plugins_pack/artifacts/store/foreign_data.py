"""Finds what a store must not be put over: artifacts that stock MLflow left, and other stores."""

from __future__ import annotations

import itertools

from mlflow_plugins_pack import uris
from mlflow_plugins_pack.artifacts.backends.base import Backend
from mlflow_plugins_pack.artifacts.format import object_keys
from mlflow_plugins_pack.artifacts.format.format_file import DamagedFormatError
from mlflow_plugins_pack.artifacts.format.segment_names import parse_segment_name
from mlflow_plugins_pack.artifacts.uri.location import Location
from mlflow_plugins_pack.errors import ForeignDataError

_LOOKED_AT = 1000
"""Objects of a new store's folder that are looked at: one page of a listing."""


def refuse_foreign_data(backend: Backend, root: Location) -> None:
    """Refuse to make a store where stock MLflow has runs, or above another store.

    Of a large bucket only the first objects are looked at.

    Raises:
        ForeignDataError: If one of them was written by stock MLflow or belongs to a store.
        DamagedFormatError: If there is a store whose format file is missing.
    """
    prefix = f"{root.path}/" if root.path else ""
    for stored in itertools.islice(backend.list(prefix), _LOOKED_AT):
        key = stored.key[len(prefix) :]
        if _tells_of_store(key):
            refuse_lost_format(backend, root)
            continue
        above, own, _ = f"/{key}".partition(f"/{object_keys.OWN_FOLDER}/")
        if own:
            if not above:
                # A store that is being made here, by this process or another one.
                continue
            inner = root.at(object_keys.join(root.path, above.strip("/")))
            raise ForeignDataError(
                f"There is another artifact store at {inner.uri}, below {root.uri}: each would "
                f"take the other's data for damage. Nothing was made. Use that store, or copy it "
                f"with `mlflow-pack artifacts migrate` and delete it."
            )
        if object_keys.split_scope(key)[0] and object_keys.SEGMENT_FOLDER not in key.split("/"):
            raise _stock_data(root, stored.key)


def _tells_of_store(key: str) -> bool:
    """Return whether a key, relative to a store, is of something that is there after the format."""
    written = (object_keys.PACK_PREFIX, object_keys.INDEX_PREFIX, object_keys.DAMAGED_PREFIX)
    return key.startswith(written) or _is_call(key)


def _is_call(key: str) -> bool:
    """Return whether an object holds calls.

    A marker or receipt alone is what a process left that wrote it while the storage was wiped.
    """
    is_own = object_keys.scope_of_key(key) is not None
    return is_own and parse_segment_name(key.rpartition("/")[2]) is not None


def refuse_lost_format(backend: Backend, root: Location) -> None:
    """Refuse to take a store for none whose format file is missing.

    Raises:
        DamagedFormatError: If it is; not if another process has written it by now.
    """
    if backend.size(object_keys.join(root.path, object_keys.FORMAT_KEY)) is None:
        raise DamagedFormatError(
            f"{object_keys.FORMAT_KEY} of the artifact store {root.uri} is missing, though the "
            f"store holds data. Nothing was read or written. Run `mlflow-pack artifacts init "
            f"--restore {root.uri}`, which writes the file again."
        )


def refuse_data_without_store(backend: Backend, place: Location, root: Location) -> None:
    """Refuse to show a folder as empty that is in no store, but has data in it.

    Args:
        backend: The storage.
        place: The folder.
        root: Where its store would be.

    Raises:
        ForeignDataError: If stock MLflow left artifacts there.
        DamagedFormatError: If they were stored, and the store's format file is missing.
    """
    prefix = f"{place.path}/" if place.path else ""
    for stored in backend.list(prefix):
        parts = stored.key[len(prefix) :].split("/")
        if object_keys.scope_of_key(stored.key) is not None and not _is_call(stored.key):
            continue
        if object_keys.SEGMENT_FOLDER in parts or object_keys.OWN_FOLDER in parts[:-1]:
            for path in object_keys.ancestors(place.path):
                own = object_keys.join(path, object_keys.OWN_FOLDER) + "/"
                if next(iter(backend.list(own)), None) is not None:
                    root = place.at(path)
                    break
            refuse_lost_format(backend, root)
            return
    refuse_stock_data(backend, place, root)


def refuse_stock_data(backend: Backend, place: Location, root: Location | None = None) -> None:
    """Refuse to show a folder as empty in which stock MLflow left artifacts.

    Args:
        backend: The storage.
        place: The folder.
        root: What is to be copied, if the folder is in no store.

    Raises:
        ForeignDataError: If it did.
    """
    prefix = f"{place.path}/" if place.path else ""
    for stored in backend.list(prefix):
        parts = stored.key[len(prefix) :].split("/")
        if {object_keys.OWN_FOLDER, object_keys.SEGMENT_FOLDER}.intersection(parts):
            continue
        if root is not None:
            raise _stock_data(root, stored.key)
        stock = uris.to_stock(uris.ARTIFACT_WORD, place.uri)
        raise ForeignDataError(
            f"{place.uri} has artifacts that were stored without the pack, such as "
            f"{stored.key!r}; the store does not hold them. Nothing was read or written. Take them "
            f"into the store with `mlflow-pack artifacts import {stock} {place.uri}`, which leaves "
            f"them where they are."
        )


def _stock_data(root: Location, key: str) -> ForeignDataError:
    stock = uris.to_stock(uris.ARTIFACT_WORD, root.uri)
    near = f"{root.uri}{'-' if root.path else '/'}store"
    return ForeignDataError(
        f"{root.uri} has artifacts that were stored without the pack, such as {key!r}; they are "
        f"not part of a store. Nothing was read or written. Copy them with `mlflow-pack artifacts "
        f"import {stock} TARGET` to a TARGET next to it, such as {near}, and use that; or go on "
        f"with {stock}."
    )
