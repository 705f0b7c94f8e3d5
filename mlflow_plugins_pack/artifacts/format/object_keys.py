"""Names inside a store: artifact paths, scopes, object keys, ULIDs; pure.

A *scope* is the part of a path that owns a manifest: one run, one logged model, one trace. It is
a function of the path alone, so a server that serves the whole store and a client that opened
one run's URI find the same manifest.
"""

from __future__ import annotations

import binascii
import posixpath
import re
import urllib.parse

from mlflow_plugins_pack.artifacts.format.segment_names import is_own_name
from mlflow_plugins_pack.errors import ArtifactPathError

FORMAT_KEY = ".cas/format.json"
PACK_PREFIX = ".cas/packs/"
INDEX_PREFIX = ".cas/index/"
COLLECTION_PREFIX = ".cas/gc/"
LEASE_KEY = ".cas/gc/lease"
DAMAGED_PREFIX = ".cas/damaged/"
RESERVE_KEY = ".cas/gc/reserve"
KEYS_PREFIX = ".cas/keys/"
OWN_FOLDER = ".cas"
SEGMENT_FOLDER = ".m"

_RUN_ID = re.compile(r"[0-9A-Za-z-]{26,40}")
_MODEL_ID = re.compile(r"m-[0-9A-Za-z-]+")
_TRACE_ID = re.compile(r"tr-[0-9A-Za-z-]+")
_EXPERIMENT_ID = re.compile(r"\d+")
_LEAF = "artifacts"

_PLAIN_PATH = re.compile(r"[\w-][\w.-]*(?:/[\w-][\w.-]*)*", re.ASCII)
"""Most paths: every other one is looked at in detail."""

_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_ULID = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}")


# --- artifact paths -------------------------------------------------------------------------------


def normalize_path(path: str | None) -> str:
    """Check an artifact path from a caller and return its one spelling.

    ``None``, an empty text and ``.`` mean the root. A single slash at the end and ``.`` parts are
    dropped; anything that could mean another place, also after percent-decoding, is refused.

    Returns:
        Parts joined by single slashes; empty for the root.

    Raises:
        ArtifactPathError: If the path is absolute, climbs, has empty parts, a backslash or a
            control character, or hides one of these behind percent-encoding.
    """
    if path is None or path in ("", "."):
        return ""
    if _PLAIN_PATH.fullmatch(path):
        return path
    problem = _find_problem(path)
    if problem is None:
        decoded = _decode_fully(path)
        if decoded is None:
            problem = "is percent-encoded too deeply"
        elif decoded != path:
            hidden = _find_problem(decoded)
            if hidden is None and decoded.count("/") != path.count("/"):
                hidden = "has a slash"
            if hidden is not None:
                problem = f"{hidden} once its percent-encoding is undone"
    if problem is not None:
        raise ArtifactPathError(
            f"The artifact path {path!r} {problem}. Nothing was read or written. Use a path "
            f"relative to the artifact root, its parts separated by single slashes."
        )
    return "/".join(part for part in path.split("/") if part not in ("", "."))


def requested_path(path: str | None) -> str:
    """Check the path of an artifact to read or delete and return its one spelling.

    Slashes in a row count as one: a server stores what is put to ``a//b`` at ``a/b``.

    Raises:
        ArtifactPathError: As `normalize_path` does.
    """
    return normalize_path(re.sub("/+", "/", path) if path else path)


MAX_NAME_BYTES = 255
"""Longest name that file systems take: a longer one could be stored and never downloaded."""


def storable_path(path: str | None) -> str:
    """Check the path of an artifact to write and return its one spelling.

    Raises:
        ArtifactPathError: As `normalize_path` does, and if one of its names is too long.
    """
    normalized = normalize_path(path)
    if len(normalized.encode()) <= MAX_NAME_BYTES:
        return normalized
    for part in normalized.split("/"):
        if len(part.encode()) > MAX_NAME_BYTES:
            raise ArtifactPathError(
                f"The artifact path {path!r} has a name of {len(part.encode())} bytes; no more "
                f"than {MAX_NAME_BYTES} can be written to a disk, so it could not be downloaded. "
                f"Nothing was written. Use a shorter name."
            )
    return normalized


def _find_problem(path: str) -> str | None:
    if "\0" in path:
        return "has a NUL character"
    if any(ord(character) < 32 or ord(character) == 127 for character in path):
        return "has a control character"
    if "\\" in path:
        return "has a backslash"
    if path.startswith("/"):
        return "is absolute"
    if re.match(r"[A-Za-z]:", path) and len(path) > 2 and path[2] == "/":
        return "is absolute"
    parts = path.split("/")
    if ".." in parts:
        return "climbs out of its folder"
    if "" in parts[:-1]:
        return "has two slashes in a row"
    try:
        path.encode()
    except UnicodeEncodeError:
        return "has a character that is not valid Unicode"
    return None


