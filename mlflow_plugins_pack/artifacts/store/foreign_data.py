"""Finds what a store must not be put over: artifacts that stock MLflow left, and other stores."""

from __future__ import annotations

import itertools

from mlflow_plugins_pack import uris
from mlflow_plugins_pack.artifacts.backends.base import Backend
from mlflow_plugins_pack.artifacts.format import object_keys
from mlflow_plugins_pack.artifacts.uri.location import Location
from mlflow_plugins_pack.errors import ForeignDataError

_LOOKED_AT = 1000
"""Objects of a new store's folder that are looked at: one page of a listing."""


def refuse_foreign_data(backend: Backend, root: Location) -> None:
    """Refuse to make a store where stock MLflow has runs, or above another store.

    Of a large bucket only the first objects are looked at.

    Raises:
        ForeignDataError: If one of them was written by stock MLflow or belongs to a store.
    """
    prefix = f"{root.path}/" if root.path else ""
    for stored in itertools.islice(backend.list(prefix), _LOOKED_AT):
        key = stored.key[len(prefix) :]
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


def refuse_stock_data(backend: Backend, place: Location) -> None:
    """Refuse to show a folder as empty in which stock MLflow left artifacts.

    Raises:
        ForeignDataError: If it did.
    """
    prefix = f"{place.path}/" if place.path else ""
    for stored in backend.list(prefix):
        parts = stored.key[len(prefix) :].split("/")
        if not {object_keys.OWN_FOLDER, object_keys.SEGMENT_FOLDER}.intersection(parts):
            raise _stock_data(place, stored.key)


def _stock_data(place: Location, key: str) -> ForeignDataError:
    stock = uris.to_stock(uris.ARTIFACT_WORD, place.uri)
    return ForeignDataError(
        f"{place.uri} has artifacts that were stored without the pack, such as {key!r}; they are "
        f"not part of a store. Nothing was read or written. Copy them with `mlflow-pack artifacts "
        f"import {stock} TARGET` to a TARGET next to it and use that, or go on with {stock}."
    )
