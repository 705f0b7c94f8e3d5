"""What is so without approval is found, however it came about."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from mlflow_plugins_pack.approvals.plugin import build_store
from mlflow_plugins_pack.cli.main import cli
from tests.approvals.support.bench import Bench

POLICY = """
version: 1
groups: {leads: [bob]}
policies:
  - name: prod
    match: {models: ["gov-*"], prompts: ["say-*"], workspaces: ["*"]}
    targets: {aliases: [prod], stages: [Production]}
    approvals: [{group: leads}]
"""


_numbers = itertools.count(1)


class DriftBench(Bench):
    def promoted(self, name: str, *, target: str = "prod", prompt: bool = False) -> int:
        version = super().promoted(name, target=target, prompt=prompt)
        assert self.found(name) == []
        return version

    def found(self, name: str) -> list[tuple[str, int, str]]:
        return [(f.target, f.version, f.kind) for f in self.findings() if f.model == name]


@pytest.fixture(scope="module", params=["sqlite", "postgresql", "mariadb"])
def bench(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    mlflow_database: Callable[[str, Path], str],
) -> Iterator[DriftBench]:
    folder = tmp_path_factory.mktemp("drift")
    url = mlflow_database(request.param, folder)
    (folder / "policy.yaml").write_text(POLICY)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_PACK_APPROVALS_POLICY", str(folder / "policy.yaml"))
        yield DriftBench(url, folder)


@pytest.mark.parametrize(
    ("statement", "found"),
    [
        (
            "UPDATE registered_model_aliases SET version = 2 WHERE name = '{name}'",
            [("prod", 2, "unapproved")],
        ),
        (
            "UPDATE registered_model_aliases SET alias = 'Prod' WHERE name = '{name}'",
            [("Prod", 1, "unapproved"), ("prod", 1, "removed")],
        ),
        (
            "DELETE FROM registered_model_aliases WHERE name = '{name}'",
            [("prod", 1, "removed")],
        ),
        (
            (
                "UPDATE model_versions SET current_stage = 'Production' "
                "WHERE name = '{name}' AND version = 2"
            ),
            [("stage:Production", 2, "unapproved")],
        ),
        (
            "UPDATE model_versions SET source = 's3://evil' WHERE name = '{name}' AND version = 1",
            [("prod", 1, "changed")],
        ),
        (
            "UPDATE mpp_grant SET request_id = 'forged' WHERE name = '{name}'",
            [("prod", 1, "unaudited")],
        ),
        ("DELETE FROM mpp_grant WHERE name = '{name}'", [("prod", 1, "unapproved")]),
    ],
)
def test_raw_sql_is_found(
    bench: DriftBench, statement: str, found: list[tuple[str, int, str]]
) -> None:
    name = f"gov-sql-{next(_numbers)}"
    bench.promoted(name)
    bench.version(name)
    assert bench.found(name) == []
    bench.run(statement.format(name=name))
    assert bench.found(name) == found


def test_a_stage_left_behind_the_back_is_found(bench: DriftBench) -> None:
    name = f"gov-stage-{next(_numbers)}"
    version = bench.promoted(name, target="stage:Production")
    bench.run(f"UPDATE model_versions SET current_stage = 'None' WHERE name = '{name}'")
    assert bench.found(name) == [("stage:Production", version, "removed")]


def test_a_model_moved_to_another_workspace_is_found(bench: DriftBench) -> None:
    """Deleting a workspace moves its models, past every registry store."""
    name = f"gov-moved-{next(_numbers)}"
    version = bench.promoted(name)
    bench.run(f"UPDATE registered_models SET workspace = 'team-b' WHERE name = '{name}'")
    assert bench.found(name) == [
        ("prod", version, "removed"),
        ("prod", version, "unapproved"),
    ]


def test_other_words_in_a_prompt_are_found(bench: DriftBench) -> None:
    name = f"say-{next(_numbers)}"
    version = bench.promoted(name, prompt=True)
    bench.run(
        f"UPDATE model_version_tags SET value = 'evil' WHERE name = '{name}' "
        "AND value = 'kind words'"
    )
    assert bench.found(name) == [("prod", version, "changed")]


def test_what_no_policy_protects_is_no_drift(bench: DriftBench) -> None:
    name = f"free-{next(_numbers)}"
    version = bench.version(name)
    bench.store.set_registered_model_alias(name, "prod", version)
    assert bench.found(name) == []


def test_an_imported_file_store_arrives_unapproved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`mlflow migrate-filestore` writes rows past every store."""
    from mlflow.store.fs2db import migrate
    from mlflow.store.model_registry.file_store import FileStore
    from mlflow.store.tracking.file_store import FileStore as TrackingFileStore

    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    source, target = tmp_path / "mlruns", tmp_path / "mlflow.db"
    TrackingFileStore(str(source))
    files = FileStore(str(source))
    files.create_registered_model("gov-old")
    files.create_model_version("gov-old", "s3://bucket/x")
    files.set_registered_model_alias("gov-old", "prod", "1")
    migrate(source, f"sqlite:///{target}", progress=False)
    (tmp_path / "policy.yaml").write_text(POLICY)
    monkeypatch.setenv("MLFLOW_PACK_APPROVALS_POLICY", str(tmp_path / "policy.yaml"))
    uri = f"approval-sqlite:///{target}"
    build_store(uri)._dispose_engine()
    arguments = ["approvals", "drift", "--json", "--registry-store-uri", uri]
    done = CliRunner().invoke(cli, arguments)
    assert done.exit_code == 1
    (row,) = json.loads(done.output)
    assert (row["model"], row["target"], row["kind"]) == ("gov-old", "prod", "unapproved")
