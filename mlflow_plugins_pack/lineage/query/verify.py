"""Compares what a run read with what is there now."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mlflow_plugins_pack.lineage.document.graph import FULL, SAMPLED, Entry, path_of
from mlflow_plugins_pack.lineage.files import file_state
from mlflow_plugins_pack.lineage.fingerprints import folders
from mlflow_plugins_pack.lineage.fingerprints.hashing import Fingerprinter

SAME, CHANGED, MISSING, UNKNOWN = "same", "changed", "missing", "unknown"
_HTTP_SECONDS = 20.0


@dataclass(frozen=True)
class Check:
    """One input looked at again.

    Attributes:
        entry: As it was recorded.
        result: ``same``, ``changed``, ``missing``, or ``unknown`` if it cannot be compared.
        reason: Why, in words.
    """

    entry: Entry
    result: str
    reason: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return all of it for scripts."""
        return {**self.entry.to_json(), "result": self.result, "reason": self.reason}


def check(entry: Entry, fingerprinter: Fingerprinter, members: Sequence[str] = ()) -> Check:
    """Compare one entry with what is there now; never raises.

    Args:
        entry: As it was recorded.
        fingerprinter: Hashes local files.
        members: Names of the files that the entry of a folder stands for, if known.
    """
    if entry.changed:
        return Check(entry, CHANGED, "it had changed already when the run ended")
    try:
        if entry.uri.startswith("file://"):
            return _check_file(entry, fingerprinter, members)
        if entry.uri.startswith("s3://"):
            return _check_s3(entry)
        if entry.uri.startswith(("http://", "https://")):
            return _check_http(entry)
        if entry.uri.startswith("wasbs://"):
            return _check_azure(entry)
    except Exception as exc:  # noqa: BLE001  # the answer says so
        return Check(entry, UNKNOWN, f"{type(exc).__name__}: {str(exc)[:200]}")
    return Check(entry, UNKNOWN, "the content of such a place cannot be compared")


def _check_file(entry: Entry, fingerprinter: Fingerprinter, members: Sequence[str]) -> Check:
    path = path_of(entry.uri, os.path.expanduser("~"))  # noqa: PTH111
    if entry.uri.endswith("/"):
        return _check_folder(entry, path, members)
    state = file_state(path)
    if state is None:
        return Check(entry, MISSING, f"the file does not exist{_way_back(entry)}")
    if entry.size is not None and state.size != entry.size:
        words = f"it has {state.size} bytes, not {entry.size}"
        return Check(entry, CHANGED, f"{words}{_way_back(entry)}")
    if entry.coverage in (FULL, SAMPLED) and entry.digest:
        made = fingerprinter.fingerprint(path, state, full=entry.coverage == FULL)
        if made is None:
            return Check(entry, UNKNOWN, "it cannot be read")
        words = "of every byte" if made.coverage == FULL else "of samples"
        if made.digest == entry.digest:
            return Check(entry, SAME, f"digest {words}")
        return Check(entry, CHANGED, f"digest {words}{_way_back(entry)}")
    if state.mtime_ns // 1_000_000_000 != entry.modified:
        return Check(entry, UNKNOWN, "it was touched since, and its content was never hashed")
    return Check(entry, SAME, "size and time; its content was never hashed")


def _way_back(entry: Entry) -> str:
    """Return where the content that was read can be fetched from, as the end of a sentence."""
    kind, _, version = (entry.version or "").partition(":")
    if kind == "git":
        return f"; git has what was read as blob {version}"
    if kind == "dvc":
        return f"; DVC knows what was read as {version}"
    return f"; it came from {entry.origin}" if entry.origin else ""


