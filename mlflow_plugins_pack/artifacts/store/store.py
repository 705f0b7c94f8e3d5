"""An open store: its objects and, on top of them, its manifests, index, packs and gc lists."""

from __future__ import annotations

from mlflow_plugins_pack.artifacts.backends.base import Backend
from mlflow_plugins_pack.artifacts.format.format_file import StoreFormat
from mlflow_plugins_pack.artifacts.store.condemned import CondemnedPacks
from mlflow_plugins_pack.artifacts.store.index import Index
from mlflow_plugins_pack.artifacts.store.index_cache import IndexCache
from mlflow_plugins_pack.artifacts.store.manifests import Manifests
from mlflow_plugins_pack.artifacts.store.objects import StoreObjects
from mlflow_plugins_pack.artifacts.store.packs import Packs
from mlflow_plugins_pack.artifacts.uri.location import Location


class Store(StoreObjects):
    """An open store.

    Attributes:
        manifests: What runs, models and traces hold.
        packs: Where the bytes of chunks are.
        condemned: The packs that a collection is about to remove.
        index: Which chunks and files exist.
    """

    def __init__(self, backend: Backend, location: Location, store_format: StoreFormat) -> None:
        super().__init__(backend, location, store_format)
        cache = IndexCache(store_format.store_id)
        self.manifests = Manifests(self)
        self.packs = Packs(self)
        self.condemned = CondemnedPacks(self, cache)
        self.index = Index(self, cache, self.condemned)
