"""An OpenID Connect provider: discovery document, client authentication and token requests.

Messages are those of RFC 6749 (client credentials, refresh, code), RFC 7523 (JWT bearer and
``private_key_jwt``), RFC 8628 (device code), RFC 8693 (token exchange) and RFC 8707 (resource).
"""

from __future__ import annotations

import base64
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote_plus

from mlflow_plugins_pack.auth.credentials.contracts import SecretReader, SourceError, import_extra
from mlflow_plugins_pack.auth.credentials.lifetime import parse_lifetime
from mlflow_plugins_pack.auth.credentials.secret import Secret, is_text
from mlflow_plugins_pack.auth.oidc.transport import OAuthError, Transport
from mlflow_plugins_pack.auth.profiles.models import OidcProfile
from mlflow_plugins_pack.web_urls import check_secure_url

_GRANT = "urn:ietf:params:oauth:grant-type:"
DISCOVERY_SECONDS = 3600.0
_ASSERTION_SECONDS = 60


@dataclass(frozen=True)
class TokenResponse:
    """The answer of a token endpoint.

    Attributes:
        access_token: The access token.
        lifetime_seconds: Seconds that it is valid; None if the provider does not say.
        refresh_token: The refresh token, if there is one.
        id_token: The ID token, if there is one.
    """

    access_token: Secret
    lifetime_seconds: float | None
    refresh_token: Secret | None
    id_token: Secret | None


@dataclass(frozen=True)
class ClientSecrets:
    """Readers of the profile's own secrets."""

    client_secret: SecretReader | None = None
    client_key: SecretReader | None = None
    subject_token: SecretReader | None = None
    assertion: SecretReader | None = None


