"""Names that a database takes for a protected one, and calls that race with what they are about."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow.entities.model_registry import ModelVersionTag, RegisteredModelTag
from mlflow.exceptions import MlflowException
from mlflow.prompt.constants import IS_PROMPT_TAG_KEY, PROMPT_TEXT_TAG_KEY

from mlflow_plugins_pack import errors
from tests.approvals.support.bench import Bench
from tests.approvals.support.databases import new_like_mysql
from tests.support import templates
from tests.support.acting import signed_in

POLICY = """
version: 1
groups: {leads: [bob], writers: [wendy]}
policies:
  - name: prod
    match: {models: ["gov-*"]}
    targets: {aliases: [prod], stages: [Production]}
    approvals: [{group: leads}]
    consume: {principals: [svc-web], require: approved}
  - name: words
    match: {prompts: ["say-*"]}
    targets: {aliases: [prod]}
    approvals: [{group: leads}]
  - name: any-words
    match: {prompts: ["gov-both"]}
    targets: {aliases: [prod], stages: [Production]}
    approvals: [{group: writers}]
"""


_numbers = itertools.count(1)


class LookalikeBench(Bench):
    def aliases(self, name: str) -> dict[str, int]:
        found = self.store.get_registered_model(name).aliases
        return {alias: int(version) for alias, version in found.items()}


@contextlib.contextmanager
def bench_on(url: str, folder: Path) -> Iterator[LookalikeBench]:
    (folder / "policy.yaml").write_text(POLICY)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_PACK_APPROVALS_POLICY", str(folder / "policy.yaml"))
        bench = LookalikeBench(url, folder)
        yield bench
        bench.close()


@pytest.fixture(scope="module")
def like_mysql(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LookalikeBench]:
    """A database that ignores case, accents, what is invisible, and more."""
    url = new_like_mysql(request.getfixturevalue("mariadb"))
    with bench_on(url, tmp_path_factory.mktemp("lookalikes")) as bench:
        yield bench


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[LookalikeBench]:
    with bench_on(templates.sqlite_with_tables(tmp_path / "mlflow.db"), tmp_path) as bench:
        yield bench


def refused(kind: type[errors.ApprovalError], call: Callable[[], Any], user: str = "erin") -> str:
    with signed_in(user), pytest.raises(kind) as caught:
        call()
    return str(caught.value.message)


# A control character, one that joins letters, a soft hyphen, a digit of another script.
MODELS = ["gov\x01-a1", "gov\u200d-a1", "g\u00adov-a1", "gov-a\u0661", "GOV-A1", "gov-a1 "]


@pytest.mark.parametrize("name", MODELS)
def test_a_model_is_governed_however_its_name_is_written(
    like_mysql: LookalikeBench, name: str
) -> None:
    bench, real = like_mysql, "gov-a1"
    if not bench.store.search_registered_models(f"name = '{real}'"):
        bench.promoted(real)
        bench.version(real)
    store = bench.store
    for kind, call in (
        (errors.ApprovalRequiredError, lambda: store.set_registered_model_alias(name, "prod", 2)),
        (errors.ApprovalRequiredError, lambda: store.delete_registered_model_alias(name, "prod")),
        (
            errors.ApprovalRequiredError,
            lambda: store.transition_model_version_stage(name, 2, "Production", False),
        ),
        (errors.ProtectedDeleteError, lambda: store.delete_model_version(name, 1)),
        (errors.ProtectedDeleteError, lambda: store.delete_registered_model(name)),
        (errors.ProtectedRenameError, lambda: store.rename_registered_model(name, "free")),
    ):
        refused(kind, call)
    refused(errors.ApprovalRequiredError, lambda: store.get_model_version(name, 2), "svc-web")
    assert bench.aliases(real) == {"prod": 1}
    assert bench.findings() == []


# Letters that this order takes for those of "prod", and no Unicode form does.
@pytest.mark.parametrize("alias", ["PROD", "pró\u0064", "pro\ua77a", "p\ua783od", "pro\u0640d"])
def test_a_protected_alias_is_not_deleted_as_another(
    like_mysql: LookalikeBench, alias: str
) -> None:
    bench = like_mysql
    name = f"gov-alias-{next(_numbers)}"
    version = bench.promoted(name)
    refused(
        errors.ApprovalRequiredError,
        lambda: bench.store.delete_registered_model_alias(name, alias),
    )
    assert bench.aliases(name) == {"prod": version}
    # It is the protected alias that was asked about.
    bench.say("bob", "approve", version, name=name)
    with signed_in("erin"):
        bench.store.delete_registered_model_alias(name, alias)
    assert bench.aliases(name) == {}
    assert [finding for finding in bench.findings() if finding.model == name] == []


def test_other_aliases_with_other_letters_can_be_deleted(like_mysql: LookalikeBench) -> None:
    name = f"gov-free-{next(_numbers)}"
    version = like_mysql.version(name)
    like_mysql.run(
        "INSERT INTO registered_model_aliases (workspace, name, alias, version) "
        "VALUES ('default', :n, 'bühne', :v)",
        n=name,
        v=version,
    )
    with signed_in("erin"):
        like_mysql.store.delete_registered_model_alias(name, "bühne")
        like_mysql.store.delete_registered_model_alias(name, "käse")  # it does not exist
    assert like_mysql.aliases(name) == {}


def test_a_lookalike_from_before_the_policy_can_be_taken_away(sqlite: LookalikeBench) -> None:
    version = sqlite.version("gov-a")
    sqlite.run(
        "INSERT INTO registered_model_aliases (workspace, name, alias, version) "
        "VALUES ('default', 'gov-a', 'Prod', :v)",
        v=version,
    )
    delete = lambda: sqlite.store.delete_registered_model_alias("gov-a", "Prod")  # noqa: E731
    refused(errors.ApprovalRequiredError, delete)
    sqlite.say("bob", "approve", version, "Prod: away with it")
    with signed_in("erin"):
        delete()
    assert sqlite.aliases("gov-a") == {}


# --- races ------------------------------------------------------------------------------------


def before_the_write(
    bench: LookalikeBench, monkeypatch: pytest.MonkeyPatch, meanwhile: Callable[[], None]
) -> None:
    """Let something happen once between a call's first look and its write."""
    enforcer, real = bench.store.enforcer, bench.store.enforcer.transactions.read
    looked = itertools.count()

    def read(work: Any) -> Any:
        found = real(work)
        if next(looked) == 0:
            meanwhile()
        return found

    monkeypatch.setattr(enforcer.transactions, "read", read)