def _decode_fully(path: str) -> str | None:
    for _ in range(10):
        decoded = urllib.parse.unquote(path)
        if decoded == path:
            return path
        path = decoded
    return None


def is_stored_path(path: str) -> bool:
    """Return whether a path found in a manifest is one that a writer could have stored."""
    if _PLAIN_PATH.fullmatch(path):
        return True
    return (
        path not in ("", ".") and _find_problem(path) is None and posixpath.normpath(path) == path
    )


def join(*parts: str) -> str:
    """Join normalized paths, any of which may be empty."""
    return "/".join(part for part in parts if part)


def relative_to(path: str, folder: str) -> str | None:
    """Return the path as seen from the folder: empty if they are equal, None if it is outside."""
    if not folder:
        return path
    if path == folder:
        return ""
    return path[len(folder) + 1 :] if path.startswith(folder + "/") else None


# --- scopes ---------------------------------------------------------------------------------------


def split_scope(path: str) -> tuple[str, str]:
    """Split a path relative to the store's root into its scope and the path inside the scope.

    Returns:
        The scope and the rest. A path outside any run, model or trace belongs to the scope "".
    """
    parts = path.split("/")
    for end, part in enumerate(parts):
        if part.startswith("."):
            # Keys under such names could meet the store's own.
            break
        if part == _LEAF and _owns_artifacts(parts[:end]):
            return "/".join(parts[: end + 1]), "/".join(parts[end + 1 :])
    return "", path


def _owns_artifacts(parents: list[str]) -> bool:
    if not parents:
        return False
    if len(parents) >= 2 and parents[-2] == "models" and _MODEL_ID.fullmatch(parents[-1]):
        return True
    if len(parents) >= 2 and parents[-2] == "traces" and _TRACE_ID.fullmatch(parents[-1]):
        return True
    return _RUN_ID.fullmatch(parents[-1]) is not None


def default_root(path: str) -> str:
    """Return where to create a store for a URI whose path is given.

    MLflow's own layout is taken off the end: run, model or trace, then the experiment's number,
    then ``workspaces/<name>``.
    """
    scope, _ = split_scope(path)
    if not scope:
        return path
    parts = scope.split("/")[:-1]
    drop = 2 if len(parts) >= 2 and parts[-2] in ("models", "traces") else 1
    parts = parts[:-drop]
    if parts and _EXPERIMENT_ID.fullmatch(parts[-1]):
        parts = parts[:-1]
    if len(parts) >= 2 and parts[-2] == "workspaces":
        parts = parts[:-2]
    return "/".join(parts)


def ancestors(path: str) -> list[str]:
    """Return the path and all folders above it, the nearest first, the empty root last."""
    parts = path.split("/") if path else []
    return ["/".join(parts[:count]) for count in range(len(parts), -1, -1)]


# --- keys -----------------------------------------------------------------------------------------


def pack_key(pack_id: bytes) -> str:
    """Return the key of a pack."""
    name = pack_id.hex()
    return f"{PACK_PREFIX}{name[:2]}/{name}"


def parse_pack_key(key: str) -> bytes | None:
    """Return the name of the pack whose key this is, or ends like this; None if no pack's does."""
    folder, _, name = key[-67:].partition("/")
    try:
        value = binascii.unhexlify(name)
    except ValueError:
        return None
    return value if len(value) == 32 and folder == name[:2] else None


def index_key(ulid: str) -> str:
    """Return the key of an index delta."""
    return f"{INDEX_PREFIX}{ulid}"


def condemned_key(ulid: str) -> str:
    """Return the key of a list of condemned packs."""
    return f"{COLLECTION_PREFIX}{ulid}"


def segment_prefix(scope: str) -> str:
    """Return the prefix of a scope's manifest segments, with its slash."""
    return join(scope, SEGMENT_FOLDER) + "/"


def segment_key(scope: str, name: str) -> str:
    """Return the key of a manifest segment."""
    return segment_prefix(scope) + name


def scope_of_key(key: str) -> str | None:
    """Return the scope to whose manifest an object belongs; None for any other object."""
    folder, _, name = key.rpartition("/")
    scope, _, leaf = folder.rpartition("/")
    if leaf != SEGMENT_FOLDER or not is_own_name(name):
        return None
    return None if scope and split_scope(scope + "/x")[0] != scope else scope


# --- ULIDs ----------------------------------------------------------------------------------------


def make_ulid(milliseconds: int, randomness: bytes) -> str:
    """Return a ULID (github.com/ulid/spec): sorts by time, then by chance.

    Args:
        milliseconds: Since 1970, below 2**48.
        randomness: Ten random bytes.
    """
    number = (milliseconds << 80) | int.from_bytes(randomness, "big")
    return "".join(_CROCKFORD[(number >> shift) & 31] for shift in range(125, -5, -5))


def is_ulid(text: str) -> bool:
    """Return whether the text is a ULID."""
    return _ULID.fullmatch(text) is not None
