"""Paths of the profiles file and of the token folder.

Imports little, since every request of stock MLflow asks for them.

The current directory is never looked at: a cloned repository must not choose where tokens go or
which command produces them.
"""

from __future__ import annotations

import os

from mlflow_plugins_pack import base_dirs

CONFIG_VARIABLE = "MLFLOW_PACK_AUTH_CONFIG"
HOST_VARIABLE = "MLFLOW_PACK_AUTH_HOST"
ENVIRONMENT = "(environment)"
"""What `find_config` returns where variables stand for a file."""


_seen: set[str] = set()
"""Profiles files that this process has found."""


def find_config() -> str | None:
    """Return the path of the profiles file, or None without one.

    A path named by the environment is returned whether or not it exists, and so is one that this
    process has found before: a missing file is then an error of the request, not a silent sign-out.
    Some editors rename the old file before they write the new one. Never raises.
    """
    if os.environ.get(HOST_VARIABLE, "").strip():
        return ENVIRONMENT
    if named := os.environ.get(CONFIG_VARIABLE, "").strip():
        return named
    for path in (user_config(), f"{base_dirs.SYSTEM_CONFIG_DIR}/auth.toml"):
        if path in _seen or _may_exist(path):
            _seen.add(path)
            return path
    return None


def user_config() -> str:
    """Return the path of the user's own profiles file."""
    return os.path.join(base_dirs.config_dir(), "auth.toml")


def token_folder() -> str:
    """Return the folder of the tokens that this user's processes share.

    It is in the state folder, not in the cache: a refresh token cannot be fetched again.
    """
    return os.path.join(base_dirs.state_dir(), "auth")


def _may_exist(path: str) -> bool:
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError):
        return True  # it cannot be looked at: reading it will say why, and nothing is sent
    return True
