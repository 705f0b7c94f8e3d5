"""Every call of an MLflow server is known by what it reaches, and those that matter are attacked.

A release of MLflow with a new call that writes the registry, or files of versions, fails here until
it has a row in `attack_table` or a reason in `server_routes`.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mlflow_plugins_pack.versions import mlflow_version
from tests.approvals.support import server_routes
from tests.approvals.support.attack_table import ATTEMPTS, cell
from tests.approvals.support.attacks import ATTACKS
from tests.approvals.support.server_routes import ELSEWHERE, REACHING, STREAMED, flask_routes

pytestmark = [
    pytest.mark.compat,
    pytest.mark.skipif(mlflow_version() < (3, 17), reason="the lists are of MLflow 3.17 and later"),
]
NEW = "MLflow has a call that no list of tests/approvals/support/server_routes.py knows: "


def test_every_call_that_reaches_the_registry_or_files_is_listed() -> None:
    for route in flask_routes():
        listed = route.handler in REACHING
        assert listed or not route.reaches, f"{NEW}{route}"
        known = [
            p for p in ELSEWHERE if (route.path == p if p == "/" else route.path.startswith(p))
        ]
        assert listed or known, f"{NEW}{route}"


def test_every_call_that_writes_the_registry_is_attacked() -> None:
    """By its own verb and path, where its row is one of single calls."""
    attacked = {
        (attack.row, attack.ajax[0], f"/mlflow/{attack.ajax[1]}".partition("?")[0])
        for attack in ATTACKS
    }
    rows_of_calls = {row for row, _, _ in attacked}
    seen = set()
    for route in flask_routes():
        row = REACHING.get(route.handler)
        if isinstance(row, int) and row in rows_of_calls and route.verbs != {"GET"}:
            (verb,) = route.verbs
            assert (row, verb, route.path) in attacked, f"no attack is made by {route}"
            seen.add(route.handler)
    assert len(seen) >= 10  # the comparison found the calls that it is about


@pytest.mark.parametrize("row", sorted({row for row in REACHING.values() if isinstance(row, int)}))
def test_each_row_that_is_named_has_tests(row: int) -> None:
    assert row in ATTEMPTS
    assert any(cell(row, interface)[0] for interface in ("REST", "pages"))


@pytest.mark.filterwarnings("ignore:starlette.middleware.wsgi is deprecated")  # MLflow uses it
def test_every_path_of_fastapi_is_listed() -> None:
    from mlflow.server.fastapi_app import create_fastapi_app

    paths = create_fastapi_app().openapi()["paths"]
    assert any("mlflow-artifacts" in path for path in paths)
    unknown = [path for path in paths if not path.startswith(tuple(STREAMED))]
    assert unknown == [], NEW


def test_no_other_module_of_the_server_reaches_them() -> None:
    import mlflow.server

    folder = Path(str(mlflow.server.__file__)).parent
    words = re.compile(r"registry_store\b|get_artifact_repo|\blog_artifact|MlflowClient\b")
    mention = {
        path.relative_to(folder).with_suffix("").as_posix()
        for path in folder.rglob("*.py")
        if words.search(path.read_text(encoding="utf-8"))
    }
    assert mention <= server_routes.KNOWN_MODULES, NEW


def test_basic_auth_only_reads_the_registry() -> None:
    assert server_routes.registry_calls_of_auth() <= server_routes.READ_BY_AUTH, NEW


def test_graphql_changes_nothing() -> None:
    """Its mutations are searches that are sent by POST."""
    from mlflow.server.graphql.graphql_schema_extensions import schema

    mutations = schema.graphql_schema.mutation_type
    assert mutations is not None
    assert set(mutations.fields) <= {"testMutation", "mlflowSearchRuns", "mlflowSearchDatasets"}
