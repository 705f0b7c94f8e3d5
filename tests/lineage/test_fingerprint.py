"""Digests of files: full, sampled, remembered, and never of something else than was asked."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from mlflow_plugins_pack.lineage.capture.audit import file_state
from mlflow_plugins_pack.lineage.capture.event import FileState
from mlflow_plugins_pack.lineage.fingerprint import Fingerprinter


def state_of(path: Path) -> FileState:
    state = file_state(str(path))
    assert state is not None
    return state


def test_full_digest_is_the_files_sha256(tmp_path: Path) -> None:
    path = tmp_path / "a"
    for content in (b"", b"x", os.urandom(3_000_001)):
        path.write_bytes(content)
        made = Fingerprinter().fingerprint(str(path), state_of(path), full=True)
        assert made == (f"sha256:{hashlib.sha256(content).hexdigest()}", "full")


def test_sampled_digest_is_labelled_and_sees_both_ends_and_the_size(tmp_path: Path) -> None:
    path = tmp_path / "big"
    size = 200 << 20

    def sampled(size: int, *at: int) -> str:
        with path.open("wb") as file:
            file.truncate(size)
            for offset in at:
                file.seek(offset)
                file.write(b"!")
        made = Fingerprinter().fingerprint(str(path), state_of(path), full=False)
        assert made is not None
        assert made.coverage == "sampled"
        return made.digest

    seen = {sampled(size), sampled(size + 1), sampled(size, 0), sampled(size, size - 1)}
    assert len(seen) == 4
    # What a sample misses is why it is labelled: this byte lies between two blocks.
    assert sampled(size, 2 << 20) == sampled(size)


def test_unchanged_file_is_hashed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"x")
    printer = Fingerprinter()
    first = printer.fingerprint(str(path), state_of(path), full=True)
    monkeypatch.setattr("builtins.open", None)
    assert printer.fingerprint(str(path), state_of(path), full=True) == first


def test_file_that_is_not_as_it_was_read_gets_no_digest(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"x")
    before = state_of(path)
    path.write_bytes(b"longer")
    assert Fingerprinter().fingerprint(str(path), before, full=True) is None
    path.unlink()
    assert Fingerprinter().fingerprint(str(path), before, full=True) is None


def test_only_regular_files_have_a_state(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert file_state(str(tmp_path / "pipe")) is None
    assert file_state(str(tmp_path)) is None
    assert file_state(str(tmp_path / "absent")) is None
    assert file_state("/nul\0byte") is None
