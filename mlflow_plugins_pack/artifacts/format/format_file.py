"""What is written into a store once and decides how all of it is read; pure."""

from __future__ import annotations

import json
import uuid
from dataclasses import asdict, dataclass
from typing import Any

from mlflow_plugins_pack.artifacts.format import object_keys
from mlflow_plugins_pack.artifacts.format.checked_json import refuse_damaged, with_check
from mlflow_plugins_pack.artifacts.format.chunker import ChunkerParameters, CutSizes
from mlflow_plugins_pack.errors import StoreFormatError

FORMAT_NAME = "mlflow-plugins-pack artifact store"
FORMAT_VERSION = 1
HASH = "blake3"
"""Of chunks; the SHA-256 of a whole file stands in its entry."""

CIPHER = "xaes-256-gcm"
NUMBERED, LISTED = "numbered", "listed"
_MAX_FORMAT_BYTES = 64 * 1024


class DamagedFormatError(StoreFormatError):
    """The format file of a store is damaged or missing; it can be written again."""


@dataclass(frozen=True)
class StoreFormat:
    """What is fixed for a store's life.

    Attributes:
        store_id: Names the store in local caches.
        chunker: How files are cut.
        is_encrypted: Whether everything that is written is sealed (see `encryption`).
        is_numbered: Whether calls are numbered without gaps, which takes a service that creates
            an object only if it does not exist.
    """

    store_id: str
    chunker: ChunkerParameters
    is_encrypted: bool = False
    is_numbered: bool = True


def encode_format(store_format: StoreFormat) -> bytes:
    """Return the bytes of ``.cas/format.json``."""
    document: dict[str, Any] = {
        "format": FORMAT_NAME,
        "version": FORMAT_VERSION,
        "store_id": store_format.store_id,
        "hash": HASH,
        "chunker": {"algorithm": "fastcdc-2020", **asdict(store_format.chunker)},
    }
    if store_format.is_encrypted:
        document["encryption"] = CIPHER
    if not store_format.is_numbered:
        document["commits"] = LISTED
    checked = with_check(document, object_keys.FORMAT_KEY)
    return json.dumps(checked, indent=2).encode() + b"\n"


def decode_format(data: bytes, where: str) -> StoreFormat:
    """Read ``.cas/format.json``.

    Raises:
        DamagedFormatError: If it is damaged.
        StoreFormatError: If a newer version wrote it.
    """
    advice = "Nothing was read or written."
    try:
        document: dict[str, Any] = json.loads(data[:_MAX_FORMAT_BYTES])
        if document["format"] != FORMAT_NAME:
            raise ValueError("another program wrote it")
        refuse_damaged(document, object_keys.FORMAT_KEY)
        version = document["version"]
        if version != FORMAT_VERSION:
            raise StoreFormatError(
                f"The artifact store {where} has format version {version!r:.20}; this version of "
                f"mlflow-plugins-pack reads version {FORMAT_VERSION}. {advice} Upgrade the package."
            )
        chunker = document["chunker"]
        if document["hash"] != HASH or chunker["algorithm"] != "fastcdc-2020":
            raise StoreFormatError(
                f"The artifact store {where} uses the hash {document['hash']!r:.40} or a way of "
                f"cutting files that this version does not know. {advice} Upgrade the package."
            )
        encryption = document.get("encryption")
        if encryption not in (None, CIPHER):
            raise StoreFormatError(
                f"The artifact store {where} is encrypted in a way, {encryption!r:.40}, that this "
                f"version does not know. {advice} Upgrade the package."
            )
        commits = document.get("commits", NUMBERED)
        if commits not in (NUMBERED, LISTED):
            raise StoreFormatError(
                f"The artifact store {where} orders its calls in a way, {commits!r:.40}, that this "
                f"version does not know. {advice} Upgrade the package."
            )
        store_id = str(uuid.UUID(document["store_id"]))
        parameters = ChunkerParameters(
            small=CutSizes(**chunker["small"]),
            large=CutSizes(**chunker["large"]),
            large_from=int(chunker["large_from"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError) as exc:
        raise DamagedFormatError(
            f"{object_keys.FORMAT_KEY} of the artifact store {where} cannot be read: {exc}. "
            f"{advice} "
            f"Run `mlflow-pack artifacts init --restore {where}`, which writes the file again."
        ) from exc
    return StoreFormat(store_id, parameters, encryption is not None, commits == NUMBERED)
