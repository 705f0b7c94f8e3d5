"""Identifies the caller of the current request from the configured sources.

A source finds no credentials (the next one is asked), names the caller, or refuses what was
presented. A refusal ends the search: another source must not accept what one has refused.
"""

from __future__ import annotations

import functools
import hmac
import ipaddress
import logging
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from mlflow_plugins_pack.identity.errors import KeysUnavailableError, TokenRefusedError
from mlflow_plugins_pack.identity.jwt import verify
from mlflow_plugins_pack.identity.keys import KeyCache, fetch_json
from mlflow_plugins_pack.identity.settings import Identity, JwtSettings, TrustedHeaderSettings
from mlflow_plugins_pack.web_urls import check_secure_url

_logger = logging.getLogger(__name__)
_LONGEST_NAME = 256
# Unicode's Default_Ignorable_Code_Point, as far as those are printable to Python, and the blank
# pattern of Braille.
_UNSEEN = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0"
    "\U000e0100-\U000e01ef]"
)


@dataclass(frozen=True)
class Caller:
    """The identified caller.

    Attributes:
        user: the user's name.
        groups: the user's groups, according to the same source.
        source: the name of the source.
    """

    user: str
    groups: frozenset[str] = frozenset()
    source: str = ""


class RefusedError(Exception):
    """The credentials presented are not valid; the text says why, without them."""


def resolve(settings: Identity) -> Caller | None:
    """Return the caller of the current Flask request, or None if there is no valid one.

    A refusal is logged with its reason; the caller is then anonymous.
    """
    import flask

    if not flask.has_request_context():
        return None
    found = flask.g.get("mlflow_pack_caller")
    if found is None or found[0] is not settings:
        found = flask.g.mlflow_pack_caller = settings, _search(settings)
    caller: Caller | None = found[1]
    return caller


def identify(
    settings: Identity, environ: Mapping[str, Any], ask_server: Callable[[], str | None]
) -> Caller | None:
    """Return the caller of a request that does not run in MLflow's server.

    Args:
        settings: The sources to ask, in order.
        environ: The request's address and headers, as a WSGI environment has them.
        ask_server: Returns the user whom the MLflow server signs the same request in as; None if
            it signs no one in. It stands for the sources ``basic_auth`` and ``oidc``.

    Raises:
        RefusedError: If the credentials presented are not valid.
    """
    for name in settings.sources:
        found: Caller | None
        if name == "jwt" and settings.jwt is not None:
            header = settings.jwt.header
            found = from_jwt({header: _header(environ, header.replace("-", "_"))}, settings.jwt)
        elif name == "trusted_header" and settings.trusted_header is not None:
            found = from_trusted_header(environ, settings.trusted_header)
        else:
            user = ask_server()
            # The server does not say which groups a user has, which takes none away.
            found = None if user is None else Caller(user, source="basic_auth")
        if found is not None:
            return found
    return None


def _search(settings: Identity) -> Caller | None:
    try:
        for name in settings.sources:
            if (caller := _ask(name, settings)) is not None:
                return caller
    except RefusedError as exc:
        _logger.warning("The caller is treated as anonymous: %s.", exc)
    return None


def _ask(name: str, settings: Identity) -> Caller | None:
    import flask

    if name == "basic_auth":
        return _from_basic_auth(flask.g)
    if name == "oidc":
        return _from_oidc(flask.request.environ)
    if name == "jwt":
        assert settings.jwt is not None  # noqa: S101 - the settings were checked
        return from_jwt(flask.request.headers, settings.jwt)
    assert settings.trusted_header is not None  # noqa: S101
    return from_trusted_header(flask.request.environ, settings.trusted_header)


def _from_basic_auth(context: Any) -> Caller | None:
    """Return the user whom MLflow's basic-auth app, or its `authorization_function`, verified."""
    user = getattr(context, "mlflow_authenticated_user", None)
    return Caller(user, source="basic_auth") if isinstance(user, str) and user else None


def _from_oidc(environ: Mapping[str, Any]) -> Caller | None:
    """Return the user from the context that mlflow-oidc-auth adds to the request."""
    context = environ.get("mlflow_oidc_auth")
    if context is None:
        return None
    fields: Mapping[str, Any] = context if isinstance(context, Mapping) else vars(context)
    user = fields.get("username")
    if not isinstance(user, str) or not user:
        return None
    if not is_name(user):
        raise RefusedError("the user of mlflow-oidc-auth has a name that looks like another")
    return Caller(user, _texts(fields.get("groups")), "oidc")


