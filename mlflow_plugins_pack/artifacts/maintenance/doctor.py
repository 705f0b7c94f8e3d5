"""Checks an artifact root as a server would use it: reach it, read its format, write, read back."""

from __future__ import annotations

import secrets

from mlflow.exceptions import MlflowException

from mlflow_plugins_pack import settings
from mlflow_plugins_pack.artifacts.format import object_keys
from mlflow_plugins_pack.artifacts.store.foreign_data import refuse_foreign_data
from mlflow_plugins_pack.artifacts.store.keyring import read_master_keys
from mlflow_plugins_pack.artifacts.store.opening import backend_of, find_store
from mlflow_plugins_pack.artifacts.uri.location import parse_location
from mlflow_plugins_pack.findings import Finding

_PROBE_BYTES = b"written by mlflow-pack doctor; may be deleted\n"


def check(uri: str) -> list[Finding]:
    """Write, read back and delete one small object under a root.

    Args:
        uri: A ``cas-`` URI, as given to ``--artifacts-destination``.

    Returns:
        One finding; what fails is an error whose message says why and what to do.
    """
    subject = f"artifact root {uri}"
    try:
        location = parse_location(uri)
        store = find_store(location)
        if store is None:
            is_encrypted = settings.ARTIFACT_ENCRYPT.get()
            if is_encrypted:
                read_master_keys()
        else:
            is_encrypted = store.sealer.is_secret
        backend = backend_of(location)
        if store is None:
            refuse_foreign_data(backend, location)
        probe = object_keys.join(location.path, f".mlflow-pack-doctor-{secrets.token_hex(8)}")
        backend.write(probe, _PROBE_BYTES)
        try:
            is_same = backend.read(probe) == _PROBE_BYTES
        finally:
            backend.delete([probe])
        is_ordered = store is None or not store.format.is_numbered or store.creates_exclusively()
    except MlflowException as exc:
        return [Finding("error", subject, exc.message)]
    if not is_same:
        message = "an object that was just written reads back different. Do not use this storage."
        return [Finding("error", subject, message)]
    if not is_ordered:
        message = (
            "the store was made where conditional writes are honoured, and this storage ignores "
            "conditional writes: calls of several hosts at once would undo each other. Use the "
            "storage that it was made on, or migrate it into a new store."
        )
        return [Finding("error", subject, message)]
    kind = "the encrypted store" if is_encrypted else "the store"
    if store is None:
        return [Finding("ok", subject, f"writable; the first upload will make {kind}")]
    return [Finding("ok", subject, f"writable; {kind} is {store.location.uri}")]
