"""Files that take longer to read than a call may are read behind it, and taken over after a crash.

A file that is read slowly is a named pipe here: who opens it waits until another process writes.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from click.testing import CliRunner
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from mlflow_plugins_pack import errors
from mlflow_plugins_pack.approvals.content import digest, digest_jobs
from mlflow_plugins_pack.approvals.content.file_marks import marks_of, number_of_files
from mlflow_plugins_pack.approvals.content.hashing import (
    Progress,
    ReadingStoppedError,
    hash_files,
)
from mlflow_plugins_pack.approvals.database import tables
from mlflow_plugins_pack.approvals.database.mlflow_tables import Version
from mlflow_plugins_pack.approvals.ledger import audit_log
from mlflow_plugins_pack.cli.main import cli
from mlflow_plugins_pack.folder_digest import digest_files
from tests.approvals.support.bench import Bench
from tests.support import servers
from tests.support.acting import signed_in
from tests.support.paths import ROOT

POLICY = """
version: 1
groups: {leads: [bob]}
policies:
  - name: prod
    match: {models: ["gov-*"]}
    targets: {aliases: [prod]}
    approvals: [{group: leads}]
"""
SETTING = "MLFLOW_PACK_APPROVALS_DIGEST_SECONDS"


class SlowBench(Bench):
    """On SQLite, with a version whose one file can be made slow to read."""

    def __init__(self, folder: Path) -> None:
        super().__init__(f"sqlite:///{folder / 'mlflow.db'}", folder)
        self.weights = folder / "model" / "weights"
        self.weights.parent.mkdir()
        with signed_in("alice"):
            self.store.create_registered_model("gov-a")
            self.store.create_model_version("gov-a", str(self.weights.parent))

    def slow(self) -> None:
        self.weights.unlink(missing_ok=True)
        os.mkfifo(self.weights)

    def feed(self, content: bytes) -> None:
        """Write the content to the waiting reader of the pipe, and a plain file for later ones."""
        with self.weights.open("wb") as pipe:
            plain = self.weights.with_name("next")
            plain.write_bytes(content)
            plain.replace(self.weights)
            pipe.write(content)

    def state(self) -> str:
        return str(self.store.get_model_version("gov-a", 1).tags.get("mlflow_approvals.prod", ""))

    def row(self) -> Any:
        with self.store.engine.connect() as connection:
            return connection.execute(sa.select(tables.digest_jobs)).first()

    def digest(self) -> str | None:
        with self.store.engine.connect() as connection:
            query = sa.select(tables.requests.c.digest).order_by(tables.requests.c.created_at)
            return connection.execute(query).scalars().all()[-1]


def until(what: Callable[[], Any]) -> Any:
    ends = time.monotonic() + 90
    while not (found := what()):
        assert time.monotonic() < ends, "it never came"
        time.sleep(0.05)
    return found


@pytest.fixture
def bench(
    tmp_path: Path, empty_database: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[SlowBench]:
    (tmp_path / "policy.yaml").write_text(POLICY)
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    monkeypatch.setenv("MLFLOW_PACK_APPROVALS_POLICY", str(tmp_path / "policy.yaml"))
    monkeypatch.setenv(SETTING, "0")
    monkeypatch.setattr(digest_jobs, "RENEW_SECONDS", 0.05)
    made = SlowBench(tmp_path)
    yield made
    made.close()


def of(content: bytes) -> str:
    import hashlib

    return digest_files([("weights", len(content), hashlib.sha256(content).hexdigest())])


def approved_and_slow_again(bench: SlowBench) -> None:
    """Ask, have it read and approved; applying it reads it once more."""
    bench.slow()
    bench.say("erin", "request", 1)
    bench.feed(b"one")
    until(lambda: bench.state() == "PENDING 0/1")
    bench.say("bob", "approve", 1)
    bench.slow()


def test_a_request_shows_that_its_files_are_being_read(bench: SlowBench) -> None:
    bench.slow()
    with pytest.raises(errors.ApprovalRequiredError, match=r"Its files are being read \(0 %\)"):
        bench.set_alias(1)
    assert bench.state() == "PENDING 0/1, digesting 0 %"
    with pytest.raises(errors.DigestingError, match="approvals apply models:/gov-a/1 prod` waits"):
        bench.say("bob", "approve", 1)
    bench.feed(b"one")
    until(lambda: bench.state() == "PENDING 0/1")
    assert bench.digest() == of(b"one")
    bench.say("bob", "approve", 1)
    assert bench.state() == "APPROVED 1/1 (bob)"
    with bench.store.engine.connect() as connection:
        logged = connection.execute(sa.select(tables.audit.c.action)).scalars().all()
        assert audit_log.verify(connection).is_intact
    assert "DIGEST_RECORDED" in logged


def test_a_change_is_made_by_bytes_read_after_its_approval(bench: SlowBench) -> None:
    approved_and_slow_again(bench)
    with pytest.raises(errors.DigestingError, match="Nothing was changed"):
        bench.set_alias(1)
    bench.feed(b"one")
    until(lambda: bench.row().state == "done")
    bench.set_alias(1)
    assert bench.store.get_model_version_by_alias("gov-a", "prod").version == 1


def test_what_was_changed_behind_the_approval_is_stale(bench: SlowBench) -> None:
    approved_and_slow_again(bench)
    with pytest.raises(errors.DigestingError):
        bench.set_alias(1)
    bench.feed(b"two")
    until(lambda: bench.row().state == "done")
    with pytest.raises(errors.StaleApprovalError, match="its files have changed"):
        bench.set_alias(1)


def test_a_write_between_reading_and_applying_is_seen(bench: SlowBench) -> None:
    """The digest of a large file is minutes old when the change is made: its bytes must be, too."""
    bench.slow()
    bench.say("erin", "request", 1)
    bench.feed(b"one")
    until(lambda: bench.state() == "PENDING 0/1")
    bench.say("bob", "approve", 1)
    version = bench.store.get_model_version("gov-a", 1)
    assert version is not None
    # As if the file were so large that reading it had gone on behind an earlier call.
    with bench.store.engine.begin() as connection:
        row = connection.execute(sa.select(tables.digest_jobs)).one()
        now = time.time_ns() // 1_000_000
        read_now = {"started_at": now, "updated_at": now, "state": "done", "digest": of(b"one")}
        marks = marks_of(get_artifact_repository(str(bench.weights.parent)), None)
        connection.execute(
            sa.update(tables.digest_jobs)
            .where(tables.digest_jobs.c.version_uid == row.version_uid)
            .values(**read_now, file_marks=marks)
        )
    # The same size and the same times: only the time of the change itself differs.
    times = bench.weights.stat()
    bench.weights.write_bytes(b"two")
    os.utime(bench.weights, ns=(times.st_atime_ns, times.st_mtime_ns))

    def is_refused() -> bool:
        try:
            bench.set_alias(1)
        except errors.DigestingError:
            return False
        except errors.StaleApprovalError as exc:
            return "its files have changed" in exc.message
        raise AssertionError("other bytes than those approved are in production")

    until(is_refused)


def test_what_is_written_while_it_is_read_has_no_digest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "weights").write_bytes(b"one")
    about = Version("default", "m", 1, "u", "None", str(tmp_path), str(tmp_path), None, False, True)
    files = digest.Files(about)
    read = files.read

    def written_meanwhile(progress: Progress) -> str | None:
        found = read(progress)
        (tmp_path / "weights").write_bytes(b"two")
        return found

    monkeypatch.setattr(files, "read", written_meanwhile)
    job = digest_jobs._Job(files)
    assert job.wait(60)
    assert "were written while they were read" in str(job.error)


@pytest.mark.parametrize("server", ["disk", "moto", "azurite", "gcs"])
def test_marks_show_every_write(
    tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, server: str
) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "a").write_bytes(b"one")
    location = str(tmp_path / "m")
    if server != "disk":
        store: servers.ObjectStore = request.getfixturevalue(server)
        for name, value in store.environment.items():
            monkeypatch.setenv(name, value)
        location = f"{store.new_root()}/m"
    repository = get_artifact_repository(location)
    if server != "disk":
        repository.log_artifacts(str(tmp_path / "m"))
        # Next to it, not in it.
        get_artifact_repository(f"{location}-2").log_artifacts(str(tmp_path / "m"))
    before = marks_of(repository, None)
    assert before == marks_of(repository, None) is not None
    (tmp_path / "b").write_bytes(b"")
    repository.log_artifact(str(tmp_path / "b"))
    more = marks_of(repository, None)
    (tmp_path / "m" / "a").write_bytes(b"two")
    if server != "disk":
        repository.log_artifact(str(tmp_path / "m" / "a"))
    after = marks_of(repository, None)
    assert len({before, more, after}) == 3
    assert after is not None
    assert number_of_files(after) == 2
    assert marks_of(repository, None, most=2) == after
    assert marks_of(repository, None, most=1) not in (before, more, after, None)
    of_one = [marks_of(repository, name) for name in ("a", "b")]
    assert len({*of_one, after}) == 3
    assert [number_of_files(marks or "") for marks in of_one] == [1, 1]


def test_what_has_no_marks(tmp_path: Path) -> None:
    assert marks_of(object(), None) is None
    (tmp_path / "link").symlink_to(tmp_path)
    assert marks_of(get_artifact_repository(str(tmp_path)), None) is None


def test_jobs_that_ended_are_removed_by_a_later_one(bench: SlowBench) -> None:
    """The table must not grow with every version that was ever read."""
    old = time.time_ns() // 1_000_000 - digest_jobs.FRESH_MS - 1
    ended = {"workspace": "default", "name": "gov-old", "bytes_done": 1, "bytes_total": 1}
    ended |= {"owner": "host:1:x", "lease_expires_at": old, "started_at": old, "version": 1}
    rows = [
        ended | {"version_uid": "old-done", "state": "done", "updated_at": old},
        ended | {"version_uid": "old-failed", "state": "failed", "updated_at": old},
        ended | {"version_uid": "fresh", "state": "done", "updated_at": old + 60_000},
        ended | {"version_uid": "under-way", "state": "running", "updated_at": old},
    ]
    with bench.store.engine.begin() as connection:
        connection.execute(sa.insert(tables.digest_jobs), rows)
    bench.slow()
    bench.say("erin", "request", 1)
    with bench.store.engine.connect() as connection:
        query = sa.select(tables.digest_jobs.c.version_uid).where(
            tables.digest_jobs.c.name == "gov-old"
        )
        assert sorted(connection.execute(query).scalars()) == ["fresh", "under-way"]
    bench.feed(b"one")
    until(lambda: bench.state() == "PENDING 0/1")


def test_small_files_need_no_second_call(bench: SlowBench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SETTING, "60")
    bench.weights.write_bytes(b"one")
    bench.say("erin", "request", 1)
    assert bench.state() == "PENDING 0/1"
    bench.say("bob", "approve", 1)
    bench.set_alias(1)
    assert bench.row() is None


def test_what_cannot_be_read_is_shown_and_read_again_when_asked(
    bench: SlowBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    breaks = threading.Event()

    def broken(*_arguments: Any) -> Any:
        assert breaks.wait(90)
        raise OSError("the disk is gone")

    bench.weights.write_bytes(b"one")
    with monkeypatch.context() as patch:
        patch.setattr(digest, "hash_files", broken)
        bench.say("erin", "request", 1)
        breaks.set()
        until(lambda: bench.row().state == "failed")
    until(lambda: "digesting failed: " in bench.state())
    assert "the disk is gone" in bench.state()
    bench.slow()
    with pytest.raises(errors.DigestingError):
        bench.say("bob", "approve", 1)
    bench.feed(b"one")
    until(lambda: bench.state() == "PENDING 0/1")
    bench.say("bob", "approve", 1)
    assert bench.digest() == of(b"one")


CHILD = """
import sys, time
from mlflow.entities.model_registry import ModelVersionTag
from mlflow_plugins_pack.approvals.plugin import build_store
from tests.support.acting import signed_in

