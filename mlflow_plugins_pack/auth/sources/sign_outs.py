"""Ends sign-ins: deletes stored tokens wherever a profile has left them, and has them revoked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mlflow_plugins_pack.auth.credentials.contracts import SourceError
from mlflow_plugins_pack.auth.profiles.paths import token_folder
from mlflow_plugins_pack.auth.token_store.stored_token import StoredToken
from mlflow_plugins_pack.auth.token_store.stores import (
    FileStore,
    KeyringStore,
    TokenStore,
    shared_stores,
)


@dataclass(frozen=True)
class SignOut:
    """The result of a sign-out.

    Attributes:
        was_signed_in: Whether any tokens were stored.
        problems: Why refresh tokens may still be valid at the provider.
    """

    was_signed_in: bool
    problems: tuple[str, ...] = ()


def end_others(
    name: str, own: TokenStore, own_key: str, revoke: Callable[[StoredToken], str]
) -> list[tuple[bool, str]]:
    """End a profile's tokens under other keys and in other stores: it was another then.

    Args:
        name: The profile's name.
        own: The store that the profile names now.
        own_key: The key of its tokens there, which are left alone.
        revoke: Revokes a token; returns why that was not possible.

    Returns:
        Of each end, whether there were tokens, and why one may still be valid.
    """
    try:
        stores = shared_stores(token_folder())
    except SourceError as exc:
        return [(False, f"{exc}; it may have a sign-in of this profile")]
    ended: list[tuple[bool, str]] = []
    for store in stores:
        for key in store.stored_keys():
            if key == own_key and type(store) is type(own):
                continue
            try:
                stored = store.read(key)
            except SourceError as exc:
                if isinstance(store, KeyringStore):
                    ended.append((False, f"{exc} It may have a sign-in of this profile"))
                    break
                continue  # a file of others: nothing in it is believed
            if stored is not None and stored.profile == name:
                ended.append(end(store, key, revoke))
    return ended


def end(store: TokenStore, key: str, revoke: Callable[[StoredToken], str]) -> tuple[bool, str]:
    """Delete the tokens of a key; return whether there were any, and why one may be valid."""
    try:
        stored = store.read(key)
    except SourceError:
        store.erase(key)  # they cannot be trusted, and are deleted all the same
        return True, "a token file that others could write was deleted, not revoked"
    store.erase(key)
    return stored is not None, "" if stored is None else revoke(stored)


def profiles_with_tokens() -> set[str]:
    """Return the names of the profiles that have tokens in any store that can be read."""
    try:
        stores = shared_stores(token_folder())
    except SourceError:
        stores = [FileStore(token_folder())]
    found = [read_any(store, key) for store in stores for key in store.stored_keys()]
    return {stored.profile for stored in found if stored is not None and stored.profile}


def read_any(store: TokenStore, key: str) -> StoredToken | None:
    """Return the tokens of a key; None without any that can be trusted."""
    try:
        return store.read(key)
    except SourceError:
        return None


def sign_out_of(ended: list[tuple[bool, str]]) -> SignOut:
    """Return the result of all ends together."""
    return SignOut(
        any(was_there for was_there, _ in ended),
        tuple(problem for _, problem in ended if problem),
    )
