"""Settings, read from ``MLFLOW_PACK_*`` environment variables at the moment of use.

Nothing is read on import: a wrong value surfaces in the call that needs it, never in
``import mlflow``. The table at the end is the whole list; docs/reference/settings.md follows it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")

_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off"})
_DURATION = re.compile(r"(?P<count>\d+)(?P<unit>[smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def parse_bool(text: str) -> bool:
    """Read ``true``/``false`` and their usual spellings.

    Raises:
        ValueError: If the text is none of them.
    """
    folded = text.strip().lower()
    if folded in _TRUE:
        return True
    if folded in _FALSE:
        return False
    raise ValueError("expected true or false")


def parse_list(text: str) -> tuple[str, ...]:
    """Split at commas, dropping blanks around and between the parts."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def parse_count(text: str) -> int:
    """Read a whole number that is not negative.

    Raises:
        ValueError: If the text is none.
    """
    try:
        count = int(text)
    except ValueError:
        count = -1
    if count < 0:
        raise ValueError("expected a whole number, 0 or more")
    return count


def parse_duration(text: str) -> int:
    """Read a duration such as ``2s``, ``15m``, ``24h`` or ``14d``.

    Returns:
        The duration in seconds.

    Raises:
        ValueError: If the text has another form.
    """
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise ValueError("expected a number and one of s, m, h, d, such as 15m")
    return int(match["count"]) * _SECONDS[match["unit"]]


def format_duration(seconds: int) -> str:
    """Write a duration as `parse_duration` reads it, in the largest unit that fits."""
    for unit, length in sorted(_SECONDS.items(), key=lambda pair: -pair[1]):
        if seconds % length == 0:
            return f"{seconds // length}{unit}"
    raise AssertionError("a second is a unit")


@dataclass(frozen=True)
class Setting(Generic[T]):
    """One environment variable.

    Attributes:
        name: The variable's full name.
        default: Value when the variable is unset or empty.
        parse: Turns the text into the value; raises ValueError with what was expected.
        meaning: One line for the README's table.
    """

    name: str
    default: T
    parse: Callable[[str], T]
    meaning: str

    def get(self) -> T:
        """Return the current value.

        Raises:
            ConfigurationError: If the variable holds something unusable.
        """
        text = os.environ.get(self.name, "").strip()
        if not text:
            return self.default
        try:
            return self.parse(text)
        except ValueError as exc:
            # Imported here: this module is loaded inside `import mlflow`.
            from mlflow_plugins_pack.errors import ConfigurationError

            raise ConfigurationError(
                f"The setting {self.name} has the value {text!r}: {exc}. "
                f"Nothing was changed. Correct it, or unset it for its default."
            ) from exc

    def is_set(self) -> bool:
        """Tell whether the variable has a value of its own."""
        return bool(os.environ.get(self.name, "").strip())


# --- artifacts ----------------------------------------------------------------------------------

ARTIFACT_ROOTS: Setting[tuple[str, ...]] = Setting(
    "MLFLOW_PACK_ARTIFACT_ROOTS",
    (),
    parse_list,
    "Artifact roots that a server may open besides its own destination and default root.",
)
ARTIFACT_CACHE_DIR: Setting[str] = Setting(
    "MLFLOW_PACK_ARTIFACT_CACHE_DIR",
    "",
    str,
    "Folder of the artifact store's local index cache; else `$XDG_CACHE_HOME/mlflow-pack`, "
    "else `~/.cache/mlflow-pack`.",
)
ARTIFACT_CACHE_BYTES: Setting[int] = Setting(
    "MLFLOW_PACK_ARTIFACT_CACHE_BYTES",
    0,
    parse_count,
    "Most bytes of downloaded files that are kept there for the next download; 0 for none.",
)
ARTIFACT_KEYS: Setting[tuple[str, ...]] = Setting(
    "MLFLOW_PACK_ARTIFACT_KEYS",
    (),
    parse_list,
    "Where the keys of encrypted artifact stores are, the newest first: `env:NAME`, "
    "`file:/path` (mode 0600) or `command:PROGRAM ARGUMENTS`; older ones still open.",
)
ARTIFACT_ENCRYPT: Setting[bool] = Setting(
    "MLFLOW_PACK_ARTIFACT_ENCRYPT",
    False,
    parse_bool,
    "Encrypt artifact stores that the first upload makes, and upload to no other.",
)

# --- lineage ------------------------------------------------------------------------------------

