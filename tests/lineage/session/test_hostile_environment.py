"""A process that lacks what programs take for granted has its record all the same."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.lineage.support.reading import RunRecord
from tests.support import servers

SCRIPT = """
import os, sys
import mlflow, pandas
with mlflow.start_run() as run:
    sys.setrecursionlimit(150)
    pandas.read_csv("data.csv").to_parquet("out.parquet")
    os.write(1, run.info.run_id.encode())
    os.close(0)
    sys.stderr = sys.stdout = None
"""


def test_no_home_no_streams_no_assertions_little_stack(tmp_path: Path, database: str) -> None:
    (tmp_path / "data.csv").write_text("x\n1\n")
    (tmp_path / "train.py").write_text(SCRIPT)
    environment = servers.clean_environment(
        MLFLOW_TRACKING_URI=database,
        MLFLOW_DISABLE_TELEMETRY="true",
        TMPDIR=str(tmp_path / "absent"),
        XDG_CACHE_HOME="/proc/absent",
        XDG_STATE_HOME="/proc/absent",
    )
    environment.pop("HOME", None)
    done = subprocess.run(
        ["/bin/sh", "-c", 'exec "$@" 2>&-', "sh", sys.executable, "-I", "-OO", "train.py"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0
    record = RunRecord(database, done.stdout)
    assert record.own() == {"data.csv"}
    assert record.outputs() == {"out.parquet"}
    assert record.entries()["data.csv"]["h"].startswith("sha256:")
