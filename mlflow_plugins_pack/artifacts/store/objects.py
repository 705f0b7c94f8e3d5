"""The objects of one store: keys below its root, bytes encrypted where all of the store's are."""

from __future__ import annotations

import logging
import math
import time
from typing import ClassVar

from mlflow_plugins_pack.artifacts.backends.base import Backend, ObjectMissingError
from mlflow_plugins_pack.artifacts.format import object_keys
from mlflow_plugins_pack.artifacts.format.encryption import PLAIN, Sealer
from mlflow_plugins_pack.artifacts.format.format_file import StoreFormat, decode_format
from mlflow_plugins_pack.artifacts.store.keyring import Keyring
from mlflow_plugins_pack.artifacts.uri.location import Location
from mlflow_plugins_pack.errors import PackError, StoreChangedError

_logger = logging.getLogger(__name__)

_KEYS_SECONDS = 300


class StoreObjects:
    """Reads and writes the objects of one store.

    Attributes:
        location: The store's root.
        format: What was fixed when the store was created.
    """

    TRUST_SECONDS: ClassVar[float] = 1.0
    """So long a process takes a store's format file for granted where it asks at each call whether
    the run's last call is still there, which a storage that was wiped or set back has not."""

    def __init__(self, backend: Backend, location: Location, store_format: StoreFormat) -> None:
        self.location = location
        self.backend = backend
        self.format = store_format
        self._sealer: Sealer | None = None
        self._keys_read = 0.0
        self._confirmed = -math.inf

    @property
    def backend(self) -> Backend:
        """The storage; replaced when credentials or settings change."""
        return self._backend

    @backend.setter
    def backend(self, backend: Backend) -> None:
        self._backend = backend.within(self.location.path)

    def key(self, name: str) -> str:
        """Return the backend's key of one of the store's own keys."""
        return object_keys.join(self.location.path, name)

    def creates_exclusively(self) -> bool:
        """Try whether the storage creates an object only if it does not exist."""
        return self.backend.creates_exclusively(self.key(object_keys.OWN_FOLDER))

    @property
    def sealer(self) -> Sealer:
        """What encrypts and decrypts everything that the store holds; the identity if it is plain.

        Raises:
            ArtifactKeyError: If the store is encrypted and none of the given keys opens it.
        """
        if not self.format.is_encrypted:
            return PLAIN
        now = time.monotonic()
        if self._sealer is None:
            self._sealer, self._keys_read = self.keyring.sealer(), now
        elif now - self._keys_read > _KEYS_SECONDS:
            # Another process may have added a data key; until that is known, the old one is good.
            self._keys_read = now
            try:
                self._sealer = self.keyring.sealer()
            except PackError as exc:
                _logger.warning("%s The keys that were read before stay in use.", exc.message)
        return self._sealer

    def forget_keys(self) -> None:
        """Read the keyring again before the next use."""
        self._sealer = None

    @property
    def keyring(self) -> Keyring:
        """The keyring of an encrypted store."""
        return Keyring(self.backend, self.location.path, self.format.store_id, self.location.uri)

    def is_confirmed(self) -> bool:
        """Return whether `confirm_identity` has succeeded a moment ago, and that is enough."""
        # What goes into an encrypted store whose keyring was wiped with it can never be read; and
        # a disk answers at once.
        is_enough = self.backend.is_remote and not self.format.is_encrypted
        return is_enough and time.monotonic() - self._confirmed < self.TRUST_SECONDS

    def confirm_identity(self) -> None:
        """Make sure that the storage still holds this store, and the keys that it is sealed with.

        Raises:
            StoreChangedError: If not.
            ArtifactKeyError: If the keys that this process is given no longer open it.
        """
        now = time.monotonic()
        try:
            data = self.backend.read(self.key(object_keys.FORMAT_KEY))
            is_same = decode_format(data, self.location.uri) == self.format
        except ObjectMissingError:
            is_same = False
        if is_same and self.format.is_encrypted:
            is_same = self.sealer.is_sealed_with(self.keyring.load())
        if not is_same:
            raise StoreChangedError(
                f"The artifact store {self.location.uri}, or its keyring, was wiped or replaced "
                f"while this process was using it. Nothing was committed. Log again."
            )
        self._confirmed = now

    def holds_a_store(self) -> bool:
        """Return whether the storage holds a store there, be it this one or another."""
        return self.backend.size(self.key(object_keys.FORMAT_KEY)) is not None

    def read_object(self, key: str) -> bytes:
        """Return the content of one of the store's own objects, decrypted.

        Raises:
            ObjectMissingError: If it does not exist.
            ArtifactCorruptError: If the store's keys do not open it.
        """
        return self.sealer.open_object(key, self.backend.read(self.key(key)))

    def write_object(self, key: str, data: bytes) -> None:
        """Create or replace one of the store's own objects, encrypted where all are."""
        self.backend.write(self.key(key), self.sealer.seal_object(key, data))
