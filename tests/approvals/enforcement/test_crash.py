"""A process that is killed at any step of a promotion leaves all of it or nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.approvals.support.crashing import WRITES
from tests.support import servers
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


@pytest.mark.parametrize("database", ["sqlite", "postgresql", "mariadb"])
def test_a_promotion_is_whole_or_not_there(
    mlflow_database: Callable[[str, Path], str], tmp_path: Path, database: str
) -> None:
    url = mlflow_database(database, tmp_path)
    (tmp_path / "policy.yaml").write_text(POLICY)
    done = subprocess.run(
        [sys.executable, "-m", "tests.approvals.support.crashing", url],
        env=servers.clean_environment(
            MLFLOW_PACK_APPROVALS_POLICY=str(tmp_path / "policy.yaml"),
            MLFLOW_PACK_LINEAGE_ENABLED="false",
            TMPDIR=str(tmp_path),
        ),
        cwd=ROOT,
        capture_output=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()[-4000:]
    steps = json.loads(done.stdout)
    outcomes = [outcome for _, _, outcome in steps]
    written = [what for _, what, _ in steps if what.startswith(WRITES)]
    # The steps are those of the whole act: MLflow's own write, the grant, the log, the request.
    for table in ("registered_model_aliases", "mpp_grant", "mpp_audit", "mpp_request"):
        assert any(table in what for what in written), (table, written)
    # Once it is there it stays, and before the commit nothing is.
    assert outcomes == sorted(outcomes, key=["before", "after"].index), steps
    assert "before" in outcomes
    assert "after" in outcomes