class Provider:
    """The provider of one profile."""

    def __init__(self, profile: OidcProfile, own: ClientSecrets, transport: Transport) -> None:
        self.profile, self.transport = profile, transport
        self._own = own
        self._document: dict[str, Any] = {}
        self._read_at = 0.0

    def metadata(self) -> Mapping[str, Any]:
        """Return the discovery document, kept for an hour and while the provider is down.

        Raises:
            SourceError: If it is not available, or belongs to another issuer.
        """
        now = time.monotonic()
        if not self._document or now - self._read_at > DISCOVERY_SECONDS:
            url = self.profile.issuer.rstrip("/") + "/.well-known/openid-configuration"
            try:
                document = self.transport.get(url)
            except SourceError:
                if not self._document:
                    raise
            else:
                self._check_issuer(document, url)
                self._document = document
            self._read_at = now
        return self._document

    def endpoint(self, name: str) -> str:
        """Return an endpoint's address.

        Raises:
            SourceError: If the provider does not offer it, or names an address that is not safe.
        """
        url = self.metadata().get(name)
        if not isinstance(url, str):
            raise SourceError(f"the issuer {self.profile.issuer} offers no {name}")
        try:
            check_secure_url(url, may_have_query=True)
            return url
        except ValueError as exc:
            problem = str(exc)
        raise SourceError(f"the {name} of the issuer {self.profile.issuer}: {problem}")

    def grant(self) -> TokenResponse:
        """Get a token by a flow that does not need a person.

        Raises:
            SourceError: If that fails.
        """
        flow = self.profile.chosen_flow
        if flow == "client_credentials":
            return self.ask({"grant_type": "client_credentials", **self._wanted()})
        if flow == "token_exchange":
            form = {
                "grant_type": _GRANT + "token-exchange",
                "subject_token": _read(self._own.subject_token),
                "subject_token_type": self.profile.subject_token_type,
            }
            return self.ask({**form, **self._wanted()})
        form = {"grant_type": _GRANT + "jwt-bearer", "assertion": _read(self._own.assertion)}
        return self.ask({**form, **self._wanted()})

    def subject_stamp(self) -> object:
        """Return a mark that changes when a token may be asked for in another one's name."""
        readers = (self._own.subject_token, self._own.assertion)
        return tuple(reader.stamp() for reader in readers if reader is not None)

    def refresh(
        self, refresh_token: str, keep: Callable[[str], None] | None = None
    ) -> TokenResponse:
        """Get a token with a refresh token.

        Args:
            refresh_token: The refresh token; where the provider rotates it, it is spent by this.
            keep: Called with the refresh token of the answer, if it has one, before anything else
                in the answer is judged: the provider accepts no other from then on.

        Raises:
            OAuthError: ``invalid_grant`` if it is spent, revoked or expired.
        """
        form = {"grant_type": "refresh_token", "refresh_token": refresh_token}
        if self.profile.resource is not None:
            form["resource"] = self.profile.resource
        return self.ask(form, keep)

    def exchange_code(self, code: str, verifier: str, redirect_uri: str) -> TokenResponse:
        """Get a token with an authorization code."""
        return self.ask(
            {
                "grant_type": "authorization_code",
                "code": code,
                "code_verifier": verifier,
                "redirect_uri": redirect_uri,
            }
        )

    def start_device(self) -> dict[str, Any]:
        """Start a device authorization (RFC 8628, section 3.1)."""
        form, headers = self._authenticated(self.scope_and_audience())
        return self.transport.post(self.endpoint("device_authorization_endpoint"), form, headers)

    def poll_device(self, device_code: str) -> TokenResponse | None:
        """Return the tokens once the person has signed in; None until then.

        Raises:
            OAuthError: ``slow_down`` to ask less often; any other ends the sign-in.
        """
        try:
            return self.ask({"grant_type": _GRANT + "device_code", "device_code": device_code})
        except OAuthError as exc:
            if exc.code != "authorization_pending":
                raise
        return None

    def revoke(self, refresh_token: str) -> bool:
        """Revoke a refresh token (RFC 7009); return whether the provider supports that."""
        if not isinstance(self.metadata().get("revocation_endpoint"), str):
            return False
        form = {"token": refresh_token, "token_type_hint": "refresh_token"}
        form, headers = self._authenticated(form)
        self.transport.post(self.endpoint("revocation_endpoint"), form, headers, may_be_empty=True)
        return True

    def ask(
        self, form: Mapping[str, str], keep: Callable[[str], None] | None = None
    ) -> TokenResponse:
        """Send a form to the token endpoint; see `refresh`."""
        url = self.endpoint("token_endpoint")
        full, headers = self._authenticated(form)
        answer = self.transport.post(url, full, headers)
        if keep is not None and (rotated := _optional(answer.get("refresh_token"))) is not None:
            keep(rotated.reveal())
        return _read_answer(answer, url)

    def scope_and_audience(self) -> dict[str, str]:
        """Return the scope, audience and resource parameters of a person's sign-in."""
        return self._wanted("openid offline_access")

    def _wanted(self, default_scope: str = "") -> dict[str, str]:
        profile, wanted = self.profile, {}
        if scope := profile.scope or default_scope:
            wanted["scope"] = scope
        if profile.audience is not None:
            wanted["audience"] = profile.audience
        if profile.resource is not None:
            wanted["resource"] = profile.resource
        return wanted

    def _authenticated(self, form: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
        """Add the client's authentication (RFC 6749, section 2.3)."""
        client_id, full = self.profile.client_id, dict(form)
        if self._own.client_key is not None:
            full["client_id"] = client_id
            full["client_assertion_type"] = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
            full["client_assertion"] = self._assertion(_read(self._own.client_key))
            return full, {}
        if self._own.client_secret is None:
            return {**full, "client_id": client_id}, {}
        secret = _read(self._own.client_secret)
        if self.profile.client_secret_in == "body":
            return {**full, "client_id": client_id, "client_secret": secret}, {}
        pair = f"{quote_plus(client_id)}:{quote_plus(secret)}".encode()
        return full, {"Authorization": "Basic " + base64.b64encode(pair).decode("ascii")}

    def _assertion(self, key_text: str) -> str:
        """Return a signed client assertion (RFC 7523, section 2.2); the key is PEM or JWK."""
        jwk, jwt = import_extra("joserfc.jwk", "oidc"), import_extra("joserfc.jwt", "oidc")
        now = int(time.time())
        claims = {
            "iss": self.profile.client_id,
            "sub": self.profile.client_id,
            # The issuer is what newer drafts want here; every provider takes its token endpoint.
            "aud": self.endpoint("token_endpoint"),
            "jti": secrets.token_urlsafe(16),
            "iat": now,
            "exp": now + _ASSERTION_SECONDS,
        }
        try:
            key, algorithm = _import_key(jwk, key_text)
            header = {"alg": algorithm, **({"kid": key.kid} if key.kid else {})}
            return str(jwt.encode(header, claims, key, algorithms=[algorithm]))
        except Exception:  # noqa: BLE001, S110 - whatever it is, it may hold the key
            pass
        raise SourceError("client_key is not a private key (PEM or JWK, RSA or EC) that can sign")

    def _check_issuer(self, document: Mapping[str, Any], url: str) -> None:
        if document.get("issuer") != self.profile.issuer:
            raise SourceError(
                f"{url} is the document of another issuer than {self.profile.issuer}; the profile "
                f"must name it exactly as the provider writes it"
            )


def _import_key(jwk: Any, text: str) -> tuple[Any, str]:
    import json

    if text.lstrip().startswith("{"):
        document = json.loads(text)
        key = jwk.JWKRegistry.import_key(document)
        if isinstance(chosen := document.get("alg"), str):
            return key, chosen
    else:
        kind = jwk.ECKey if "BEGIN EC" in text else jwk.RSAKey
        try:
            key = kind.import_key(text)
        except ValueError:
            key = jwk.ECKey.import_key(text)
    curves = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512"}
    return key, "RS256" if key.key_type == "RSA" else curves[key.curve_name]


def _read(place: SecretReader | None) -> str:
    if place is None:
        raise SourceError("the profile does not say where a secret is that this needs")
    text = place.read().secret.reveal().strip()
    if not is_text(text):
        raise SourceError("a secret holds half of a character, which cannot be sent")
    return text


def _read_answer(document: Mapping[str, Any], url: str) -> TokenResponse:
    token = document.get("access_token")
    if not isinstance(token, str) or not token:
        raise SourceError(f"{url} answered without an access_token")
    try:
        life = parse_lifetime(document.get("expires_in"))
    except ValueError as exc:
        problem = str(exc)
    else:
        return TokenResponse(
            Secret(token),
            life,
            _optional(document.get("refresh_token")),
            _optional(document.get("id_token")),
        )
    raise SourceError(f"{url} gave a token, but {problem}")


def _optional(value: object) -> Secret | None:
    return Secret(value) if isinstance(value, str) and value and is_text(value) else None
