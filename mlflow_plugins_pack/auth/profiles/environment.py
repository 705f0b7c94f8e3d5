"""The short form: one profile from variables instead of a file, for containers and CI.

``MLFLOW_PACK_AUTH_HOST`` names the host and switches it on. Secrets stay in their variables: the
profile says only which.
"""

from __future__ import annotations

import os
from typing import Any

from mlflow_plugins_pack.auth.profiles.file import Profiles, check_profiles
from mlflow_plugins_pack.auth.profiles.paths import CONFIG_VARIABLE, ENVIRONMENT, HOST_VARIABLE
from mlflow_plugins_pack.errors import AuthConfigError

PROFILE = "environment"
_PREFIX = "MLFLOW_PACK_AUTH_"
# Variables (without the prefix) that hold a secret: the profile names them, it does not copy them.
_SECRETS = {"CLIENT_SECRET": "client_secret", "PASSWORD": "password"}
_TEXTS = {
    "SOURCE": "source",
    "ISSUER": "issuer",
    "CLIENT_ID": "client_id",
    "SCOPE": "scope",
    "AUDIENCE": "audience",
    "USERNAME": "username",
    "TOKEN_FILE": "file",
}


def mark() -> tuple[str | None, ...]:
    """Return what changes whenever the profile would; cheap."""
    get = os.environ.get
    return tuple(get(_PREFIX + name) for name in ("HOST", "CONFIG", *_SECRETS, *_TEXTS))


def profiles() -> Profiles:
    """Return the one profile that the variables describe.

    Raises:
        AuthConfigError: If they do not fit together.
    """
    if os.environ.get(CONFIG_VARIABLE, "").strip():
        raise AuthConfigError(
            f"{HOST_VARIABLE} and {CONFIG_VARIABLE} are both set: which of the two holds? "
            f"Nothing was sent. Unset one of them."
        )
    return check_profiles(ENVIRONMENT, {"profile": {PROFILE: _table()}})


def _table() -> dict[str, Any]:
    hosts = [part.strip() for part in os.environ[HOST_VARIABLE].split(",") if part.strip()]
    table: dict[str, Any] = {"hosts": hosts}
    for name, key in _TEXTS.items():
        if text := os.environ.get(_PREFIX + name, "").strip():
            table[key] = text
    for name, key in _SECRETS.items():
        if os.environ.get(_PREFIX + name):
            table[key] = {"env": _PREFIX + name}
    if "source" not in table:
        table["source"] = _guess(table)
    if table["source"] == "env":
        table["env"] = _PREFIX + "TOKEN"
    return table


def _guess(table: dict[str, Any]) -> str:
    for key, source in (("issuer", "oidc"), ("username", "basic"), ("file", "file")):
        if key in table:
            return source
    return "env"
