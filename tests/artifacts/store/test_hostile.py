"""What an attacker with write access to the storage can plant, and what a caller can ask for."""

from __future__ import annotations

import hashlib
import json
import os
import struct
import uuid
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from mlflow_plugins_pack.artifacts.format import object_keys
from mlflow_plugins_pack.artifacts.format.encryption import PLAIN
from mlflow_plugins_pack.artifacts.format.index_delta import (
    MAGIC,
    Delta,
    decode_delta,
    encode_delta,
)
from mlflow_plugins_pack.artifacts.format.manifest import (
    SEGMENT_HEADER,
    SEGMENT_MAGIC,
    FileEntry,
    Segment,
    decode_segment,
    encode_segment,
)
from mlflow_plugins_pack.artifacts.format.pack import (
    CODEC_ZSTD,
    FOOTER,
    FOOTER_MAGIC,
    HEADER,
    Chunk,
    PackBuilder,
    decode_chunk,
    decode_tail,
    tail_length,
)
from mlflow_plugins_pack.artifacts.format.recipe import decode_recipe_part, encode_recipe_part
from mlflow_plugins_pack.artifacts.store import opening
from mlflow_plugins_pack.artifacts.uri.location import parse_location
from mlflow_plugins_pack.errors import ArtifactCorruptError, ForbiddenRootError, PackError
from tests.artifacts.support.commands import run_json
from tests.contracts.artifact_repository import (
    content,
    new_run_uri,
    pretend_server,
    random_bytes,
)

SCOPE = "1/0123456789abcdef0123456789abcdef/artifacts"
NAME = "000000000042"
DELTA = "01M85D28B48E47P929JW96NPN0"


def sealed(document: object, *, length: int | None = None) -> bytes:
    """Return a segment's bytes with right hashes around whatever text."""
    text = document if isinstance(document, bytes) else json.dumps(document).encode()
    header = SEGMENT_HEADER.pack(
        SEGMENT_MAGIC, len(text) if length is None else length, hashlib.sha256(text).digest()
    )
    return header + zstandard.ZstdCompressor().compress(text)


def segment(*operations: object, **changes: object) -> dict[str, object]:
    return {
        "version": 1,
        "scope": SCOPE,
        "name": NAME,
        "writer": "abcdefghijklmnop",
        "operations": list(operations),
        "packs": ["00" * 32],
        **changes,
    }


def put(**changes: object) -> dict[str, object]:
    entry = {"put": "f", "size": 1, "sha256": "00" * 32, "mtime_ns": 0, "inline": "YQ=="}
    return {**entry, **changes}


PLACE = [0, "00" * 32, 8, 10, 1, 0]


@pytest.mark.parametrize(
    "document",
    [
        segment(put(put="../x")),
        segment(put(put="/x")),
        segment(put(put="a//x")),
        segment(put(put="a\\x")),
        segment(put(put="")),
        segment(put(put=7)),
        segment(put(size=-1)),
        segment(put(size=2)),
        segment(put(size=1 << 61)),
        segment(put(size=True)),
        segment(put(size="1")),
        segment(put(sha256="00")),
        segment(put(inline="%%%")),
        segment(put(inline=None, chunks=[[1, *PLACE[1:]]])),
        segment(put(inline=None, chunks=[[-1, *PLACE[1:]]])),
        segment(put(inline=None, chunks=[[*PLACE[:4], 1 << 25, 0]])),
        segment(put(inline=None, chunks=[[*PLACE[:3], 1 << 33, 1, 0]])),
        segment(put(inline=None, chunks=[PLACE[:5]])),
        segment(put(inline=None, chunks=[PLACE, PLACE])),
        segment({"delete": "../x"}),
        segment({"delete": None}),
        segment({"mkdir": ""}),
        segment({"lock": "../x", "reason": "r"}),
        segment({"lock": "x", "reason": "r" * 2000}),
        segment({"unlock": "x"}),
        segment({}),
        segment(7),
        segment(scope="1/other/artifacts"),
        segment(name="000000000043"),
        segment(writer=7),
        segment(writer="x" * 2000),
        segment({"lock": "x", "reason": "r", "binds": 7}),
        segment({"lock": "x", "reason": "r", "binds": [put(put="../x")]}),
        segment({"lock": "x", "reason": "r", "binds": [{"delete": "x"}]}),
        segment({"unlock": "x", "reason": "r", "voids": "../x"}),
        segment(packs=["00"]),
        segment(packs=None),
        segment(version=1.5, operations=7),
        [],
        7,
        None,
        b"[" * 200_000,
        b"\xff\xfe",
    ],
    ids=lambda document: repr(document)[:70],
)
def test_crafted_segment_is_refused(document):
    with pytest.raises(PackError) as caught:
        decode_segment(sealed(document), SCOPE, NAME)
    assert "othing was" in caught.value.message