store = build_store(sys.argv[1])
with signed_in("erin"):
    tag = ModelVersionTag("approvals.request", "prod: fine")
    store.set_model_version_tag("gov-a", 1, tag)
print("asked", flush=True)
time.sleep(600)
"""


def test_the_reading_of_a_killed_process_is_taken_over(
    bench: SlowBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.slow()
    environment = servers.clean_environment(
        MLFLOW_PACK_APPROVALS_POLICY=str(bench.folder / "policy.yaml"),
        MLFLOW_PACK_LINEAGE_ENABLED="false",
        **{SETTING: "0"},
    )
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, bench.uri],
        env=environment,
        cwd=ROOT,
        stdout=subprocess.PIPE,
    )
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == b"asked\n"
        assert bench.row().state == "running"
        # While it lives, no other process reads.
        assert bench.store.enforcer.digest_jobs.resume() == 0
        with pytest.raises(errors.DigestingError):
            bench.say("bob", "approve", 1)
    finally:
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        if child.stdout is not None:
            child.stdout.close()
    later = time.time_ns() // 1_000_000 + digest_jobs.LEASE_MS + 1000
    monkeypatch.setattr(bench.store.enforcer.digest_jobs, "_now_ms", lambda: later)
    assert bench.store.enforcer.digest_jobs.resume() == 1
    bench.feed(b"one")
    until(lambda: bench.state() == "PENDING 0/1")
    assert bench.digest() == of(b"one")


def test_jobs_beyond_the_limit_wait(bench: SlowBench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.slow()
    for _ in range(digest_jobs.PARALLEL):
        assert bench.store.enforcer.digest_jobs._room.acquire(blocking=False)
    bench.say("erin", "request", 1)
    assert bench.row().owner == ""
    assert bench.store.enforcer.digest_jobs.resume() == 0
    for _ in range(digest_jobs.PARALLEL):
        bench.store.enforcer.digest_jobs._room.release()
    assert bench.store.enforcer.digest_jobs.resume() == 1
    bench.feed(b"one")
    until(lambda: bench.state() == "PENDING 0/1")


def test_a_pipeline_waits_for_the_reading(bench: SlowBench) -> None:
    bench.slow()
    bench.say("erin", "request", 1)
    arguments = ["models:/gov-a/1", "prod", "--registry-store-uri", bench.uri]
    waited = CliRunner().invoke(cli, ["approvals", "wait", *arguments, "--timeout", "1s"])
    assert waited.exit_code == 3, waited.output
    assert "prod: PENDING 0/1, digesting" in waited.output
    bench.feed(b"one")
    until(lambda: bench.state() == "PENDING 0/1")


def test_a_pipeline_applies_once_the_files_are_read_again(bench: SlowBench) -> None:
    approved_and_slow_again(bench)
    arguments = ["approvals", "apply", "models:/gov-a/1", "prod", "--registry-store-uri", bench.uri]
    with signed_in("erin"):
        early = CliRunner().invoke(cli, [*arguments, "--timeout", "1s"])
    assert early.exit_code == 3, early.output
    told = "The files are being read: 0 %\nThey are not read yet; apply again later.\n"
    assert early.output.endswith(told)
    assert bench.state() == "APPROVED 1/1 (bob)"
    feeder = threading.Thread(target=bench.feed, args=(b"one",))
    feeder.start()
    with signed_in("erin"):
        done = CliRunner().invoke(cli, [*arguments, "--timeout", "90s"])
    feeder.join()
    assert done.exit_code == 0, done.output
    assert done.output.endswith("models:/gov-a/1 is prod.\n")
    assert bench.state() == "APPLIED 1/1 (bob)"


def test_a_pipeline_does_not_wait_for_files_that_have_changed(bench: SlowBench) -> None:
    approved_and_slow_again(bench)
    feeder = threading.Thread(target=bench.feed, args=(b"two",))
    feeder.start()
    arguments = ["approvals", "apply", "models:/gov-a/1", "prod", "--registry-store-uri", bench.uri]
    with signed_in("erin"):
        done = CliRunner().invoke(cli, [*arguments, "--timeout", "90s"])
    feeder.join()
    assert done.exit_code == 1, done.output
    assert isinstance(done.exception, errors.StaleApprovalError)
    assert bench.state().startswith("STALE: its files have changed since")


def test_a_reading_holds_one_file_on_disk_and_stops_when_told(tmp_path: Path) -> None:
    class Bucket:
        """A repository elsewhere, which tells how many files are on this disk at a time."""

        def __init__(self) -> None:
            self.seen: list[Path] = []
            self.most = 0

        def list_artifacts(self, path: str | None) -> list[Any]:
            from mlflow.entities import FileInfo

            if path == "m":
                return [FileInfo("m/a", False, 3), FileInfo("m/sub", True, None)]
            return [FileInfo("m/sub/b", False, 4)] if path == "m/sub" else []

        def _download_file(self, remote_file_path: str, local_path: str) -> None:
            self.most = max(self.most, sum(path.exists() for path in self.seen) + 1)
            self.seen.append(Path(local_path))
            Path(local_path).write_bytes(remote_file_path[2:].encode()[:4])

    bucket, progress = Bucket(), Progress()
    found = hash_files(bucket, "m", progress)
    assert [(path, size) for path, size, _ in found] == [("a", 1), ("sub/b", 4)]
    assert (progress.bytes_done, progress.bytes_total) == (5, 7)
    assert bucket.most == 1
    assert not any(path.exists() for path in bucket.seen)
    progress.stop()
    with pytest.raises(ReadingStoppedError):
        hash_files(bucket, "m", progress)
