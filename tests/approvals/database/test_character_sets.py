"""Names and reasons in any script, in a database whose default is latin1."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from mlflow.exceptions import MlflowException

from mlflow_plugins_pack.approvals.background import unbacked_tags
from mlflow_plugins_pack.approvals.database.projection_tags import fit
from mlflow_plugins_pack.approvals.plugin import build_store
from mlflow_plugins_pack.approvals.reports import listings
from tests.support.acting import signed_in

POLICY = """
version: 1
groups: {leads: ["łukasz", "不二"]}
policies:
  - name: prod
    match: {models: ["gov-*"]}
    targets: {aliases: [prod]}
    approvals: [{group: leads, count: 2}]
"""


@pytest.fixture(params=["latin1", "utf8mb3", "utf8mb4"])
def store(request: Any, mariadb: Any, tmp_path: Path, monkeypatch: Any) -> Iterator[Any]:
    (tmp_path / "policy.yaml").write_text(POLICY, encoding="utf-8")
    monkeypatch.setenv("MLFLOW_PACK_APPROVALS_POLICY", str(tmp_path / "policy.yaml"))
    url = mariadb.new_database(f"CHARACTER SET {request.param}")
    found = build_store(f"approval-{url}")
    yield found
    found.engine.dispose()


def tag(key: str, value: str) -> Any:
    from mlflow.entities.model_registry import ModelVersionTag

    return ModelVersionTag(key, value)


def test_votes_and_reasons_in_any_script_are_kept(store: Any, tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "weights").write_text("w")

    def say(user: str, command: str, text: str) -> None:
        with signed_in(user):
            store.set_model_version_tag("gov-a", 1, tag(f"approvals.{command}", f"prod: {text}"))

    with signed_in("zoë"):
        store.create_registered_model("gov-a")
        store.create_model_version("gov-a", str(tmp_path / "files"))
    say("zoë", "request", "übernehmen 请审核 🚀")
    say("łukasz", "approve", "wygląda dobrze")
    say("不二", "approve", "合格 🚀")
    with signed_in("zoë"):
        store.set_registered_model_alias("gov-a", "prod", 1)
    with store.engine.connect() as connection:
        (request,) = listings.requests_in(connection, only_open=False)
        comments = {vote["approver"]: vote["comment"] for vote in request["votes"]}
    assert comments == {"łukasz": "wygląda dobrze", "不二": "合格 🚀"}
    assert (request["comment"], request["state"]) == ("übernehmen 请审核 🚀", "APPLIED")
    with signed_in("zoë"):
        shown = store.get_model_version("gov-a", 1).tags["mlflow_approvals.prod"]
    assert shown.startswith("APPLIED 2/2 (")
    # A true tag is not taken for a forged one because the column could not hold its letters.
    assert store._transactions.read(unbacked_tags.find) == []


def test_what_the_database_refuses_shows_no_sql(store: Any) -> None:
    def work(session: Any) -> None:
        session.execute(sa.text("SELECT secret_column FROM no_such_table WHERE x = 'hidden'"))

    for method in (store._transactions.write, store._transactions.read):
        with pytest.raises(MlflowException) as caught:
            method(work)
        for word in ("SELECT", "secret_column", "hidden", "sqlalche.me", "no_such_table"):
            assert word not in caught.value.message, caught.value.message
        assert "Nothing was changed" in caught.value.message


@pytest.mark.parametrize(
    ("charset", "text", "expected"),
    [
        (None, "ł 🚀", "ł 🚀"),
        ("utf8mb4", "ł 🚀", "ł 🚀"),
        ("utf8mb3", "ł 🚀", "ł \\ud83d\\ude80"),
        ("latin1", "ü ł 🚀", "ü \\u0142 \\ud83d\\ude80"),
        ("cp932", "a ü", "a \\u00fc"),
    ],
)
def test_what_a_column_cannot_hold_is_escaped(
    charset: str | None, text: str, expected: str
) -> None:
    assert fit(text, charset) == expected
    assert json.loads(f'"{fit(text, charset)}"') == text
