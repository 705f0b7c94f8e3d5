"""Where the profiles file is; imports nothing, since every request of stock MLflow asks.

The current directory is never looked at: a cloned repository must not choose where tokens go or
which command produces them.
"""

from __future__ import annotations

import os

CONFIG_VARIABLE = "MLFLOW_PACK_AUTH_CONFIG"
SYSTEM_FILE = "/etc/mlflow-pack/auth.toml"


def find_config() -> str | None:
    """Return the path of the profiles file, or None where nobody configured one.

    A path named by the environment is returned whether or not it exists: a missing file is then
    an error of the request, not a silent sign-out. Never raises.
    """
    if named := os.environ.get(CONFIG_VARIABLE, "").strip():
        return named
    for path in (user_config(), SYSTEM_FILE):
        if _may_exist(path):
            return path
    return None


def user_config() -> str:
    """Return the path of the user's own profiles file."""
    base = os.environ.get("XDG_CONFIG_HOME", "")
    # The base directory specification: a relative value is to be ignored.
    if not os.path.isabs(base):
        base = os.path.join(os.path.expanduser("~"), ".config")
    return os.path.join(base, "mlflow-pack", "auth.toml")


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
