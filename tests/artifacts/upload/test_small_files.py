"""Small files are stored many at a time, as if each was stored alone."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlflow_plugins_pack.artifacts import thread_pools
from mlflow_plugins_pack.artifacts.format.manifest import FileEntry
from mlflow_plugins_pack.artifacts.store.opening import open_store
from mlflow_plugins_pack.artifacts.store.store import Store
from mlflow_plugins_pack.artifacts.upload import session
from mlflow_plugins_pack.artifacts.upload.chunk_sink import ChunkSink
from mlflow_plugins_pack.artifacts.upload.pack_writer import PackWriter
from mlflow_plugins_pack.artifacts.upload.session import UploadSession
from mlflow_plugins_pack.artifacts.upload.small_files import SMALL_FILE_BYTES, store_small_files
from mlflow_plugins_pack.artifacts.uri.location import parse_location
from tests.contracts.artifact_repository import new_run_uri, random_bytes

KIB = 1024
RUN = "1/0123456789abcdef0123456789abcdef/artifacts"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_PACK_ARTIFACT_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        root = tmp_path_factory.mktemp("root").as_uri()
        yield open_store(parse_location(new_run_uri(f"cas-{root}")))


def writer(store: Store) -> PackWriter:
    return PackWriter(store, thread_pools.Share(thread_pools.UPLOAD_MEMORY))


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(1, SMALL_FILE_BYTES), min_size=1, max_size=6))
def test_files_are_cut_as_a_sink_cuts_them(store, sizes):
    contents = [random_bytes(size, seed=size) for size in sizes]
    together, alone = writer(store), writer(store)
    for data, (sha256, chunks) in zip(
        contents, store_small_files(store, together, contents), strict=True
    ):
        sink = ChunkSink(store, alone)
        sink.feed(data)
        wanted = sink.finish()
        assert (sha256, [c.id for c in chunks]) == (wanted.sha256, [c.id for c in wanted.chunks])
        assert sum(chunk.raw for chunk in chunks) == len(data)
        assert len(chunks) < 64, "it would need a recipe"


def test_each_gets_its_own_bytes_whatever_comes_in_between(store, tmp_path, monkeypatch):
    monkeypatch.setattr(session, "_BATCH_BYTES", 100 * KIB)
    sizes = {"a": 40, "b": 0, "c": 300, "d": 40, "e": 90, "f": 1, "same as a": 40, "g": 33}
    data = {name: random_bytes(size * KIB, seed=size) for name, size in sizes.items()}
    upload = UploadSession(store, session.INLINE_NEXT_TO_PACKS_BYTES)
    upload.add_file(f"{RUN}/replaced", written(tmp_path / "old", b"x" * 50 * KIB))
    for name, content in data.items():
        upload.add_file(f"{RUN}/{name}", written(tmp_path / name, content))
    upload.add_stream(f"{RUN}/replaced", io.BytesIO(b"new"))
    upload.commit()
    files = store.manifests.view(RUN).files
    assert files["replaced"].inline == b"new", "of two files at one path the later counts"
    for name, content in data.items():
        assert bytes_of(store, files[name]) == content
    assert files["a"].chunks == files["same as a"].chunks


def test_the_index_is_asked_for_many_at_once(store, tmp_path, monkeypatch):
    asked = []
    find = store.index.cache.find_chunks
    monkeypatch.setattr(
        store.index.cache, "find_chunks", lambda ids: asked.append(ids) or find(ids)
    )
    upload = UploadSession(store, session.INLINE_NEXT_TO_PACKS_BYTES)
    for number in range(60):
        content = random_bytes(20 * KIB, seed=1000 + number)
        upload.add_file(f"{RUN}/many/{number}", written(tmp_path / str(number), content))
    upload.commit()
    assert len(asked) <= 6
    assert sum(map(len, asked)) >= 60


def written(path: Path, data: bytes) -> str:
    path.write_bytes(data)
    return str(path)


def bytes_of(store: Store, entry: FileEntry) -> bytes:
    if entry.inline is not None:
        return entry.inline
    parts = []
    for chunk in entry.chunks:
        stored = store.packs.read(chunk.pack, chunk.offset, chunk.stored)
        assert len(stored) == chunk.raw, "random bytes do not compress"
        parts.append(stored)
    return b"".join(parts)