LINEAGE_ENABLED: Setting[bool] = Setting(
    "MLFLOW_PACK_LINEAGE_ENABLED", True, parse_bool, "Capture lineage; `false` turns it all off."
)
LINEAGE_CAPTURE: Setting[tuple[str, ...]] = Setting(
    "MLFLOW_PACK_LINEAGE_CAPTURE",
    ("audit", "wrap", "boto", "azure", "http", "sql", "mlflow", "spool"),
    parse_list,
    "Capture layers that are on, of `audit`, `wrap`, `boto`, `azure`, `http`, `sql`, `mlflow`, "
    "`spool`.",
)
LINEAGE_INCLUDE: Setting[tuple[str, ...]] = Setting(
    "MLFLOW_PACK_LINEAGE_INCLUDE",
    (),
    parse_list,
    "Paths or patterns that are data although the noise filter says no.",
)
LINEAGE_EXCLUDE: Setting[tuple[str, ...]] = Setting(
    "MLFLOW_PACK_LINEAGE_EXCLUDE",
    (),
    parse_list,
    "Paths, URIs or patterns that are never recorded.",
)
LINEAGE_HASH: Setting[bool] = Setting(
    "MLFLOW_PACK_LINEAGE_HASH", True, parse_bool, "Hash local files; else only size and time."
)
LINEAGE_HASH_MAX_BYTES: Setting[int] = Setting(
    "MLFLOW_PACK_LINEAGE_HASH_MAX_BYTES",
    256 * 1024 * 1024,
    parse_count,
    "Files up to this many bytes are hashed in full, larger ones by 64 samples of 1 MiB.",
)
LINEAGE_MAX_INPUTS: Setting[int] = Setting(
    "MLFLOW_PACK_LINEAGE_MAX_INPUTS",
    10_000,
    parse_count,
    "Most inputs, and most outputs, that a run lists; folders stand for further inputs.",
)
LINEAGE_REDACT: Setting[bool] = Setting(
    "MLFLOW_PACK_LINEAGE_REDACT", False, parse_bool, "Write the home folder as `~`."
)
LINEAGE_EARLY: Setting[bool] = Setting(
    "MLFLOW_PACK_LINEAGE_EARLY",
    False,
    parse_bool,
    "Begin to capture when Python starts; needs `mlflow-pack lineage early install` once.",
)
LINEAGE_OPENLINEAGE_URL: Setting[str] = Setting(
    "MLFLOW_PACK_LINEAGE_OPENLINEAGE_URL",
    "",
    str,
    "Where each finished run is reported as an OpenLineage event; nowhere if not set.",
)
LINEAGE_FLUSH_SECONDS: Setting[int] = Setting(
    "MLFLOW_PACK_LINEAGE_FLUSH_SECONDS",
    60,
    parse_count,
    "How often a running run's tags are written in case it is killed; 0 for never.",
)

# --- auth ---------------------------------------------------------------------------------------

AUTH_CONFIG: Setting[str] = Setting(
    "MLFLOW_PACK_AUTH_CONFIG",
    "",
    str,
    "The profiles file; else `$XDG_CONFIG_HOME/mlflow-pack/auth.toml`, "
    "else `/etc/mlflow-pack/auth.toml`.",
)

AUTH_HOST: Setting[tuple[str, ...]] = Setting(
    "MLFLOW_PACK_AUTH_HOST",
    (),
    parse_list,
    "The short form: hosts to sign in to, by these variables instead of a file.",
)
AUTH_SOURCE: Setting[str] = Setting(
    "MLFLOW_PACK_AUTH_SOURCE", "", str, "Its source; else chosen by what else is set."
)
AUTH_TOKEN: Setting[str] = Setting(
    "MLFLOW_PACK_AUTH_TOKEN", "", str, "The token, for the source `env`."
)
AUTH_TOKEN_FILE: Setting[str] = Setting(
    "MLFLOW_PACK_AUTH_TOKEN_FILE", "", str, "The token's file, for the source `file`."
)
AUTH_USERNAME: Setting[str] = Setting(
    "MLFLOW_PACK_AUTH_USERNAME", "", str, "The user's name, for the source `basic`."
)
AUTH_PASSWORD: Setting[str] = Setting(
    "MLFLOW_PACK_AUTH_PASSWORD", "", str, "The user's password, for the source `basic`."
)
AUTH_ISSUER: Setting[str] = Setting(
    "MLFLOW_PACK_AUTH_ISSUER", "", str, "The provider, for the source `oidc`."
)
AUTH_CLIENT_ID: Setting[str] = Setting(
    "MLFLOW_PACK_AUTH_CLIENT_ID", "", str, "Who we are to the provider."
)
AUTH_CLIENT_SECRET: Setting[str] = Setting(
    "MLFLOW_PACK_AUTH_CLIENT_SECRET", "", str, "How we prove it."
)
AUTH_SCOPE: Setting[str] = Setting(
    "MLFLOW_PACK_AUTH_SCOPE", "", str, "OAuth scopes to ask for, with blanks between."
)
AUTH_AUDIENCE: Setting[str] = Setting(
    "MLFLOW_PACK_AUTH_AUDIENCE", "", str, "For whom the token is, where the source asks for that."
)

# --- identity of a server's callers ---------------------------------------------------------------

JWT_ISSUER: Setting[str] = Setting(
    "MLFLOW_PACK_JWT_ISSUER", "", str, "Whose tokens a basic-auth server accepts beside passwords."
)
JWT_AUDIENCE: Setting[str] = Setting(
    "MLFLOW_PACK_JWT_AUDIENCE", "", str, "For whom those tokens must be made out."
)
JWT_JWKS_URI: Setting[str] = Setting(
    "MLFLOW_PACK_JWT_JWKS_URI", "", str, "Where the issuer's keys are; else it is asked."
)
JWT_USER_CLAIM: Setting[str] = Setting(
    "MLFLOW_PACK_JWT_USER_CLAIM", "sub", str, "Which claim names the user."
)
JWT_CREATE_USERS: Setting[bool] = Setting(
    "MLFLOW_PACK_JWT_CREATE_USERS",
    False,
    parse_bool,
    "Create a user whose token is valid and who is not known yet.",
)

# --- approvals ----------------------------------------------------------------------------------

APPROVALS_POLICY: Setting[str] = Setting(
    "MLFLOW_PACK_APPROVALS_POLICY",
    "",
    str,
    "The policy file; required by every `approval-` registry URI.",
)
APPROVALS_AUDIT_KEY: Setting[str] = Setting(
    "MLFLOW_PACK_APPROVALS_AUDIT_KEY",
    "",
    str,
    "File with the key that signs and checks exported heads of the audit log.",
)
APPROVALS_DIGEST_SECONDS: Setting[int] = Setting(
    "MLFLOW_PACK_APPROVALS_DIGEST_SECONDS",
    10,
    parse_count,
    "How long a call itself reads a version's files; what takes longer goes on behind it.",
)


def all_settings() -> list[Setting[object]]:
    """Return every setting of this module in the order of the file."""
    return [value for value in globals().values() if isinstance(value, Setting)]