def test_segment_that_claims_or_unpacks_to_a_huge_text():
    with pytest.raises(ArtifactCorruptError, match="claims"):
        decode_segment(sealed(b"{}", length=0xFFFFFFFF), SCOPE, NAME)
    bomb = sealed(b"0" * (64 << 20))
    assert len(bomb) < 10_000
    with pytest.raises(ArtifactCorruptError):
        decode_segment(bomb[:8] + struct.pack(">I", 100) + bomb[12:], SCOPE, NAME)


@given(st.binary(max_size=200), st.integers(0, 200))
def test_noise_is_never_taken_for_anything(noise, at):
    good = encode_segment(Segment(SCOPE, NAME, (FileEntry("f", 1, b"\1" * 32, 0, inline=b"a"),)))
    for data in (noise, good[:at] + noise):
        if data == good:
            continue
        with pytest.raises(PackError):
            decode_segment(data, SCOPE, NAME)
        with pytest.raises(PackError):
            decode_delta(data, DELTA)
        with pytest.raises(PackError):
            decode_recipe_part(data, b"\1" * 32)


def delta_bytes(body: bytes) -> bytes:
    return body + hashlib.sha256(body).digest()


@pytest.mark.parametrize(
    "body",
    [
        MAGIC + struct.pack(">I", 0xFFFFFFFF),
        MAGIC + struct.pack(">II", 0, 0xFFFFFFFF),
        MAGIC + struct.pack(">II32sI", 0, 1, b"\1" * 32, 0xFFFFFFFF),
        MAGIC + struct.pack(">III", 0, 0, 0xFFFFFFFF),
        MAGIC + struct.pack(">III", 0, 0, 1) + struct.pack(">32sQBH", b"\1" * 32, 1, 0, 65535),
        MAGIC + struct.pack(">I", 1) + b"\xff" * 26,
        MAGIC,
    ],
    ids=["names", "packs", "records", "files", "places", "no text", "nothing"],
)
def test_index_object_that_claims_more_than_it_has(body):
    with pytest.raises(PackError):
        decode_delta(delta_bytes(body), DELTA)


def test_pack_table_that_lies():
    table = b"\0" * 46
    name = hashlib.sha256(table).digest()
    assert len(decode_tail(table + FOOTER.pack(1, name, FOOTER_MAGIC), name, "it")) == 1
    for count in (2, 0xFFFFFFFF):
        with pytest.raises(ArtifactCorruptError):
            tail_length(FOOTER.pack(count, name, FOOTER_MAGIC), len(HEADER) + 46 + 44, "it")


def test_chunk_that_unpacks_to_more_than_it_says():
    bomb = zstandard.ZstdCompressor().compress(b"\0" * (200 << 20))
    for raw in (100, 16 << 20, 200 << 20):
        chunk = Chunk(b"p", b"\0" * 32, 8, len(bomb), raw, CODEC_ZSTD)
        assert decode_chunk(chunk, bomb) is None


# --- in a real store ------------------------------------------------------------------------------


@pytest.fixture
def root(tmp_path: Path) -> str:
    return f"cas-file://{tmp_path}/store"


def plant_index(tmp_path: Path, delta: Delta) -> None:
    path = tmp_path / "store" / object_keys.index_key(object_keys.make_ulid(1, os.urandom(10)))
    path.write_bytes(encode_delta(delta))


