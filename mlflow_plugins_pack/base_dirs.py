"""The pack's base directories: the user's, by the XDG Base Directory Specification, and `/etc`.

Imports `os` only, since automatic sign-in asks for a path on each request of stock MLflow.
"""

from __future__ import annotations

import os

SYSTEM_CONFIG_DIR = "/etc/mlflow-pack"
_NO_HOME = "/nonexistent"
"""Debian's home of users without one: absolute, and creating a file in it fails."""


def config_dir() -> str:
    """Return the folder of files that a person writes; never raises."""
    return _user_dir("XDG_CONFIG_HOME", ".config")


def state_dir() -> str:
    """Return the folder of files that cannot be recreated, such as refresh tokens; never raises."""
    return _user_dir("XDG_STATE_HOME", ".local/state")


def cache_dir() -> str:
    """Return the folder of files that may be deleted at any time; never raises."""
    return _user_dir("XDG_CACHE_HOME", ".cache")


def _user_dir(variable: str, default: str) -> str:
    base = os.environ.get(variable, "")
    # The specification says to ignore a relative value. A relative home directory is ignored for
    # the same reason: the current directory must not decide which files are read.
    if not os.path.isabs(base):
        home = os.path.expanduser("~")  # pathlib costs more to import and to call
        base = os.path.join(home if os.path.isabs(home) else _NO_HOME, default)
    return os.path.join(base, "mlflow-pack")
