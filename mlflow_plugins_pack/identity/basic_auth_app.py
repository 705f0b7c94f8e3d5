"""Lets MLflow's basic-auth app accept verified tokens in addition to passwords.

In its configuration file::

    authorization_function = mlflow_plugins_pack.identity.basic_auth_app:authenticate_request

The settings ``MLFLOW_PACK_JWT_*`` name the issuer. Permissions stay MLflow's.
"""

from __future__ import annotations

import functools
import logging
import secrets
from typing import Any

from mlflow_plugins_pack import settings as config
from mlflow_plugins_pack.errors import ConfigurationError
from mlflow_plugins_pack.identity.resolvers import Caller, RefusedError, from_jwt
from mlflow_plugins_pack.identity.settings import JwtSettings

_logger = logging.getLogger(__name__)


def authenticate_request() -> Any:
    """Authenticate the current Flask request, as an ``authorization_function``.

    Returns:
        werkzeug's `Authorization` with the caller's name, or a 401 response.

    Raises:
        ConfigurationError: If the settings are missing or wrong.
    """
    from flask import request
    from mlflow.server import auth
    from werkzeug.datastructures import Authorization

    settings = _settings(
        config.JWT_ISSUER.get(),
        config.JWT_AUDIENCE.get(),
        config.JWT_JWKS_URI.get(),
        config.JWT_USER_CLAIM.get(),
    )
    try:
        caller = from_jwt(request.headers, settings)
    except RefusedError as exc:
        _logger.warning("A request was refused: %s.", exc)
        return _unauthorized(f"{exc}.", error="invalid_token")
    if caller is None:
        return auth.authenticate_request_basic_auth()
    if (refusal := refusal_of(auth.store, caller)) is not None:
        return _unauthorized(refusal)
    return Authorization("bearer", {"username": caller.user})


def refusal_of(store: Any, caller: Caller) -> str | None:
    """Return why the bearer of a valid token does not get in; None: they do.

    Args:
        store: The basic-auth app's store of users.
        caller: Whom the token names.
    """
    name = caller.user
    if not _is_known(store, caller):
        return (
            f"The token of {name!r} is valid, but this user does not exist here. An admin "
            f"must create one, or set MLFLOW_PACK_JWT_CREATE_USERS=true on the server."
        )
    found = store.get_user(name)
    if found.username != name:
        # MySQL finds users by other spellings of their names, which may be others' at the provider.
        _logger.warning("A token names %r, which is not how %r is spelt.", name, found.username)
        return (
            f"The token of {name!r} is valid, but the user here is spelt in another way. Rename "
            f"one of the two."
        )
    if found.is_admin and name not in config.JWT_ADMINS.get():
        # The provider gives out names: a user who is called ``admin`` there is not MLflow's.
        _logger.warning("A token names %r, an admin of this server; it was refused.", name)
        return (
            f"{name!r} is an admin of this server, and a token does not sign in as an admin "
            f"whom the operator has not named. Rename the user at the provider, or list the name "
            f"in MLFLOW_PACK_JWT_ADMINS on the server."
        )
    return None


def _is_known(store: Any, caller: Caller) -> bool:
    if store.has_user(caller.user):
        return True
    if not config.JWT_CREATE_USERS.get():
        return False
    from mlflow.exceptions import MlflowException

    try:
        # The password is not kept: this user signs in by token.
        store.create_user(caller.user, secrets.token_urlsafe(32))
    except MlflowException:
        # Another request of the same new user was faster, or MLflow refuses the name.
        return bool(store.has_user(caller.user))
    return True


@functools.lru_cache(maxsize=4)
def _settings(issuer: str, audience: str, jwks_uri: str, user_claim: str) -> JwtSettings:
    try:
        return JwtSettings(
            issuer=issuer,
            audience=audience,
            jwks_uri=jwks_uri or None,
            user_claim=user_claim,
        )
    except ValueError:
        pass
    raise ConfigurationError(
        "MLFLOW_PACK_JWT_ISSUER (https) and MLFLOW_PACK_JWT_AUDIENCE must be set for this server's "
        "authorization_function. The request was refused."
    )


def _unauthorized(text: str, error: str = "") -> Any:
    from flask import make_response

    response = make_response(text, 401)
    challenge = f'Bearer error="{error}"' if error else "Bearer"
    response.headers["WWW-Authenticate"] = challenge
    return response
