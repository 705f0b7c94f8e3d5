"""A vote counts for the bytes that are there when it is given, or not at all."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from mlflow_plugins_pack import errors
from mlflow_plugins_pack.approvals import caller
from mlflow_plugins_pack.approvals.content import digest_jobs
from mlflow_plugins_pack.approvals.domain import clock
from mlflow_plugins_pack.approvals.ledger.requests import find_requests
from mlflow_plugins_pack.approvals.reports import request_details
from tests.approvals.support.bench import ClockBench, refused
from tests.support.acting import signed_in

RULE = "    approvals: [{group: leads, count: 1}]\n"


class Files:
    """The one file of version 1 of ``gov-a``."""

    def __init__(self, location: str, folder: Path, write: Callable[[bytes], None]) -> None:
        self.location, self.folder, self.write = location, folder, write


@pytest.fixture(params=["few", "large", "cas"])
def files(
    request: pytest.FixtureRequest,
    bench: ClockBench,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Files:
    """On a local disk, few or as if they took long to read; or in a store that has digests."""
    if request.param == "large":
        monkeypatch.setenv("MLFLOW_PACK_APPROVALS_DIGEST_SECONDS", "0")
        monkeypatch.setattr(digest_jobs, "RENEW_SECONDS", 0.01)
    weights = tmp_path / "model" / "weights"
    weights.parent.mkdir()
    location = str(weights.parent)
    if request.param == "cas":
        location = f"cas-file://{tmp_path / 'store'}/1/{'ab' * 16}/artifacts"
        repository = get_artifact_repository(location)

    def write(data: bytes) -> None:
        weights.write_bytes(data)
        if request.param == "cas":
            repository.log_artifact(str(weights))

    write(b"good")
    with signed_in("alice"):
        bench.store.create_registered_model("gov-a")
        bench.store.create_model_version("gov-a", location)
    bench.edit(RULE, "    approvals: [{group: leads, count: 2}]\n")
    bench.say("erin", "request", 1)
    until(lambda: bench.state(1) == "PENDING 0/2")
    return Files(location, tmp_path, write)


def until(what: Callable[[], Any]) -> None:
    ends = time.monotonic() + 60
    while not what():
        assert time.monotonic() < ends, "it never came"
        time.sleep(0.02)


def vote(bench: ClockBench, user: str) -> None:
    """Vote, again each time that the files are still being read."""

    def is_done() -> bool:
        bench.now += 1  # a digest job that ended counts from its start on
        with contextlib.suppress(errors.DigestingError):
            bench.say(user, "approve", 1)
            return True
        return False

    until(is_done)


def files_changed(bench: ClockBench) -> bool | None:
    """Return what the page and the endpoint say."""

    def read(session: Any) -> request_details.RequestDetails:
        policy = bench.store.governance.policy()
        (found,) = find_requests(session, name="gov-a")[:1]
        return request_details.read(session, policy, found, clock.now_ms())

    return bench.store._transactions.read(read).with_files().files_changed


def test_a_vote_on_files_that_stayed(bench: ClockBench, files: Files) -> None:
    assert files_changed(bench) is False
    bench.say("bob", "approve", 1)
    assert bench.state(1) == "PENDING 1/2 (bob)"


@pytest.mark.parametrize("votes", [[], ["carol"]], ids=["the first", "the last"])
def test_a_vote_on_files_that_changed(bench: ClockBench, files: Files, votes: list[str]) -> None:
    for user in votes:
        vote(bench, user)
    files.write(b"evil")
    assert files_changed(bench) is True
    with pytest.raises(errors.StaleApprovalError, match="its files have changed since") as caught:
        vote(bench, "bob")
    assert "approvals.request" in caught.value.message  # what to do next
    assert str(bench.state(1)).startswith("STALE")
    # Asked again, it is about the files as they are now.
    bench.say("erin", "request", 1)
    until(lambda: bench.state(1) == "PENDING 0/2")
    vote(bench, "bob")
    vote(bench, "carol")
    assert bench.state(1) == "APPROVED 2/2 (bob, carol)"


def test_a_vote_on_files_that_were_written_again_as_they_were(
    bench: ClockBench, files: Files
) -> None:
    files.write(b"evil")
    files.write(b"good")
    vote(bench, "bob")
    assert bench.state(1) == "PENDING 1/2 (bob)"


def test_only_a_vote_that_would_count_closes_the_request(bench: ClockBench, files: Files) -> None:
    files.write(b"evil")
    refused(errors.NotAnApproverError, lambda: bench.say("mallory", "approve", 1))
    assert bench.state(1) == "PENDING 0/2"
    # Rejecting and cancelling need no files.
    bench.say("carol", "reject", 1)
    assert str(bench.state(1)).startswith("REJECTED")


def test_files_that_are_gone_are_not_voted_for(
    bench: ClockBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = bench.version()
    bench.say("erin", "request", version)
    source = Path(str(bench.store.get_model_version("gov-a", version).source))
    (source / "weights").unlink()
    refused(errors.DigestUnavailableError, lambda: bench.say("bob", "approve", version))
    assert bench.state(version) == "PENDING 0/1"
    # A review app without the server's stores leaves it to the call that makes the change.
    with monkeypatch.context() as patch:
        patch.setattr(caller, "in_server", lambda: False)
        bench.say("bob", "approve", version)
    assert bench.state(version) == "APPROVED 1/1 (bob)"
    refused(errors.DigestUnavailableError, lambda: bench.set_alias(version))


def test_a_vote_to_take_a_target_away_needs_no_files(bench: ClockBench, tmp_path: Path) -> None:
    version = bench.promoted("gov-a")
    source = Path(str(bench.store.get_model_version("gov-a", version).source))
    (source / "weights").unlink()

    def delete() -> None:
        with signed_in("erin"):
            bench.store.delete_registered_model_alias("gov-a", "prod")

    refused(errors.ApprovalRequiredError, delete)
    bench.say("bob", "approve", version)
    delete()
    assert bench.holder() is None


def test_the_review_of_an_emergency_demotion_needs_no_files(bench: ClockBench) -> None:
    bench.edit(RULE, RULE + "    break_glass: {group: risk}\n")
    version = bench.promoted("gov-a")
    source = Path(str(bench.store.get_model_version("gov-a", version).source))
    bench.say("dave", "break_glass.demote", version, "prod: it is burning")
    (source / "weights").unlink()
    bench.say("bob", "approve", version)
    assert bench.findings() == []


def test_the_review_of_an_emergency_change_is_about_its_files(bench: ClockBench) -> None:
    bench.edit(RULE, RULE + "    break_glass: {group: risk}\n")
    version = bench.version()
    bench.say("dave", "break_glass", version, "prod: it is burning")
    source = Path(str(bench.store.get_model_version("gov-a", version).source))
    good = (source / "weights").read_bytes()
    (source / "weights").write_bytes(b"evil")
    text = refused(errors.StaleApprovalError, lambda: bench.say("bob", "approve", version))
    assert "Your vote was not counted" in text
    (source / "weights").write_bytes(good)
    bench.say("bob", "approve", version)
    assert bench.findings() == []


def test_a_vote_for_the_request_that_was_looked_at(bench: ClockBench) -> None:
    """Its requester may cancel it, write other files and ask again, a moment before the vote."""

    def open_id() -> str:
        read = lambda s: find_requests(s, name="gov-a", only_open=True)  # noqa: E731
        (found,) = bench.store._transactions.read(read)
        return str(found.id)

    version = bench.version()
    bench.say("erin", "request", version)
    seen = open_id()
    bench.say("erin", "cancel", version)
    source = Path(str(bench.store.get_model_version("gov-a", version).source))
    (source / "weights").write_bytes(b"evil")
    bench.now += 1
    bench.say("erin", "request", version)
    for command in ("approve", "reject"):
        for written in (seen, seen[:8]):
            text = refused(
                errors.NoOpenRequestError,
                lambda c=command, w=written: bench.say("bob", c, version, f"prod #{w}: as seen"),
            )
            assert f"Request {open_id()[:8]} is open in its place" in text
    refused(
        errors.InvalidCommandError,
        lambda: bench.say("erin", "request", version, f"prod #{seen}: x"),
    )
    bench.say("bob", "approve", version, f"prod #{open_id()[:8]}: seen again")
    assert bench.state(version) == "APPROVED 1/1 (bob)"
