"""Tokens of an OpenID Connect provider, shared with this user's other processes.

The source is asked only when its last answer is no longer good, so it never gives that answer
again; any other token in the store is a newer one of another process.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace

from mlflow_plugins_pack.auth.credentials.contracts import (
    SourceDownError,
    SourceError,
    header_value,
)
from mlflow_plugins_pack.auth.credentials.lifetime import Credential
from mlflow_plugins_pack.auth.credentials.secret import Secret
from mlflow_plugins_pack.auth.oidc.provider import Provider, TokenResponse
from mlflow_plugins_pack.auth.oidc.transport import OAuthError
from mlflow_plugins_pack.auth.profiles.models import OidcProfile
from mlflow_plugins_pack.auth.profiles.paths import token_folder
from mlflow_plugins_pack.auth.sources.sign_outs import (
    SignOut,
    end,
    end_others,
    read_any,
    sign_out_of,
)
from mlflow_plugins_pack.auth.token_store.stored_token import StoredToken
from mlflow_plugins_pack.auth.token_store.stores import (
    FileStore,
    KeyringStore,
    MemoryStore,
    TokenStore,
)

_logger = logging.getLogger(__name__)


class OidcSource:
    """One profile's tokens."""

    def __init__(
        self, name: str, provider: Provider, clock: Callable[[], float] = time.time
    ) -> None:
        self.provider, self._clock = provider, clock
        self._name, self._profile = name, provider.profile
        self._key = store_key(name, provider.profile)
        self._store: TokenStore | None = None
        self._given: Secret | None = None
        self._unsaved: StoredToken | None = None
        self._subject = self.stamp()

    @property
    def store(self) -> TokenStore:
        """The store of the tokens.

        Raises:
            SourceError: If it is the keyring and that is not installed.
        """
        if self._store is None:
            self._store = open_store(self._profile)
        return self._store

    def stamp(self) -> object:
        """Return a mark of whom it is asked for; else the expiry or a refusal makes it ask."""
        return self.provider.subject_stamp()

    def fetch(self) -> Credential:
        """Return the store's token if it is new to us and fresh, else renew it."""
        subject, self._subject = self._subject, self.stamp()
        if subject != self._subject:
            self._forget_subject()
        stored = self._read()
        if stored is not None and self._will_do(stored):
            return self._credential(stored)
        with self._locked():
            # What is stored is newer than what could not be stored here, which erased the old.
            stored = self._read() or self._unsaved
            if stored is not None and self._will_do(stored):
                return self._credential(stored)
            return replace(self._renew(stored), age_seconds=0.0)

    def signed_in(self, answer: TokenResponse, who: str | None) -> Credential:
        """Keep the answer of a dialogue with a person.

        Raises:
            SourceError: If it cannot be kept, or holds no token that can be sent.
        """
        try:
            stored = _stored(self._name, self._profile, answer, None, who, self._clock())
            credential = self._credential(stored)
            with self._locked():
                self.store.write(self._key, stored)
        except SourceError:
            if answer.refresh_token is not None:  # nothing could use it, or revoke it later
                with suppress(SourceError):
                    self.provider.revoke(answer.refresh_token.reveal())
            raise
        self._end_others(self._name)
        return credential

    def sign_out(self) -> SignOut:
        """Delete the profile's tokens, and revoke the sign-in where the provider supports that."""
        with self._locked():
            ended = [end(self.store, self._key, self._revoke)]
        self._given = self._unsaved = None
        ended += self._end_others(self._name)
        return sign_out_of(ended)

    def end_renamed(self, name: str) -> SignOut:
        """Delete and revoke what a profile of another name, which is gone, left behind."""
        return sign_out_of(self._end_others(name))

    def _end_others(self, name: str) -> list[tuple[bool, str]]:
        return end_others(name, self.store, self._key, self._revoke)

    def _revoke(self, stored: StoredToken) -> str:
        """Revoke a refresh token; return why that was not possible."""
        if not stored.refresh_token:
            return ""
        profile = self._profile
        if (stored.issuer, stored.client_id) != (profile.issuer, profile.client_id):
            return f"its refresh token is of {stored.issuer}, which this profile does not name"
        try:
            if self.provider.revoke(stored.refresh_token):
                return ""
        except SourceError as exc:
            return str(exc)
        return f"{profile.issuer} does not support revocation"

    def _forget_subject(self) -> None:
        """Forget the token that was given for another subject token or assertion."""
        self.store.erase(self._key)
        self._given = self._unsaved = None

    def _read(self) -> StoredToken | None:
        try:
            return self.store.read(self._key)
        except SourceError as exc:
            self._fall_back(exc)
            return None

    def _will_do(self, stored: StoredToken) -> bool:
        is_new = self._given is None or stored.token != self._given.reveal()
        return is_new and stored.is_fresh(self._clock())

    def _renew(self, stored: StoredToken | None) -> Credential:
        if self._profile.needs_person:
            fresh = self._refreshed(stored)
        else:
            asked_at = self._clock()
            fresh = _stored(
                self._name,
                self._profile,
                self.provider.grant(),
                None,
                self._profile.client_id,
                asked_at,
            )
        credential = self._credential(fresh)  # first: what cannot be sent is not stored
        self._save(fresh)
        return credential

    def _save(self, fresh: StoredToken) -> None:
        """Store new tokens; keep a person's in this process where that is not possible."""
        problem = self._try_to_store(fresh)
        if problem is None:
            return
        if not self._profile.needs_person:
            self._fall_back(problem)
            self.store.write(self._key, fresh)
            return
        _logger.warning(
            "Profile %s: its renewed sign-in cannot be stored (%s). This process uses it and "
            "stores the next one; other processes need `mlflow-pack auth login %s`.",
            self._name,
            problem,
            self._name,
        )

    def _try_to_store(self, fresh: StoredToken) -> SourceError | None:
        """Store new tokens; return why that was not possible.

        Then a person's stay here, and the stored ones go: their refresh token is spent, and
        providers end the sign-in when it is used again.
        """
        try:
            self.store.write(self._key, fresh)
        except SourceError as exc:
            if self._profile.needs_person:
                self._unsaved = fresh
                with suppress(SourceError):
                    self.store.erase(self._key)
            return exc
        self._unsaved = None
        return None

    def _refreshed(self, stored: StoredToken | None) -> StoredToken:
        from mlflow_plugins_pack.http_deadline import uninterrupted

        login = f"run `mlflow-pack auth login {self._name}`"
        if stored is None:
            others = (read_any(self.store, key) for key in self.store.stored_keys())
            if any(other is not None and other.profile == self._name for other in others):
                raise SourceError(
                    f"the profile has changed since you signed in (its issuer, client, scope, "
                    f"audience or resource), and the old sign-in is not valid for it; {login}"
                )
            raise SourceError(f"you are not signed in; {login}")
        if not stored.refresh_token:
            raise SourceError(f"the sign-in has ended, and came without a refresh token; {login}")
        asked_at, refresh_token = self._clock(), stored.refresh_token

        def keep(rotated: str) -> None:
            if rotated != refresh_token:
                self._try_to_store(replace(stored, refresh_token=rotated))

        try:
            # The provider may have spent the old token when Ctrl-C comes: its answer is waited for,
            # as long as an exchange may take, and kept.
            answer = uninterrupted(lambda: self.provider.refresh(refresh_token, keep))
        except OAuthError as exc:
            if exc.code != "invalid_grant":
                raise
            problem = str(exc)
        else:
            return _stored(
                self._name, self._profile, answer, stored.refresh_token, stored.who, asked_at
            )
        with suppress(SourceError):  # the provider has ended it, whatever is stored here
            self.store.erase(self._key)
        raise SourceError(f"the sign-in has ended ({problem}); {login}")

    def _credential(self, stored: StoredToken) -> Credential:
        token, now = Secret(stored.token), self._clock()
        value = header_value(token, self._profile.scheme)
        self._given = token
        return Credential(
            ((self._profile.header, value),),
            stored.left_seconds(now),
            stored.age_seconds(now),
            stored.who,
        )

    @contextmanager
    def _locked(self) -> Iterator[None]:
        patience = self._profile.timeout_seconds * 2 + 5
        try:
            lock = self.store.lock(self._key, patience)
            lock.__enter__()
        except SourceError as exc:
            self._fall_back(exc)
            lock = self.store.lock(self._key, patience)
            lock.__enter__()
        try:
            yield
        finally:
            lock.__exit__(None, None, None)

    def _fall_back(self, problem: SourceError) -> None:
        """Go on without the shared store, where a token can be had again at any time.

        Raises:
            SourceError: The problem, where a person's sign-in would be lost.
        """
        is_lasting = not isinstance(problem, SourceDownError)
        if self._profile.needs_person or isinstance(self.store, MemoryStore) or not is_lasting:
            raise problem
        _logger.warning(
            "Profile %s: tokens cannot be shared between processes (%s); this one keeps its own.",
            self._name,
            problem,
        )
        self._store = MemoryStore()


