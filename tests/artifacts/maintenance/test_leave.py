"""Into the store and out of it again: stock MLflow then serves everything, byte for byte."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa
from mlflow.tracking import MlflowClient

from mlflow_plugins_pack.artifacts.maintenance.locations import rewrite_locations
from tests.artifacts.support.commands import run, run_json
from tests.support import servers, templates
from tests.support.paths import ROOT

HIDDEN = {"PYTHONPATH": str(ROOT / "tests" / "support" / "without_pack"), "HIDE_PACK": "1"}

READ_ALL = """
import hashlib, json, sys, tempfile
from pathlib import Path
import mlflow
from mlflow.tracking import MlflowClient

mlflow.set_tracking_uri(sys.argv[1])
client = MlflowClient()
places = [{"run_id": run.info.run_id} for run in client.search_runs(["1"])]
uris = [f"{v.name}/{v.version}" for v in client.search_model_versions()]
uris += [m.model_id for m in client.search_logged_models(["1"])]
places += [{"artifact_uri": f"models:/{uri}"} for uri in uris]
found = {}
for place in places:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(mlflow.artifacts.download_artifacts(**place, dst_path=name))
        for file in folder.rglob("*"):
            if file.is_file():
                digest = hashlib.sha256(file.read_bytes()).hexdigest()
                found[f"{place} {file.relative_to(folder)}"] = digest
print(json.dumps(found))
"""

LOG = """
import os, sys
import mlflow, numpy
from sklearn.linear_model import LinearRegression

mlflow.set_tracking_uri(sys.argv[1])
mlflow.set_experiment("e")
with mlflow.start_run():
    mlflow.log_dict({"a": 1}, "notes/a.json")
    model = LinearRegression().fit(numpy.eye(3), numpy.arange(3))
    mlflow.sklearn.log_model(model, name="m", registered_model_name="fraud")
"""


def python(code: str, url: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code, url],
        env=servers.clean_environment(MLFLOW_DISABLE_TELEMETRY="true", **environment),
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.splitlines()[-1] if done.stdout else ""


def test_stock_serves_everything_after_an_export(tmp_path: Path) -> None:
    store, plain = f"cas-file://{tmp_path}/store", tmp_path / "plain"
    with servers.mlflow_server(tmp_path / "server", default_artifact_root=store) as server:
        python(LOG, server.url)
        before = json.loads(python(READ_ALL, server.url))
    database = f"sqlite:///{tmp_path}/server/mlflow.db"
    plain.mkdir()
    done = run_json("export", store, str(plain), "--rewrite-locations", f"approval-{database}")
    assert done["failed"] == {}
    rewritten = done["rewritten"]
    assert {place for place, count in rewritten.items() if count} >= {
        "experiments.artifact_location",
        "runs.artifact_uri",
        "logged_models.artifact_location",
        "model_versions.storage_location",
    }
    shutil.rmtree(tmp_path / "store")
    with servers.mlflow_server(
        tmp_path / "server", default_artifact_root=str(plain), **HIDDEN
    ) as server:
        after = json.loads(python(READ_ALL, server.url, **HIDDEN))
    assert len(before) > 10
    assert after == before


def test_a_copy_that_failed_rewrites_nothing(tmp_path: Path) -> None:
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    store, plain = f"cas-file://{tmp_path}/store", tmp_path / "plain"
    database = templates.sqlite_with_tables(tmp_path / "mlflow.db")
    client = MlflowClient(tracking_uri=database)
    client.create_experiment("e", f"{store}/1")
    (tmp_path / "file").write_bytes(b"1" * 100)
    folder = f"1/{'5' * 32}/artifacts"
    get_artifact_repository(f"{store}/{folder}").log_artifact(str(tmp_path / "file"))
    (plain / folder / "file").mkdir(parents=True)  # in the way
    run("export", store, str(plain), "--rewrite-locations", database, code=1)
    assert client.get_experiment_by_name("e").artifact_location == f"{store}/1"


@pytest.mark.parametrize("kind", ["sqlite", "postgresql", "mariadb"])
def test_only_the_root_and_what_is_below_it(kind: str, mlflow_database, tmp_path: Path) -> None:
    url = mlflow_database(kind, tmp_path)
    engine = sa.create_engine(url)
    places = ["cas-s3://b/p_1", "cas-s3://b/p_1/7", "cas-s3://b/p_10/8", "cas-s3://b/px1/9"]
    places.append("CAS-S3://B/P_1/10")
    with engine.begin() as connection:
        for number, place in enumerate(places):
            connection.execute(
                sa.text(
                    "INSERT INTO experiments (name, artifact_location, lifecycle_stage, workspace) "
                    "VALUES (:name, :place, 'active', 'default')"
                ),
                {"name": f"e{number}", "place": place},
            )
    done = rewrite_locations(url, "cas-s3://b/p_1/", "s3://c")
    assert done.rows["experiments.artifact_location"] == 2
    with engine.begin() as connection:
        query = sa.text("SELECT artifact_location FROM experiments WHERE name LIKE 'e%'")
        found = set(connection.execute(query).scalars())
    assert found >= {"s3://c", "s3://c/7", *places[2:]}
    assert done.others == ["CAS-S3://B/P_1", "cas-s3://b/p_10", "cas-s3://b/px1"]
    engine.dispose()


def test_a_refusal_by_the_database_changes_nothing(tmp_path: Path) -> None:
    url = templates.sqlite_with_tables(tmp_path / "mlflow.db")
    client = MlflowClient(tracking_uri=url)
    experiment = client.create_experiment("e", "cas-s3://b/p/1")
    client.create_run(experiment)
    database = sqlite3.connect(tmp_path / "mlflow.db")
    database.execute(
        "CREATE TRIGGER t BEFORE UPDATE ON runs BEGIN SELECT RAISE(ABORT, 'guarded'); END"
    )
    database.commit()
    database.close()
    with pytest.raises(Exception, match=r"guarded.*Nothing was changed"):
        rewrite_locations(url, "cas-s3://b/p", "s3://c")
    assert client.get_experiment(experiment).artifact_location == "cas-s3://b/p/1"


def test_each_location_is_rewritten_once(tmp_path: Path) -> None:
    url = templates.sqlite_with_tables(tmp_path / "mlflow.db")
    client = MlflowClient(tracking_uri=url)
    experiment = client.create_experiment("e", "file:/p/1")
    rewrite_locations(url, "file:///p", "file:///p/q")
    assert client.get_experiment(experiment).artifact_location == "file:///p/q/1"


def test_a_misspelt_database_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="has no tables of MLflow"):
        rewrite_locations(f"sqlite:///{tmp_path}/mistake.db", "cas-s3://b/p", "s3://c")