def test_index_that_points_elsewhere_spoils_no_upload(root, tmp_path, monkeypatch):
    """An index is believed when it says that a chunk is stored; reading finds the lie out."""
    data = random_bytes(300_000)
    (tmp_path / "f").write_bytes(data)
    get_artifact_repository(new_run_uri(root)).log_artifact(str(tmp_path / "f"))
    store = opening.open_store(parse_location(root))
    _, delta = next(store.index.deltas())
    missing = b"\7" * 32
    lie = Delta({missing: delta.packs[next(iter(delta.packs))]})
    for pack in (tmp_path / "store/.cas/index").iterdir():
        pack.unlink()
    plant_index(tmp_path, lie)
    monkeypatch.setenv("MLFLOW_PACK_ARTIFACT_CACHE_DIR", str(tmp_path / "cache"))
    opening._stores.clear()
    repository = get_artifact_repository(new_run_uri(root))
    repository.log_artifact(str(tmp_path / "f"))
    assert Path(repository.download_artifacts("f")).read_bytes() == data


def test_recipe_that_lists_itself_ends(root, tmp_path):
    """A recipe is never followed into another: a list that names itself is just a wrong file."""
    (tmp_path / "f").write_bytes(b"x")
    repository = get_artifact_repository(f"{root}/{SCOPE}")
    repository.log_artifact(str(tmp_path / "f"))
    store = opening.open_store(parse_location(root))
    builder = PackBuilder(PLAIN)
    own = Chunk(b"", b"\1" * 32, 8, 100, 100, 0)
    data = encode_recipe_part(b"\2" * 32, 100, 0, 1, [own])
    record = builder.add(1, 0, store.sealer.chunk_id(data), data, len(data))
    name, packed, _ = builder.finish()
    store.backend.write(store.key(object_keys.pack_key(name)), packed)
    place = record.at(name)
    entry = FileEntry("loop", 100, b"\2" * 32, 0, recipe=(place, place))
    store.manifests.commit(SCOPE, [entry])
    with pytest.raises(ArtifactCorruptError, match="'loop'"):
        repository.download_artifacts("loop", str(tmp_path))
    assert run_json("fsck", root, code=1)["problems"]
    assert Path(repository.download_artifacts("f")).read_bytes() == b"x"


@pytest.mark.parametrize(
    "uri",
    [
        "cas-file:///etc",
        "cas-file:///",
        "cas-file://{store}/../outside",
        "cas-file://{store}-next-to-it",
        "cas-file://{store}/%2e%2e/outside",
        "cas-file://evil.example.com/{store}",
        "cas-s3://someone-elses-bucket/x",
        "cas-gs://someone-elses-bucket/x",
        "cas-s3://bucket@evil.example.com/x",
        "cas-wasbs://c@evil.example.com/x",
        "cas-wasbs://c@evil.blob.core.windows.net.example.com/x",
        "cas-wasbs://c@169.254.169.254/x",
        "cas-file://{store}?endpoint=http://evil",
        "cas-file://{store}#x",
    ],
)
def test_server_opens_nothing_but_its_own(root, tmp_path, monkeypatch, uri):
    store = f"{tmp_path}/store"
    (tmp_path / "secret").write_bytes(b"secret")
    get_artifact_repository(new_run_uri(root)).log_artifact(str(tmp_path / "secret"))
    pretend_server(monkeypatch, root)
    hostile = get_artifact_repository(uri.replace("{store}", store))
    out = tmp_path / uuid.uuid4().hex
    out.mkdir()
    for call in (
        hostile.list_artifacts,
        lambda: hostile.download_artifacts("", str(out)),
        lambda: hostile.log_artifact(str(tmp_path / "secret")),
        hostile.delete_artifacts,
        hostile.content_digest,
        lambda: hostile.lock("x"),
        hostile.locks,
    ):
        with pytest.raises(PackError) as caught:
            call()
        assert isinstance(caught.value, ForbiddenRootError) or (
            caught.value.error_code == "INVALID_PARAMETER_VALUE"
        )
    assert content(out) == {}
    get_artifact_repository(new_run_uri(root)).list_artifacts()