def from_jwt(headers: Mapping[str, str], settings: JwtSettings) -> Caller | None:
    """Verify the token of a request.

    Args:
        headers: The request's headers.
        settings: The issuer, audience and claims to accept.

    Returns:
        The caller; None if no token was sent.

    Raises:
        RefusedError: If the token is not valid.
    """
    text = headers.get(settings.header)
    if not text:
        return None
    if settings.header.lower() == "authorization":
        scheme, _, text = text.partition(" ")
        if scheme.lower() != "bearer":
            return None  # a user name and password are another source's
    try:
        claims = verify(
            text.strip(),
            _keys(settings.issuer, settings.jwks_uri),
            issuer=settings.issuer,
            audience=settings.audience,
            algorithms=settings.algorithms,
        )
    except TokenRefusedError as exc:
        raise RefusedError(f"the token was refused: {exc}") from None
    except KeysUnavailableError as exc:
        # The caller is not known yet, and the address of the keys may be an internal one.
        _logger.warning("No token can be verified: %s", exc)
        raise RefusedError(
            "the keys of the token's issuer cannot be fetched now; the server's log says why"
        ) from None
    user = claims.get(settings.user_claim)
    if not isinstance(user, str) or not is_name(user):
        raise RefusedError(f"the token's {settings.user_claim} is not a user name")
    # OpenID Connect Core, section 5.1: where the issuer has not verified an address, any user of
    # it may have entered another person's. Some issuers send the text "true".
    if claims.get(f"{settings.user_claim}_verified", True) not in (True, "true"):
        raise RefusedError(f"the issuer has not verified the token's {settings.user_claim}")
    groups = _texts(claims.get(settings.groups_claim)) if settings.groups_claim else frozenset()
    return Caller(user, groups, "jwt")


def from_trusted_header(
    environ: Mapping[str, Any], settings: TrustedHeaderSettings
) -> Caller | None:
    """Return the user whom a trusted reverse proxy names.

    Args:
        environ: The request's WSGI environment.
        settings: The proxy, and its headers.

    Returns:
        The caller; None if the header is absent.

    Raises:
        RefusedError: If the header did not come from the proxy, or was sent twice.
    """
    user = _header(environ, settings.user_header)
    if not user:
        return None
    if not _is_peer(environ.get("REMOTE_ADDR"), settings.peers):
        raise RefusedError(
            f"{settings.user_header} came from {environ.get('REMOTE_ADDR')}, not from a proxy of "
            f"the setting `peers`. If the proxy sends X-Forwarded-For, uvicorn replaces its "
            f"address with the client's: start the server with --uvicorn-opts '--no-proxy-headers'"
        )
    given = _header(environ, settings.secret_header).encode()
    if not hmac.compare_digest(given, _secret(settings)):
        raise RefusedError(f"{settings.user_header} came without the proxy's secret")
    # Servers join a doubled header with a comma: one of the two is the client's.
    if "," in user or not is_name(user):
        raise RefusedError(f"{settings.user_header} is not a single name")
    groups = _header(environ, settings.groups_header) if settings.groups_header else ""
    if "," in groups:
        raise RefusedError(f"{settings.groups_header} was sent twice, or contains a comma")
    parts = (part.strip() for part in groups.split(settings.groups_separator))
    return Caller(user, _texts([*parts]), "trusted_header")


def is_name(text: str) -> bool:
    """Return whether a text can be a user name.

    One line without outer blanks, not too long, and without characters that no one sees: with them
    another name looks like this one.
    """
    is_line = 0 < len(text) <= _LONGEST_NAME and text.isprintable() and text == text.strip()
    return is_line and (text.isascii() or not _UNSEEN.search(text))


def _header(environ: Mapping[str, Any], name: str) -> str:
    value = environ.get(f"HTTP_{name.upper()}", "")
    if not isinstance(value, str):
        return ""
    try:
        return value.encode("latin-1").decode()  # a WSGI text is the bytes of the header (PEP 3333)
    except UnicodeError:
        return value


def _is_peer(address: object, networks: list[str]) -> bool:
    try:
        peer = ipaddress.ip_address(str(address))
    except ValueError:
        return False
    mapped = getattr(peer, "ipv4_mapped", None)
    return any((mapped or peer) in ipaddress.ip_network(network) for network in networks)


def _secret(settings: TrustedHeaderSettings) -> bytes:
    """Return the secret; it is read each time, so that it can be rotated."""
    secret = ""
    try:
        if settings.secret_file is not None:
            with open(settings.secret_file, encoding="utf-8") as file:  # noqa: PTH123
                secret = file.read(4096).strip()
        elif settings.secret_env is not None:
            secret = os.environ.get(settings.secret_env, "").strip()
    except (OSError, UnicodeDecodeError) as exc:
        _logger.warning("The trusted proxy's secret cannot be read: %s", type(exc).__name__)
    if not secret:
        raise RefusedError("the trusted proxy's secret is not set on this server")
    return secret.encode()


def _texts(value: object) -> frozenset[str]:
    values = value if isinstance(value, (list, tuple, set, frozenset)) else ()
    return frozenset(text for text in values if isinstance(text, str) and is_name(text))


@functools.lru_cache(maxsize=8)
def _keys(issuer: str, jwks_uri: str | None) -> KeyCache:
    def fetch() -> Mapping[str, Any]:
        return fetch_json(jwks_uri or _jwks_uri(issuer))

    return KeyCache(fetch)


def _jwks_uri(issuer: str) -> str:
    url = issuer.rstrip("/") + "/.well-known/openid-configuration"
    document = fetch_json(url)
    found = document.get("jwks_uri")
    if document.get("issuer") != issuer:
        raise KeysUnavailableError(f"{url} is the document of another issuer")
    try:
        return check_secure_url(str(found), may_have_query=True)
    except ValueError as exc:
        raise KeysUnavailableError(f"the jwks_uri in {url} is not usable: {exc}") from None
