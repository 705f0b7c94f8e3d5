"""Settings, read from ``MLFLOW_PACK_*`` environment variables at the moment of use.

Nothing is read on import: a wrong value surfaces in the call that needs it, never in
``import mlflow``. The list below is complete; docs/reference/settings.md is generated from it.
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
        ValueError: If the text is another word.
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
        ValueError: If the text is not such a number.
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


_TYPE_NAMES: dict[object, str] = {
    parse_bool: "true or false",
    parse_list: "list",
    parse_count: "whole number",
}


@dataclass(frozen=True)
class Setting(Generic[T]):
    """One environment variable.

    Attributes:
        name: The variable's full name.
        default: Value when the variable is unset or empty.
        parse: Returns the value of a text; raises ValueError with what was expected.
        meaning: One sentence for docs/reference/settings.md.
    """

    name: str
    default: T
    parse: Callable[[str], T]
    meaning: str

    @property
    def type_name(self) -> str:
        """What the variable holds, in words."""
        return _TYPE_NAMES.get(self.parse, "text")

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
        """Return whether the variable is set and not empty."""
        return bool(os.environ.get(self.name, "").strip())


# --- artifacts ----------------------------------------------------------------------------------

ARTIFACT_ROOTS: Setting[tuple[str, ...]] = Setting(
    "MLFLOW_PACK_ARTIFACT_ROOTS",
    (),
    parse_list,
    "Artifact roots that a server may open in addition to its own destination and default root.",
)
ARTIFACT_CACHE_DIR: Setting[str] = Setting(
    "MLFLOW_PACK_ARTIFACT_CACHE_DIR",
    "",
    str,
    "Folder of the artifact store's local caches; if not set, `$XDG_CACHE_HOME/mlflow-pack` or "
    "`~/.cache/mlflow-pack`.",
)
ARTIFACT_CACHE_BYTES: Setting[int] = Setting(
    "MLFLOW_PACK_ARTIFACT_CACHE_BYTES",
    0,
    parse_count,
    "Maximum bytes of downloaded files kept in that folder for later downloads; 0 keeps none.",
)
ARTIFACT_RANGE_CACHE_BYTES: Setting[int] = Setting(
    "MLFLOW_PACK_ARTIFACT_RANGE_CACHE_BYTES",
    1024 * 1024 * 1024,
    parse_count,
    "Maximum bytes of stored data kept in that folder of files that share data with earlier "
    "versions, for the download of the next version; 0 keeps none.",
)
ARTIFACT_KEYS: Setting[tuple[str, ...]] = Setting(
    "MLFLOW_PACK_ARTIFACT_KEYS",
    (),
    parse_list,
    "Locations of the keys of encrypted artifact stores, the newest first: `env:NAME`, "
    "`file:/path` (mode 0600) or `command:PROGRAM ARGUMENTS`; older keys only decrypt.",
)
ARTIFACT_ENCRYPT: Setting[bool] = Setting(
    "MLFLOW_PACK_ARTIFACT_ENCRYPT",
    False,
    parse_bool,
    "Encrypt the artifact stores that a first upload creates; refuse uploads to any other.",
)

# --- lineage ------------------------------------------------------------------------------------

LINEAGE_ENABLED: Setting[bool] = Setting(
    "MLFLOW_PACK_LINEAGE_ENABLED", True, parse_bool, "Whether lineage is captured."
)
LINEAGE_CAPTURE: Setting[tuple[str, ...]] = Setting(
    "MLFLOW_PACK_LINEAGE_CAPTURE",
    ("audit", "wrap", "boto", "azure", "http", "sql", "mlflow", "spool"),
    parse_list,
    "Capture layers to use, out of `audit`, `wrap`, `boto`, `azure`, `http`, `sql`, `mlflow` and "
    "`spool`.",
)
LINEAGE_INCLUDE: Setting[tuple[str, ...]] = Setting(
    "MLFLOW_PACK_LINEAGE_INCLUDE",
    (),
    parse_list,
    "Paths or patterns to record although the noise filter excludes them.",
)
LINEAGE_EXCLUDE: Setting[tuple[str, ...]] = Setting(
    "MLFLOW_PACK_LINEAGE_EXCLUDE",
    (),
    parse_list,
    "Paths, URIs or patterns that are never recorded.",
)
LINEAGE_HASH: Setting[bool] = Setting(
    "MLFLOW_PACK_LINEAGE_HASH",
    True,
    parse_bool,
    "Whether local files are hashed; otherwise only size and time are recorded.",
)
LINEAGE_HASH_MAX_BYTES: Setting[int] = Setting(
    "MLFLOW_PACK_LINEAGE_HASH_MAX_BYTES",
    256 * 1024 * 1024,
    parse_count,
    "Maximum size in bytes of files that are hashed in full; of larger ones, 64 samples of 1 MiB.",
)
LINEAGE_MAX_INPUTS: Setting[int] = Setting(
    "MLFLOW_PACK_LINEAGE_MAX_INPUTS",
    10_000,
    parse_count,
    "Maximum number of inputs, and of outputs, that a run lists; folders stand for further ones.",
)
LINEAGE_REDACT: Setting[bool] = Setting(
    "MLFLOW_PACK_LINEAGE_REDACT", False, parse_bool, "Whether the home folder is recorded as `~`."
)
LINEAGE_CODE: Setting[bool] = Setting(
    "MLFLOW_PACK_LINEAGE_CODE",
    False,
    parse_bool,
    "Whether `lineage.json` keeps the text of the entry script and of changes that were not "
    "committed, so that `mlflow-pack lineage diff` can show what changed.",
)
LINEAGE_EARLY: Setting[bool] = Setting(
    "MLFLOW_PACK_LINEAGE_EARLY",
    False,
    parse_bool,
    "Start to capture when Python starts; needs `mlflow-pack lineage early install` once.",
)
LINEAGE_OPENLINEAGE_URL: Setting[str] = Setting(
    "MLFLOW_PACK_LINEAGE_OPENLINEAGE_URL",
    "",
    str,
    "URL that receives an OpenLineage event for each finished run.",
)
LINEAGE_OPENLINEAGE_NAMESPACE: Setting[str] = Setting(
    "MLFLOW_PACK_LINEAGE_OPENLINEAGE_NAMESPACE",
    "mlflow",
    str,
    "Namespace of the jobs in OpenLineage events.",
)
LINEAGE_OPENLINEAGE_HEADER: Setting[str] = Setting(
    "MLFLOW_PACK_LINEAGE_OPENLINEAGE_HEADER",
    "",
    str,
    "A header, `Name: value`, that OpenLineage events are sent with, such as an API key.",
)
LINEAGE_OPENLINEAGE_TOKEN_FILE: Setting[str] = Setting(
    "MLFLOW_PACK_LINEAGE_OPENLINEAGE_TOKEN_FILE",
    "",
    str,
    "File with a bearer token that OpenLineage events are sent with; read for each event.",
)
LINEAGE_OPENLINEAGE_AUTH: Setting[str] = Setting(
    "MLFLOW_PACK_LINEAGE_OPENLINEAGE_AUTH",
    "",
    str,
    "MLflow request auth provider that signs OpenLineage events; `plugins-pack` is the one that "
    "knows the profiles of `auth.toml`.",
)
LINEAGE_FLUSH_SECONDS: Setting[int] = Setting(
    "MLFLOW_PACK_LINEAGE_FLUSH_SECONDS",
    60,
    parse_count,
    "Seconds between two writes of a running run's lineage, in case it is killed; 0 for none.",
)

# --- auth ---------------------------------------------------------------------------------------

AUTH_CONFIG: Setting[str] = Setting(
    "MLFLOW_PACK_AUTH_CONFIG",
    "",
    str,
    "Path of the profiles file; if not set, `$XDG_CONFIG_HOME/mlflow-pack/auth.toml`, "
    "`~/.config/mlflow-pack/auth.toml` or `/etc/mlflow-pack/auth.toml`.",
)

AUTH_HOST: Setting[tuple[str, ...]] = Setting(
    "MLFLOW_PACK_AUTH_HOST",
    (),
    parse_list,
    "Hosts to sign in to with the profile that these variables describe, in place of a file.",
)
AUTH_SOURCE: Setting[str] = Setting(
    "MLFLOW_PACK_AUTH_SOURCE",
    "",
    str,
    "Source of the credential; if not set, the other variables decide.",
)
AUTH_TOKEN: Setting[str] = Setting(
    "MLFLOW_PACK_AUTH_TOKEN", "", str, "Token, for the source `env`."
)
AUTH_TOKEN_FILE: Setting[str] = Setting(
    "MLFLOW_PACK_AUTH_TOKEN_FILE", "", str, "Path of the token's file, for the source `file`."
)
AUTH_USERNAME: Setting[str] = Setting(
    "MLFLOW_PACK_AUTH_USERNAME", "", str, "User name, for the source `basic`."
)
AUTH_PASSWORD: Setting[str] = Setting(
    "MLFLOW_PACK_AUTH_PASSWORD", "", str, "Password, for the source `basic`."
)
AUTH_ISSUER: Setting[str] = Setting(
    "MLFLOW_PACK_AUTH_ISSUER", "", str, "URL of the OpenID Connect provider, for the source `oidc`."
)
AUTH_CLIENT_ID: Setting[str] = Setting("MLFLOW_PACK_AUTH_CLIENT_ID", "", str, "OAuth client ID.")
AUTH_CLIENT_SECRET: Setting[str] = Setting(
    "MLFLOW_PACK_AUTH_CLIENT_SECRET", "", str, "OAuth client secret."
)
AUTH_SCOPE: Setting[str] = Setting(
    "MLFLOW_PACK_AUTH_SCOPE", "", str, "OAuth scopes, separated by blanks."
)
AUTH_AUDIENCE: Setting[str] = Setting(
    "MLFLOW_PACK_AUTH_AUDIENCE", "", str, "Audience of the token, for sources that ask for one."
)

# --- identity of a server's callers ---------------------------------------------------------------

JWT_ISSUER: Setting[str] = Setting(
    "MLFLOW_PACK_JWT_ISSUER",
    "",
    str,
    "Issuer whose tokens a basic-auth server accepts in addition to passwords.",
)
JWT_AUDIENCE: Setting[str] = Setting(
    "MLFLOW_PACK_JWT_AUDIENCE", "", str, "Audience that those tokens must have."
)
JWT_JWKS_URI: Setting[str] = Setting(
    "MLFLOW_PACK_JWT_JWKS_URI",
    "",
    str,
    "URL of the issuer's keys; if not set, its discovery document names them.",
)
JWT_USER_CLAIM: Setting[str] = Setting(
    "MLFLOW_PACK_JWT_USER_CLAIM", "sub", str, "Claim that holds the user name."
)
JWT_CREATE_USERS: Setting[bool] = Setting(
    "MLFLOW_PACK_JWT_CREATE_USERS",
    False,
    parse_bool,
    "Whether an unknown user with a valid token is created.",
)
JWT_ADMINS: Setting[tuple[str, ...]] = Setting(
    "MLFLOW_PACK_JWT_ADMINS",
    (),
    parse_list,
    "Admins of the basic-auth server that tokens may sign in as; other admins use passwords only.",
)

# --- approvals ----------------------------------------------------------------------------------

APPROVALS_POLICY: Setting[str] = Setting(
    "MLFLOW_PACK_APPROVALS_POLICY",
    "",
    str,
    "Path of the policy file; required by every `approval-` registry URI.",
)
APPROVALS_AUDIT_KEY: Setting[str] = Setting(
    "MLFLOW_PACK_APPROVALS_AUDIT_KEY",
    "",
    str,
    "Path of the key that signs and checks exported heads of the audit log.",
)
APPROVALS_DIGEST_SECONDS: Setting[int] = Setting(
    "MLFLOW_PACK_APPROVALS_DIGEST_SECONDS",
    10,
    parse_count,
    "Seconds a request may spend hashing files before the work continues in the background.",
)
REVIEW_URL: Setting[str] = Setting(
    "MLFLOW_PACK_REVIEW_URL",
    "",
    str,
    "Address of the review app as browsers reach it, such as `https://mlflow.example.com`; "
    "refusals and webhooks then name the page of the request.",
)
REVIEW_MLFLOW_URL: Setting[str] = Setting(
    "MLFLOW_PACK_REVIEW_MLFLOW_URL",
    "",
    str,
    "Address of MLflow's pages as browsers reach them, for the review app's links; if not set, "
    "they are on the review app's own host.",
)
REVIEW_INNER_APP: Setting[str] = Setting(
    "MLFLOW_PACK_REVIEW_INNER_APP",
    "",
    str,
    "Name of the MLflow app that `--app-name approvals` wraps; if not set, MLflow's own without "
    "sign-in.",
)


def all_settings() -> list[Setting[object]]:
    """Return every setting of this module in the order of the file."""
    return [value for value in globals().values() if isinstance(value, Setting)]
