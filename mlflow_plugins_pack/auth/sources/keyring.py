"""A secret in the desktop's keyring (macOS Keychain, Secret Service, KWallet)."""

from __future__ import annotations

from mlflow_plugins_pack.auth.credentials.contracts import SecretReading, SourceError
from mlflow_plugins_pack.auth.credentials.secret import Secret
from mlflow_plugins_pack.auth.token_store.stores import keyring_call, open_keyring


class KeyringReader:
    """An entry, as ``service/name``."""

    def __init__(self, entry: str) -> None:
        self._service, _, self._name = entry.partition("/")

    def stamp(self) -> object:
        """Return a constant: asking a keyring may prompt a person, so only a refusal asks again."""
        return None

    def read(self) -> SecretReading:
        """Ask the keyring."""
        text = keyring_call(open_keyring().get_password, self._service, self._name)
        if not text:
            raise SourceError(
                f"the keyring has no entry {self._service}/{self._name}; run: "
                f"keyring set {self._service} {self._name}"
            )
        return SecretReading(Secret(text))
