"""Digests of files: full, sampled, remembered, and never of something else than was asked."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from mlflow_plugins_pack.lineage.files import FileState, file_state
from mlflow_plugins_pack.lineage.fingerprints import hashing
from mlflow_plugins_pack.lineage.fingerprints.hashing import (
    BLOB,
    MD5,
    Fingerprint,
    Fingerprinter,
)
from tests.lineage.support.reading import RunRecord
from tests.lineage.support.scripts import RunScript


def state_of(path: Path) -> FileState:
    state = file_state(str(path))
    assert state is not None
    return state


def test_full_digest_is_the_files_sha256(tmp_path: Path) -> None:
    path = tmp_path / "a"
    for content in (b"", b"x", os.urandom(3_000_001)):
        path.write_bytes(content)
        made = Fingerprinter().fingerprint(str(path), state_of(path), full=True)
        assert made == Fingerprint(f"sha256:{hashlib.sha256(content).hexdigest()}", "full")


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
    # What a sample misses is why it is labelled: this byte is between two blocks.
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


def test_large_file_is_hashed_once_by_all_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, folder = tmp_path / "large", str(tmp_path / "cache")
    path.write_bytes(bytes(9 << 20))
    state = file_state(str(path))
    assert state is not None
    hashed: list[str] = []
    hash_all = hashing._hash_all
    monkeypatch.setattr(
        hashing, "_hash_all", lambda f, *rest: hashed.append(f.name) or hash_all(f, *rest)
    )
    # Each new object stands for a process of its own.
    made = {hashing.Fingerprinter(folder).fingerprint(str(path), state, full=True)}
    for _ in range(50):
        made.add(hashing.Fingerprinter(folder).fingerprint(str(path), state, full=True))
    assert len(made) == len(hashed) == 1
    path.write_bytes(b"x" * (9 << 20))
    other = file_state(str(path))
    assert other is not None
    made.add(hashing.Fingerprinter(folder).fingerprint(str(path), other, full=True))
    assert len(made) == len(hashed) == 2


def test_broken_cache_only_costs_time(tmp_path: Path) -> None:
    path, folder = tmp_path / "large", tmp_path / "cache"
    path.write_bytes(bytes(9 << 20))
    state = file_state(str(path))
    assert state is not None
    first = hashing.Fingerprinter(str(folder)).fingerprint(str(path), state, full=True)
    for kept in folder.iterdir():
        kept.write_text("[]")
    again = hashing.Fingerprinter(str(folder)).fingerprint(str(path), state, full=True)
    (tmp_path / "file").touch()
    other = hashing.Fingerprinter(str(tmp_path / "file" / "no")).fingerprint(
        str(path), state, full=True
    )
    assert first == again == other


def test_further_digests_come_from_the_same_reading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both, folder = frozenset({MD5, BLOB}), str(tmp_path / "cache")
    for size in (0, 100, 9 << 20):
        path = tmp_path / f"{size}"
        path.write_bytes(content := os.urandom(size))
        expected = Fingerprint(
            f"sha256:{hashlib.sha256(content).hexdigest()}",
            "full",
            hashlib.md5(content).hexdigest(),
            hashlib.sha1(b"blob %d\0" % size + content).hexdigest(),
        )
        first = Fingerprinter(folder)
        plain = first.fingerprint(str(path), state_of(path), full=True)
        assert plain == expected._replace(md5=None, blob=None)
        assert first.cached(state_of(path), full=True, also=both) is None
        assert first.fingerprint(str(path), state_of(path), full=True, also=both) == expected
        assert first.cached(state_of(path), full=True) == expected
    # The last one is large: another process finds all of it in the cache.
    monkeypatch.setattr(hashing, "_hash_large", None)
    kept = Fingerprinter(folder).fingerprint(str(path), state_of(path), full=True, also=both)
    assert kept == expected


def test_fifty_runs_over_one_large_file_hash_it_once(
    run_script: RunScript, database: str, tmp_path: Path
) -> None:
    sizes = {"sampled.bin": 5 << 30, "full.bin": 1 << 30}
    for name, size in sizes.items():
        with (tmp_path / name).open("wb") as file:
            file.truncate(size)
    runs: list[str] = []
    hashed: list[str] = []
    for _ in range(2):
        outcome = run_script(
            """
            import json, os, mlflow
            from mlflow_plugins_pack.lineage.fingerprints import hashing as fingerprint
            hashed, hash_large = [], fingerprint._hash_large
            def counted(path, *rest, **named):
                hashed.append(os.path.basename(path))
                return hash_large(path, *rest, **named)
            fingerprint._hash_large = counted
            runs = []
            for _ in range(25):
                with mlflow.start_run() as run:
                    for name in ("sampled.bin", "full.bin"):
                        with open(name, "rb") as file:
                            file.read(10)
                runs.append(run.info.run_id)
            print(json.dumps({"runs": runs, "hashed": hashed}))
            """,
            database,
            MLFLOW_PACK_LINEAGE_HASH_MAX_BYTES=str(1 << 30),
        )
        runs += outcome.value["runs"]
        hashed += outcome.value["hashed"]
    assert sorted(hashed) == ["full.bin", "sampled.bin"]
    assert len(set(runs)) == 50
    entries = [RunRecord(database, run_id).entries() for run_id in runs]
    for name, size in sizes.items():
        assert {(e[name]["c"], e[name]["n"]) for e in entries} == {(name.partition(".")[0], size)}
        assert len({e[name]["h"] for e in entries}) == 1
