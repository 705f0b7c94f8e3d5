"""Files that can be locked are locked before the bytes are read by which a change is made."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from mlflow_plugins_pack.approvals.content import digest
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
