"""Files that can be locked are locked before the bytes are read by which a change is made."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from mlflow_plugins_pack.approvals.content import digest
from mlflow_plugins_pack.approvals.enforcement import decision_loop, file_locks, requests
from mlflow_plugins_pack.approvals.reports import listings
from mlflow_plugins_pack.errors import ArtifactLockedError
from tests.approvals.support.bench import ClockBench
from tests.support.acting import signed_in

RULE = "    approvals: [{group: leads, count: 1}]\n"


class Attacker:
    """Overwrites the files of a version each time that their digest has been read.

    Attributes:
        written: Whether each attempt succeeded.
    """

    def __init__(self, uri: str, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.repository = get_artifact_repository(uri)
        self.file = folder / "weights"
        self.write(b"approved")
        self.written: list[bool] = []
        read = digest.Files.read

        def then_write(files: digest.Files, progress: Any) -> str | None:
            found = read(files, progress)
            try:
                self.write(f"evil {len(self.written)}".encode())
            except ArtifactLockedError:
                self.written.append(False)
            else:
                self.written.append(True)
            return found

        self._start: Callable[[], None] = lambda: patch.setattr(digest.Files, "read", then_write)

    def start(self) -> None:
        self._start()

    def write(self, data: bytes) -> None:
        self.file.write_bytes(data)
        self.repository.log_artifact(str(self.file))

    def served(self, folder: Path) -> bytes:
        return Path(self.repository.download_artifacts("weights", str(folder))).read_bytes()


@pytest.fixture
def attacker(bench: ClockBench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Attacker:
    uri = f"cas-file://{tmp_path / 'store'}/1/{'ab' * 16}/artifacts"
    found = Attacker(uri, tmp_path, monkeypatch)
    with signed_in("alice"):
        bench.store.create_registered_model("gov-a")
        bench.store.create_model_version("gov-a", uri)
    return found


def test_a_request_that_the_last_vote_applies(
    bench: ClockBench, attacker: Attacker, tmp_path: Path
) -> None:
    bench.edit("approval_valid_for: 1h", "approval_valid_for: 1h, apply: auto")
    bench.say("erin", "request", 1)
    attacker.start()
    with pytest.raises(MlflowException, match="STALE_APPROVAL"):
        bench.say("bob", "approve", 1)
    assert attacker.written == [True, False]
    assert bench.holder() is None


def test_a_change_that_needs_no_votes(
    bench: ClockBench, attacker: Attacker, tmp_path: Path
) -> None:
    bench.edit(RULE, "    approvals: []\n")
    attacker.start()
    with pytest.raises(MlflowException, match="STALE_APPROVAL"):
        bench.set_alias(1)
    assert attacker.written == [True, False]
    assert bench.holder() is None


@pytest.mark.parametrize("how", ["at the last vote", "without votes"])
def test_it_is_made_in_one_call_where_no_one_interferes(
    bench: ClockBench, attacker: Attacker, tmp_path: Path, how: str
) -> None:
    if how == "without votes":
        bench.edit(RULE, "    approvals: []\n")
        bench.set_alias(1)
    else:
        bench.edit("approval_valid_for: 1h", "approval_valid_for: 1h, apply: auto")
        bench.say("erin", "request", 1, "prod: please")
        bench.say("bob", "approve", 1, "prod: fine")
    assert bench.holder() == 1
    with pytest.raises(ArtifactLockedError):
        attacker.write(b"evil")
    assert attacker.served(tmp_path) == b"approved"
    with bench.store.engine.connect() as connection:
        actions = [row["action"] for row in listings.audit_entries(connection, 100)]
    made = [action for action in actions if action != "POLICY_ACTIVATED"]
    assert len(made) == len(set(made))  # nothing is recorded twice
    assert "APPLIED" in made


# --- calls that race: what serves is what was approved ------------------------------------------


def in_a_thread(work: Callable[[], Any]) -> None:
    """Run work to its end in another thread, as another call does; its refusal is its own."""

    def run() -> None:
        with contextlib.suppress(MlflowException):
            work()

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()


class Once:
    """Does something the first time that a method has returned.

    Attributes:
        is_done: Whether that was.
    """

    def __init__(
        self, patch: pytest.MonkeyPatch, owner: Any, name: str, then: Callable[[], None]
    ) -> None:
        self.is_done = False
        method = getattr(owner, name)

        def called(*args: Any, **kwargs: Any) -> Any:
            found = method(*args, **kwargs)
            if not self.is_done:
                self.is_done = True
                then()
            return found

        patch.setattr(owner, name, called)


def serves_what_was_approved(bench: ClockBench, attacker: Attacker, folder: Path) -> bool:
    folder.mkdir()
    return bench.holder() is None or attacker.served(folder) == b"approved"


def test_the_last_vote_between_reading_and_deciding(
    bench: ClockBench, attacker: Attacker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.edit(RULE, "    approvals: [{group: leads, count: 2}]\n")
    bench.say("erin", "request", 1)
    bench.say("carol", "approve", 1)

    def overwrite_and_vote() -> None:
        in_a_thread(lambda: bench.say("bob", "approve", 1))
        # Where the vote sees other bytes it does not count; here it came before them.
        with contextlib.suppress(ArtifactLockedError):
            attacker.write(b"evil")

    once = Once(monkeypatch, digest.Files, "read", overwrite_and_vote)
    with contextlib.suppress(MlflowException):
        bench.set_alias(1)
    assert once.is_done
    assert serves_what_was_approved(bench, attacker, tmp_path / "served")


def test_files_written_between_reading_and_the_last_vote(
    bench: ClockBench, attacker: Attacker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.say("erin", "request", 1)

    def vote_unseen() -> None:
        attacker.write(b"evil")
        # As a vote that compared the files a moment before.
        with monkeypatch.context() as patch:
            patch.setattr(requests, "changed_since", lambda _: None)
            in_a_thread(lambda: bench.say("bob", "approve", 1))

    once = Once(monkeypatch, digest.Files, "read", vote_unseen)
    with pytest.raises(MlflowException, match="STALE_APPROVAL"):
        bench.set_alias(1)
    assert once.is_done
    assert bench.holder() is None


def test_a_vote_whose_lock_is_late(
    bench: ClockBench, attacker: Attacker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.say("erin", "request", 1)
    sync, began = file_locks.FileLocks.sync, []

    def late(locks: Any, version: Any, target: Any) -> None:
        if not began:
            began.append(True)
            Once(monkeypatch, digest.Files, "read", overwrite)
            in_a_thread(lambda: bench.set_alias(1))
        sync(locks, version, target)

    def overwrite() -> None:
        with pytest.raises(ArtifactLockedError):
            attacker.write(b"evil")

    monkeypatch.setattr(file_locks.FileLocks, "sync", late)
    bench.say("bob", "approve", 1)
    assert bench.holder() == 1
    assert serves_what_was_approved(bench, attacker, tmp_path / "served")


@pytest.mark.parametrize("command", ["comment.edit", "request", "approve"])
def test_a_slow_call_removes_no_lock_of_another(
    bench: ClockBench,
    attacker: Attacker,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: str,
) -> None:
    bench.edit(RULE, "    approvals: [{group: leads, count: 2}]\n")
    bench.say("erin", "request", 1)
    bench.say("carol", "comment", 1, "prod: hello")
    if command != "approve":
        bench.say("carol", "approve", 1)
    # The slow call has looked for what is approved by the time that the last vote is given.
    once = Once(
        monkeypatch,
        file_locks.FileLocks,
        "_read",
        lambda: in_a_thread(lambda: bench.say("bob", "approve", 1)),
    )
    bench.say("carol", command, 1, "prod: hello there")
    assert once.is_done
    with pytest.raises(ArtifactLockedError):
        attacker.write(b"evil")
    bench.set_alias(1)
    assert serves_what_was_approved(bench, attacker, tmp_path / "served")


def test_a_lock_set_for_a_request_that_is_closed_meanwhile_goes(
    bench: ClockBench, attacker: Attacker, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.say("erin", "request", 1)
    bench.say("bob", "approve", 1)
    # All of the rejection, its unlocking included, comes before the call's own lock.
    open_before = decision_loop.open_request

    def then_reject(*args: Any) -> Any:
        found = open_before(*args)
        monkeypatch.setattr(decision_loop, "open_request", open_before)
        in_a_thread(lambda: bench.say("carol", "reject", 1))
        return found

    monkeypatch.setattr(decision_loop, "open_request", then_reject)
    with pytest.raises(MlflowException, match="was rejected"):
        bench.set_alias(1)
    attacker.write(b"the next version of it")


def test_files_that_cannot_be_locked_are_not_promoted(
    bench: ClockBench, attacker: Attacker, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.say("erin", "request", 1)
    bench.say("bob", "approve", 1)

    def read_only(*args: Any) -> None:
        raise PermissionError("the store may be read only")

    monkeypatch.setattr(type(attacker.repository), "lock", read_only)
    with pytest.raises(MlflowException, match="cannot be locked here"):
        bench.set_alias(1)
    assert bench.holder() is None


def test_a_vote_counts_where_files_cannot_be_locked(
    bench: ClockBench, attacker: Attacker, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.edit("approval_valid_for: 1h", "approval_valid_for: 1h, apply: auto")
    bench.say("erin", "request", 1)

    def read_only(*args: Any) -> None:
        raise PermissionError("the store may be read only")

    monkeypatch.setattr(type(attacker.repository), "lock", read_only)
    bench.say("bob", "approve", 1)
    assert (bench.state(1), bench.holder()) == ("APPROVED 1/1 (bob)", None)


@pytest.mark.parametrize("how", ["rename", "delete the version", "delete the model"])
def test_a_version_that_is_gone_leaves_no_lock(
    bench: ClockBench, attacker: Attacker, how: str
) -> None:
    bench.say("erin", "request", 1)
    bench.say("bob", "approve", 1)
    with pytest.raises(ArtifactLockedError):
        attacker.write(b"evil")
    with signed_in("alice"):
        if how == "rename":
            bench.store.rename_registered_model("gov-a", "other")
        elif how == "delete the version":
            bench.store.delete_model_version("gov-a", 1)
        else:
            bench.store.delete_registered_model("gov-a")
    attacker.write(b"free again")