def _stored(
    name: str,
    profile: OidcProfile,
    answer: TokenResponse,
    refresh_token: str | None,
    who: str | None,
    asked_at: float,
) -> StoredToken:
    """Return what is kept of an answer.

    Its life counts from the question: however late the answer came, the token is not older.
    """
    token = answer.access_token if profile.token == "access_token" else answer.id_token
    if token is None:
        raise SourceError('the provider gave no ID token; add "openid" to the profile\'s scope')
    life = answer.lifetime_seconds
    return StoredToken(
        token.reveal(),
        asked_at,
        None if life is None else asked_at + life,
        answer.refresh_token.reveal() if answer.refresh_token else refresh_token,
        who,
        name,
        profile.issuer,
        profile.client_id,
    )


def open_store(profile: OidcProfile) -> TokenStore:
    """Return where a profile's tokens are kept.

    Raises:
        SourceError: If it is the keyring and its package is not installed.
    """
    # Which person a subject token or an assertion is of may differ from process to process.
    if profile.cache == "memory" or profile.chosen_flow in ("token_exchange", "jwt_bearer"):
        return MemoryStore()
    return (KeyringStore if profile.cache == "keyring" else FileStore)(token_folder())


def store_key(name: str, profile: OidcProfile) -> str:
    """Return the name under which a profile's tokens are kept: another for another question."""
    question = [
        name,
        profile.issuer,
        profile.client_id,
        profile.chosen_flow if not profile.needs_person else "person",
        profile.scope,
        profile.audience,
        profile.resource,
        profile.token,
        *(place and place.model_dump() for place in (profile.subject_token, profile.assertion)),
    ]
    return hashlib.sha256(json.dumps(question).encode()).hexdigest()[:32]
