"""Folders go from store to store by the chunks that the other lacks."""

from __future__ import annotations

import base64
import hashlib
import random
import secrets
from pathlib import Path
from types import SimpleNamespace

import pytest

from mlflow_plugins_pack.artifacts.plugin import CasArtifactRepository
from mlflow_plugins_pack.artifacts.store import opening
from mlflow_plugins_pack.artifacts.store_copy import copy_folder
from mlflow_plugins_pack.artifacts.uri.location import parse_location
from mlflow_plugins_pack.errors import ArtifactCorruptError, ArtifactNotFoundError

SIZE = 6 * 2**20


def write(folder: Path, large: bytes) -> Path:
    (folder / "deep" / "er").mkdir(parents=True)
    (folder / "deep" / "large.bin").write_bytes(large)
    (folder / "deep" / "er" / "small.txt").write_text("small")
    (folder / "empty").write_bytes(b"")
    return folder


def roots(tmp_path: Path) -> tuple[str, str]:
    return f"cas-file://{tmp_path}/a/0/run/artifacts", f"cas-file://{tmp_path}/b/0/run/artifacts"


def test_a_folder_arrives_and_only_what_is_new_is_read(tmp_path: Path) -> None:
    first, second = roots(tmp_path)
    large = random.Random(1).randbytes(SIZE)
    CasArtifactRepository(first).log_artifacts(write(tmp_path / "one", large), None)
    done = copy_folder(first, second)
    assert (done.files, done.bytes, done.read_bytes) == (3, SIZE + 5, SIZE + 5)

    changed = large[:100_000] + b"other" + large[100_005:]
    CasArtifactRepository(f"{first}/2").log_artifacts(write(tmp_path / "two", changed), None)
    done = copy_folder(f"{first}/2", f"{second}/2")
    assert done.bytes == SIZE + 5
    assert 0 < done.read_bytes < SIZE // 10
    there = CasArtifactRepository(f"{second}/2")
    found = Path(there.download_artifacts("", str(tmp_path)))
    assert (found / "deep" / "large.bin").read_bytes() == changed
    assert (found / "deep" / "er" / "small.txt").read_text() == "small"
    assert (found / "empty").read_bytes() == b""
    assert there.content_digest() == CasArtifactRepository(f"{first}/2").content_digest()
    assert copy_folder(f"{first}/2", f"{second}/3").read_bytes <= 5


def test_an_encrypted_store_gets_and_gives_all_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = roots(tmp_path)
    key = tmp_path / "key"
    key.write_text(base64.b64encode(secrets.token_bytes(32)).decode())
    key.chmod(0o600)
    large = random.Random(2).randbytes(SIZE)
    CasArtifactRepository(first).log_artifacts(write(tmp_path / "one", large), None)
    monkeypatch.setenv("MLFLOW_PACK_ARTIFACT_KEYS", f"file:{key}")
    opening.create_store(parse_location(f"cas-file://{tmp_path}/b"), is_encrypted=True)
    assert copy_folder(first, second).read_bytes == SIZE + 5
    digest = CasArtifactRepository(first).content_digest()
    assert CasArtifactRepository(second).content_digest() == digest
    third = f"cas-file://{tmp_path}/c/0/run/artifacts"
    assert copy_folder(second, third).read_bytes == SIZE + 5
    found = Path(CasArtifactRepository(third).download_artifacts("deep/large.bin", str(tmp_path)))
    assert found.read_bytes() == large


def test_nothing_to_copy_is_an_error(tmp_path: Path) -> None:
    first, second = roots(tmp_path)
    with pytest.raises(ArtifactNotFoundError):
        copy_folder(first, second)
    assert not (tmp_path / "b").exists()


def claim(tmp_path: Path, uri: str, data: bytes, other: bytes) -> None:
    """Have a store's manifest say of a file that it is another one."""
    from mlflow_plugins_pack.artifacts.upload import chunk_sink

    class Claimed:
        def __init__(self) -> None:
            self._whole = hashlib.sha256(other)

        def update(self, _: bytes) -> None:
            pass

        def digest(self) -> bytes:
            return self._whole.digest()

    local = tmp_path / "claimed.bin"
    local.write_bytes(data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunk_sink, "hashlib", SimpleNamespace(sha256=Claimed))
        CasArtifactRepository(uri).log_artifact(local, None)


def test_a_false_hash_is_found_and_never_believed_later(tmp_path: Path) -> None:
    """The source claims the hash of a file that the target will get from another client."""
    first, second = roots(tmp_path)
    base, wanted = random.Random(3).randbytes(SIZE), random.Random(4).randbytes(SIZE)
    claim(tmp_path, first, base, wanted)
    with pytest.raises(ArtifactCorruptError):
        copy_folder(first, second)

    # With some chunks there already, the claim cannot be checked. It reaches no other file,
    # not even one whose chunks are all there, which is stored by its hash.
    half, junk = SIZE // 2, random.Random(5).randbytes(2**20)
    middle = wanted[half - 2**20 : half + 2**20]
    pieces = (base, wanted[:half] + junk, junk + wanted[half:], middle)
    local = tmp_path / "file.bin"
    for number, piece in enumerate(pieces):
        local.write_bytes(piece)
        CasArtifactRepository(f"{second}/own{number}").log_artifact(local, None)
    claim(tmp_path, f"{first}/2", base[:-1000] + bytes(1000), wanted)
    copy_folder(f"{first}/2", f"{second}/2")
    local.write_bytes(wanted)
    CasArtifactRepository(f"{second}/own").log_artifact(local, None)
    found = CasArtifactRepository(f"{second}/own").download_artifacts("file.bin", str(tmp_path))
    assert Path(found).read_bytes() == wanted
    with pytest.raises(ArtifactCorruptError):
        CasArtifactRepository(f"{second}/2").download_artifacts("claimed.bin", str(tmp_path))
