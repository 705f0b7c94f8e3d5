"""Each how-to page does what it says, at the server of the tutorial "A team's server".

The tutorial is followed first. Then a team works there for a while, and each page is followed in a
folder of its own, which has the team's policy and two files that their runs read. So is every page
elsewhere, such as the README, that has something to run.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.site.support.pages import DOCS, at_the_team_server, places, terminal
from tests.site.support.reader import PageError, Reader
from tests.support import servers
from tests.support.paths import ROOT

TEAM = ("alice", "bob", "carol", "erin", "svc-ci")

HISTORY = """
import mlflow
import pandas
from mlflow import MlflowClient

mlflow.set_experiment("work")
for version in (1, 2):
    measured = pandas.DataFrame({"size": [1, 2, version], "label": [0, 1, 1]})
    measured.to_csv("measurements.csv", index=False)
    with mlflow.start_run() as run:
        pandas.read_csv("measurements.csv")
        mlflow.log_text(f"weights {version}", "model/weights.txt")
    client = MlflowClient()
    for name, count in (("tumour", 1), ("fraud-uk", 1), ("fraud-us", 1), ("fraud-eu", 4)):
        for _ in range(count):
            try:
                client.create_registered_model(name)
            except mlflow.MlflowException:
                pass
            client.create_model_version(name, f"{run.info.artifact_uri}/model", run.info.run_id)
"""
ASK = """
from mlflow import MlflowClient

MlflowClient().set_model_version_tag("fraud-us", "{}", "approvals.request", "prod: better")
"""
APPROVE = """
MlflowClient().set_model_version_tag("fraud-us", "{}", "approvals.approve", "prod: it is")
MlflowClient().set_registered_model_alias("fraud-us", "prod", "{}")
"""


@pytest.fixture(scope="module")
def team(
    tmp_path_factory: pytest.TempPathFactory,
    postgresql: servers.DatabaseServer,
    moto: servers.ObjectStore,
) -> Iterator[Reader]:
    """A reader at the team's server, after the tutorial and some work."""
    folder = tmp_path_factory.mktemp("team")
    port, review, production, added = (servers.free_port() for _ in range(4))
    database, bucket = postgresql.new_mlflow_database(), moto.new_root().removesuffix("/mlflow")
    here = {
        **places(port),
        "127.0.0.1:5001": f"127.0.0.1:{review}",
        "--port 5001": f"--port {review}",
        "127.0.0.1:5002": f"127.0.0.1:{production}",
        "--port 5002": f"--port {production}",
        "127.0.0.1:5003": f"127.0.0.1:{added}",
        "--port 5003": f"--port {added}",
        "postgresql+psycopg://mlflow:secret@db.example.com/mlflow": database,
        "postgresql://mlflow@db.example.com/mlflow": database,
        "s3://bucket/": f"{bucket}/",
    }
    people = {name: {"MLFLOW_PACK_AUTH_CONFIG": str(folder / f"{name}.auth")} for name in TEAM}
    with Reader(folder, here, terminal(folder, **moto.environment), people) as reader:
        reader.follow(DOCS / "tutorials" / "team-server.md")
        for name in TEAM:
            profile = folder / f"{name}.auth"
            profile.write_text(
                f'[profile.team]\nhosts = ["http://127.0.0.1:{port}"]\nsource = "basic"\n'
                f'username = "{name}"\npassword = {{ env = "PASSWORD_OF_{name[:3].upper()}" }}\n'
            )
            profile.chmod(0o600)
            reader.environment[f"PASSWORD_OF_{name[:3].upper()}"] = f"a-password-of-{name}"
        for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
            del reader.environment[name]
        (folder / "train.csv").write_text("size,label\n1,0\n2,1\n")
        reader.run_as("alice", HISTORY)
        for version in "12":
            reader.run_as("alice", ASK.replace("{}", version))
            reader.run_as("bob", APPROVE.replace("{}", version))
        yield reader


@pytest.mark.parametrize("page", at_the_team_server(), ids=lambda page: str(page.relative_to(ROOT)))
def test_the_page_works(page: Path, team: Reader, tmp_path: Path) -> None:
    for name in ("policy.yaml", "measurements.csv", "train.csv"):
        shutil.copy(team.home / name, tmp_path)
    with team.elsewhere(tmp_path, "alice"):
        team.follow(page)


@pytest.mark.parametrize(
    ("page", "said"),
    [
        ("```sh\nfalse\n```", "failed with 1"),
        ("```python\n1 / 0\n```", "ZeroDivisionError"),
        ("```sh\necho one\n```\n```text\ntwo\n```", "shows\ntwo"),
        ("<!-- docs: refused CODE -->\n```sh\ntrue\n```", "was to be refused with 'CODE'"),
        ("<!-- docs: refused CODE -->\n```sh\necho no; false\n```", "refused with 'CODE'"),
        ("```sh\nmlflow-pack approvals show models:/none/1\n```", "failed with 1"),
    ],
)
def test_a_page_that_is_wrong_is_found(page: str, said: str, team: Reader, tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text(f"# A page\n\n{page}\n")
    with (
        team.elsewhere(tmp_path, "alice"),
        pytest.raises(PageError, match=re.escape(said)),
    ):
        team.follow(tmp_path / "page.md")
