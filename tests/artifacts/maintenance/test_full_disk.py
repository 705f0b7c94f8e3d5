"""A disk that is full: writes say so, and what frees space still works."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from mlflow_plugins_pack.errors import StorageFullError
from tests.artifacts.support.commands import run, run_json
from tests.contracts.artifact_repository import content, new_run_uri, random_bytes

MIB = 1024 * 1024


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, check=False).returncode:
        pytest.skip("this user cannot mount a file system of a fixed size")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder: Path) -> None:
    """Leave no space for anything but empty files."""
    with contextlib.suppress(OSError), (folder / "other-data").open("ab", buffering=0) as file:
        while True:
            file.write(os.urandom(4096))


@pytest.mark.parametrize(("made_by", "grace"), [("write", "0s"), ("init", "0s"), ("write", "24h")])
def test_full_disk_is_made_room_on(small_disk, tmp_path, made_by, grace):
    root = f"cas-file://{small_disk}/store"
    if made_by == "init":
        run("init", root)
    kept, doomed = (get_artifact_repository(new_run_uri(root)) for _ in range(2))
    path = tmp_path / "f"
    for repository, seed in ((kept, 1), (doomed, 2)):
        path.write_bytes(random_bytes(3 * MIB, seed=seed))
        repository.log_artifact(str(path))
    fill(small_disk)
    with pytest.raises(StorageFullError, match="make room"):
        kept.log_artifact(str(path), "again")
    # Deleting takes a little space for itself, and so does collecting.
    doomed.delete_artifacts()
    done = run_json("gc", root, "--grace", grace)
    if grace == "0s":
        assert done["removed_packs"] == 1
        assert done["removed_bytes"] > 3 * MIB
        assert run_json("fsck", root, "--read-data")["problems"] == []
        path.write_bytes(random_bytes(2 * MIB, seed=3))
        kept.log_artifact(str(path), "again")
        fill(small_disk)
        # The reserve is there again for the next time.
        kept.delete_artifacts("again")
        run("gc", root, "--grace", "0s")
    path.write_bytes(random_bytes(3 * MIB, seed=1))
    target = tmp_path / "out"
    target.mkdir()
    kept.download_artifacts("", str(target))
    assert content(target)["f"] == path.read_bytes()


def test_what_must_be_copied_waits_for_room(small_disk, tmp_path):
    """A pack of which a part is needed stays until there is room for the copy."""
    root = f"cas-file://{small_disk}/store"
    source = tmp_path / "source"
    source.mkdir()
    (source / "kept").write_bytes(random_bytes(MIB, seed=1))
    (source / "gone").write_bytes(random_bytes(3 * MIB, seed=2))
    repository = get_artifact_repository(new_run_uri(root))
    repository.log_artifacts(str(source))
    repository.delete_artifacts("gone")
    fill(small_disk)
    done = run_json("gc", root, "--grace", "0s", code=1)
    assert done["removed_packs"] == 0
    assert "the disk is full" in str(done["kept"])
    assert content(repository.download_artifacts("")) == {"kept": random_bytes(MIB, seed=1)}
    (small_disk / "other-data").unlink()
    assert run_json("gc", root, "--grace", "0s")["removed_packs"] == 1
    assert content(repository.download_artifacts("")) == {"kept": random_bytes(MIB, seed=1)}
