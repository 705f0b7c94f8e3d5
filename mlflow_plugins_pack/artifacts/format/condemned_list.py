"""Lists of condemned packs: the objects by which a collection tells what it will remove; pure.

A list is a JSON object: its version, whether its packs are gone by now, their names in hex, and a
check of all that.
"""

from __future__ import annotations

import binascii
import json
from dataclasses import dataclass

from mlflow_plugins_pack.artifacts.format import object_keys
from mlflow_plugins_pack.artifacts.format.checked_json import refuse_damaged, with_check
from mlflow_plugins_pack.errors import ArtifactCorruptError

LIST_VERSION = 1
_MAX_LIST_BYTES = 256 * 1024 * 1024


@dataclass(frozen=True)
class CondemnedList:
    """Packs that a collection is about to remove.

    Attributes:
        packs: The names of the condemned packs.
        swept: Whether all of them were removed.
    """

    packs: frozenset[bytes]
    swept: bool = False


def encode_list(condemned: CondemnedList, ulid: str) -> bytes:
    """Return the bytes of a list of condemned packs that will have this name."""
    document = {
        "version": LIST_VERSION,
        "swept": condemned.swept,
        "packs": sorted(name.hex() for name in condemned.packs),
    }
    checked = with_check(document, object_keys.condemned_key(ulid))
    return json.dumps(checked, indent=0).encode() + b"\n"


def decode_list(data: bytes, ulid: str) -> CondemnedList:
    """Read a list of condemned packs.

    Raises:
        ArtifactCorruptError: If it is damaged. No writer may go on without knowing what it says.
    """
    try:
        if len(data) > _MAX_LIST_BYTES:
            raise ValueError("it is too long")
        document = json.loads(data)
        if document["version"] != LIST_VERSION or not isinstance(document["swept"], bool):
            raise ValueError("its version is unknown")
        refuse_damaged(document, object_keys.condemned_key(ulid))
        names = frozenset(binascii.unhexlify(name) for name in document["packs"])
        if any(len(name) != 32 for name in names):
            raise ValueError("a name has the wrong length")
    except (ValueError, KeyError, TypeError, RecursionError) as exc:
        raise ArtifactCorruptError(
            f"The list of condemned packs {object_keys.condemned_key(ulid)} cannot be read: {exc}. "
            f"Nothing was committed and nothing was removed. If a newer version of "
            f"mlflow-plugins-pack collects this store, upgrade; otherwise restore the object from "
            f"a backup, or run `mlflow-pack artifacts fsck --repair-index`, which takes it out."
        ) from exc
    return CondemnedList(names, document["swept"])