def _check_folder(entry: Entry, path: str, members: Sequence[str]) -> Check:
    if not os.path.isdir(path):  # noqa: PTH112
        return Check(entry, MISSING, "the folder does not exist")
    version = (entry.version or "").removeprefix("delta:")
    if version.isdigit() and entry.version != version:
        log = os.path.join(path, "_delta_log", f"{int(version):020}.json")  # noqa: PTH118
        if os.path.exists(log):  # noqa: PTH110
            return Check(entry, SAME, f"the table still has its version {version}")
        return Check(entry, UNKNOWN, f"version {version} is no longer in the table's log")
    if len(members) != entry.files:
        return Check(entry, UNKNOWN, "a folder; its files are in the full record")
    states = {name: file_state(os.path.join(path, name)) for name in members}  # noqa: PTH118
    files = [(name, state.size, state.mtime_ns) for name, state in states.items() if state]
    if len(files) < len(members):
        return Check(entry, CHANGED, f"{len(members) - len(files)} of its files are gone")
    if sum(size for _, size, _ in files) != entry.size:
        return Check(entry, CHANGED, "its files have other sizes")
    if folders.digest(files) != entry.digest:
        return Check(entry, UNKNOWN, "files were touched since; their contents were never hashed")
    return Check(entry, SAME, "names, sizes and times of all files; they were never hashed")


def _check_s3(entry: Entry) -> Check:
    import boto3
    from botocore.exceptions import ClientError

    bucket, _, key = _decoded(entry.uri.removeprefix("s3://")).partition("/")
    client = boto3.client("s3", endpoint_url=os.environ.get("MLFLOW_S3_ENDPOINT_URL"))
    try:
        head = client.head_object(Bucket=bucket, Key=key)
        if not entry.version:
            # Asked first: a bucket without versions gives none either, which proves nothing.
            return Check(entry, UNKNOWN, "no version was recorded")
        if entry.version in (head.get("VersionId"), str(head.get("ETag", "")).strip('"')):
            return Check(entry, SAME, "the newest version is the one that was read")
    except ClientError as exc:
        if exc.response.get("ResponseMetadata", {}).get("HTTPStatusCode") != 404:
            raise
        if not entry.version:
            return Check(entry, MISSING, "the object does not exist")
    try:
        client.head_object(Bucket=bucket, Key=key, VersionId=entry.version)
    except ClientError:
        return Check(entry, CHANGED, "the version that was read is gone")
    return Check(entry, CHANGED, "there is a newer version; the one that was read is still kept")


def _check_http(entry: Entry) -> Check:
    if not entry.version:
        return Check(entry, UNKNOWN, "the server gave no entity tag")
    from mlflow_plugins_pack.http_deadline import exchange

    # A HEAD has no body, so the headers are all that is waited for.
    answer = exchange(
        _HTTP_SECONDS,
        lambda session: session.head(entry.uri, timeout=_HTTP_SECONDS, allow_redirects=True),
    )
    if answer.status_code == 404:
        return Check(entry, MISSING, "the server has no such file")
    tag = answer.headers.get("ETag", "").removeprefix("W/").strip('"')
    if not tag:
        return Check(entry, UNKNOWN, f"the server answered {answer.status_code}, no entity tag")
    return Check(entry, SAME if tag == entry.version else CHANGED, "entity tag")


def _check_azure(entry: Entry) -> Check:
    from azure.core.exceptions import ResourceNotFoundError
    from azure.storage.blob import BlobServiceClient

    text = os.environ.get("AZURE_STORAGE_CONNECTION_STRING")
    if not text:
        return Check(entry, UNKNOWN, "AZURE_STORAGE_CONNECTION_STRING is not set")
    place, _, key = _decoded(entry.uri.removeprefix("wasbs://")).partition("/")
    with BlobServiceClient.from_connection_string(text) as service:
        blob = service.get_blob_client(place.partition("@")[0], key)
        try:
            found = blob.get_blob_properties()
        except ResourceNotFoundError:
            return Check(entry, MISSING, "the blob does not exist")
    if not entry.version:
        return Check(entry, UNKNOWN, "no version was recorded")
    now = (found.version_id, str(found.etag or "").strip('"'))
    return Check(entry, SAME if entry.version in now else CHANGED, "version or entity tag")


def _decoded(text: str) -> str:
    from urllib.parse import unquote

    return unquote(text)