def test_a_version_that_comes_while_its_alias_is_set(
    sqlite: LookalikeBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    sqlite.version("gov-a")
    for call in (
        lambda: sqlite.store.set_registered_model_alias("gov-a", "prod", 2),
        lambda: sqlite.store.transition_model_version_stage("gov-a", 3, "Production", False),
    ):
        with monkeypatch.context() as patch:
            before_the_write(sqlite, patch, lambda: sqlite.version("gov-a") and None)
            refused(errors.ApprovalRequiredError, call)
    assert sqlite.aliases("gov-a") == {}
    assert sqlite.findings() == []


def test_a_version_that_never_comes_is_not_there(sqlite: LookalikeBench) -> None:
    sqlite.version("gov-a")
    for call in (
        lambda: sqlite.store.set_registered_model_alias("gov-a", "prod", 9),
        lambda: sqlite.store.transition_model_version_stage("gov-a", 9, "Production", False),
        lambda: sqlite.store.set_registered_model_alias("gov-none", "prod", 1),
    ):
        with signed_in("erin"), pytest.raises(MlflowException, match="not found") as caught:
            call()
        assert caught.value.error_code == "RESOURCE_DOES_NOT_EXIST"


def test_a_model_that_becomes_a_prompt_while_its_alias_is_set(
    sqlite: LookalikeBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only prompts of that name are governed, and it was a model at the first look."""
    sqlite.version("say-a")

    def made_anew() -> None:
        with signed_in("alice"):
            sqlite.store.delete_registered_model("say-a")
            flag = RegisteredModelTag(IS_PROMPT_TAG_KEY, "true")
            sqlite.store.create_registered_model("say-a", [flag])
            text = ModelVersionTag(PROMPT_TEXT_TAG_KEY, "evil words")
            sqlite.store.create_model_version("say-a", "dummy-source", tags=[text])

    before_the_write(sqlite, monkeypatch, made_anew)
    refused(
        errors.ApprovalRequiredError,
        lambda: sqlite.store.set_registered_model_alias("say-a", "prod", 1),
    )
    assert sqlite.aliases("say-a") == {}


def test_what_is_a_prompt_and_a_model_needs_the_approval_of_both(sqlite: LookalikeBench) -> None:
    """Flagged as a prompt, with the files of a model: neither policy may be passed by."""
    with signed_in("alice"):
        flag = RegisteredModelTag(IS_PROMPT_TAG_KEY, "true")
        sqlite.store.create_registered_model("gov-both", [flag])
    version = sqlite.version("gov-both")

    def promote() -> None:
        sqlite.store.set_registered_model_alias("gov-both", "prod", version)

    for voter in ("wendy", "bob"):
        refused(errors.ApprovalRequiredError, promote)
        refused(
            errors.ApprovalRequiredError,
            lambda: sqlite.store.transition_model_version_stage(
                "gov-both", str(version), "Production", False
            ),
        )
        assert sqlite.aliases("gov-both") == {}
        sqlite.say(voter, "approve", version, name="gov-both")
    with signed_in("erin"):
        promote()
    assert sqlite.aliases("gov-both") == {"prod": version}
