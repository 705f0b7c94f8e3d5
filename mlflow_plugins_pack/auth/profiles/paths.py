"""Where the profiles are; imports nothing, since every request of stock MLflow asks.

The current directory is never looked at: a cloned repository must not choose where tokens go or
which command produces them.
"""

from __future__ import annotations

import os

CONFIG_VARIABLE = "MLFLOW_PACK_AUTH_CONFIG"
HOST_VARIABLE = "MLFLOW_PACK_AUTH_HOST"
SYSTEM_FILE = "/etc/mlflow-pack/auth.toml"
ENVIRONMENT = "(environment)"
"""What `find_config` returns where variables stand for a file."""


def find_config() -> str | None:
    """Return the path of the profiles file, or None where nobody configured one.

    A path named by the environment is returned whether or not it exists: a missing file is then
    an error of the request, not a silent sign-out. Never raises.
    """
    if os.environ.get(HOST_VARIABLE, "").strip():
        return ENVIRONMENT
    if named := os.environ.get(CONFIG_VARIABLE, "").strip():
        return named
    for path in (user_config(), SYSTEM_FILE):
        if _may_exist(path):
            return path
    return None


def user_config() -> str:
    """Return the path of the user's own profiles file."""
    return os.path.join(_base("XDG_CONFIG_HOME", ".config"), "mlflow-pack", "auth.toml")


def token_folder() -> str:
    """Return the folder where tokens are kept for this user's other processes.

    It is the state folder and not the cache: a refresh token cannot be had again by itself.
    """
    return os.path.join(_base("XDG_STATE_HOME", ".local/state"), "mlflow-pack", "auth")


def _base(variable: str, default: str) -> str:
    base = os.environ.get(variable, "")
    # The base directory specification: a relative value is to be ignored.
    return base if os.path.isabs(base) else os.path.join(os.path.expanduser("~"), default)


def _may_exist(path: str) -> bool:
    if not os.path.isabs(path):  # no home directory: "~" would be one below the current directory
        return False
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError):
        return True  # it cannot be looked at: reading it will say why, and nothing is sent
    return True
