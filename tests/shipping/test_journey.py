"""Versions go from server to server with all that belongs to them, whatever interrupts it."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from mlflow_plugins_pack.errors import NotShippableError, StorageNotNamedError
from mlflow_plugins_pack.shipping import journey, record
from mlflow_plugins_pack.shipping.ends import End
from mlflow_plugins_pack.shipping.journey import Options, Shipped
from tests.shipping.support.versions import (
    STEPS,
    all_of,
    client_of,
    files_of,
    make_run,
    make_version,
    model_of,
    random_bytes,
    register,
    write_model,
)
from tests.support.servers import MlflowServer


def go(
    dev: MlflowServer,
    prod: MlflowServer,
    wanted: str,
    *storage: str,
    say: Any = lambda _: None,
    **options: Any,
) -> Shipped:
    source, target = End(dev.url, storage=storage), End(prod.url, storage=storage)
    return journey.ship(source, target, wanted, Options(**options), say)


def version_at(url: str, done: Shipped) -> Any:
    name, version = done.target.removeprefix("models:/").split("/")
    return client_of(url).get_model_version(name, version)


def test_a_version_arrives_whole(dev: MlflowServer, prod: MlflowServer, tmp_path: Path) -> None:
    version = make_version(dev.url, "fraud", tmp_path / "model")
    client_of(dev.url).set_registered_model_alias("fraud", "prod", version.version)
    done = go(dev, prod, "models:/fraud@prod")

    there, client = version_at(prod.url, done), client_of(prod.url)
    assert (there.description, there.tags["tests"]) == ("trained on Monday", "passed")
    registered = client.get_registered_model("fraud")
    assert (registered.description, registered.tags) == ("scores payments", {"owner": "fraud"})
    assert registered.aliases == {}

    run, before = client.get_run(there.run_id), client_of(dev.url).get_run(version.run_id)
    assert run.data.params == before.data.params
    assert {k: v for k, v in run.data.metrics.items() if k != "odd"} == {
        k: v for k, v in before.data.metrics.items() if k != "odd"
    }
    assert math.isnan(run.data.metrics["odd"])
    history = client.get_metric_history(there.run_id, "loss")
    assert sorted((m.step, m.timestamp, m.value) for m in history) == [
        (i, 1_700_000_000_000 + i, 1 / (1 + i)) for i in range(STEPS)
    ]
    assert (run.info.run_name, run.info.status, run.info.user_id) == (
        "the good one",
        "FINISHED",
        "erin",
    )
    assert (run.info.start_time, run.info.end_time) == (1_700_000_000_000, 1_700_000_009_000)
    assert (run.data.tags["team"], run.data.tags["lineage.digest"]) == ("fraud", "sha256:00")
    (used,) = run.inputs.dataset_inputs
    assert (used.dataset.name, used.tags[0].value) == ("measurements", "read")
    assert set(files_of(prod.url, run.info.artifact_uri, tmp_path / "run")) == {
        "lineage/lineage.json"
    }

    model = client.get_logged_model(model_of(there))
    assert (model.name, model.params, model.model_type) == ("model", {"depth": "3"}, "sklearn")
    assert model.tags["kind"] == "tree"
    assert str(model.status) == "READY"
    assert [(m.key, m.value, m.run_id) for m in model.metrics] == [("auc", 0.9, there.run_id)]
    assert [(o.model_id, o.step) for o in run.outputs.model_outputs] == [(model_of(there), 7)]

    here = files_of(prod.url, model.artifact_location, tmp_path / "there")
    at_source = client_of(dev.url).get_logged_model(model_of(version)).artifact_location
    assert here == files_of(dev.url, at_source, tmp_path / "here")
    assert len(here) == 3


def test_what_stays_behind_is_said(dev: MlflowServer, prod: MlflowServer, tmp_path: Path) -> None:
    make_version(dev.url, "said", tmp_path / "model")
    done = go(dev, prod, "models:/said/1")
    assert done.left.lines == [
        "1 folders and files of the run (--run-artifacts)",
        "1 link to the run's parent",
    ]


def test_both_ends_lead_to_each_other(
    dev: MlflowServer, prod: MlflowServer, tmp_path: Path
) -> None:
    version = make_version(dev.url, "linked", tmp_path / "model")
    done = go(dev, prod, "models:/linked/1")
    back = client_of(dev.url).get_model_version("linked", "1").tags
    (there,) = [json.loads(v) for k, v in back.items() if k.startswith(record.TO_PREFIX)]
    assert there == {"server": prod.url, "version": done.target, "digest": done.digest}
    origin = json.loads(version_at(prod.url, done).tags[record.FROM_TAG])
    assert origin.pop("shipped_at") > 1_700_000_000_000
    assert origin == {
        "server": dev.url,
        "version": "models:/linked/1",
        "run_id": version.run_id,
        "model_id": model_of(version),
        "digest": done.digest,
    }


def test_the_second_time_nothing_is_done(
    dev: MlflowServer, prod: MlflowServer, tmp_path: Path
) -> None:
    make_version(dev.url, "twice", tmp_path / "model")
    first = go(dev, prod, "models:/twice/1")
    before, steps = all_of(prod.url), []
    second = go(dev, prod, "models:/twice/1", say=steps.append)
    assert (second.is_new, second.target, second.digest) == (False, first.target, first.digest)
    assert all_of(prod.url) == before
    assert steps == ["reading the version", "looking for it at the target"]


class KilledError(BaseException):
    pass


def test_killed_before_every_step_it_completes(
    dev: MlflowServer, prod: MlflowServer, tmp_path: Path
) -> None:
    make_version(dev.url, "resumed", tmp_path / "model")
    before, step = all_of(prod.url), 0
    while True:
        step += 1
        left = step

        def say(_: str) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                raise KilledError

        try:
            done = go(dev, prod, "models:/resumed/1", say=say)
        except KilledError:
            continue
        break
    assert step > 10
    after = all_of(prod.url)
    assert {key: after[key] - before[key] for key in after} == {
        "experiments": 0,
        "runs": 1,
        "models": 1,
        "versions": 1,
    }
    run = client_of(prod.url).get_run(version_at(prod.url, done).run_id)
    assert len(run.outputs.model_outputs) == 1
    assert len(run.inputs.dataset_inputs) == 1
    assert len(client_of(prod.url).get_metric_history(run.info.run_id, "loss")) == STEPS


def test_two_versions_of_one_run_share_it(
    dev: MlflowServer, prod: MlflowServer, tmp_path: Path
) -> None:
    version = make_version(dev.url, "shared", tmp_path / "model")
    client_of(dev.url).create_model_version(
        "shared", version.source, version.run_id, model_id=model_of(version)
    )
    first, second = go(dev, prod, "models:/shared/1"), go(dev, prod, "models:/shared/2")
    assert first.target != second.target
    one, two = version_at(prod.url, first), version_at(prod.url, second)
    assert (one.run_id, one.source) == (two.run_id, two.source)


def test_a_model_of_run_artifacts_keeps_its_place(
    dev: MlflowServer, prod: MlflowServer, tmp_path: Path
) -> None:
    client = client_of(dev.url)
    run_id = make_run(client, client.create_experiment("old"))
    client.log_artifacts(run_id, str(write_model(tmp_path / "model")), "the/model")
    register(client, "old")
    root = client.get_run(run_id).info.artifact_uri
    client.create_model_version("old", f"{root}/the/model", run_id)
    done = go(dev, prod, "models:/old/1", name="old-there", experiment="from dev")
    there = version_at(prod.url, done)
    assert there.name == "old-there"
    run = client_of(prod.url).get_run(there.run_id)
    assert there.source == f"{run.info.artifact_uri}/the/model"
    assert client_of(prod.url).get_experiment(run.info.experiment_id).name == "from dev"
    files = files_of(prod.url, there.source, tmp_path / "there")
    assert files == files_of(dev.url, f"{root}/the/model", tmp_path / "here")


def test_all_artifacts_of_the_run_go_along_if_asked(
    dev: MlflowServer, prod: MlflowServer, tmp_path: Path
) -> None:
    make_version(dev.url, "full", tmp_path / "model")
    done = go(dev, prod, "models:/full/1", with_run_artifacts=True)
    run = client_of(prod.url).get_run(version_at(prod.url, done).run_id)
    assert set(files_of(prod.url, run.info.artifact_uri, tmp_path / "run")) == {
        "lineage/lineage.json",
        "checkpoints/1.txt",
    }
    assert done.left.lines == ["1 link to the run's parent"]


def test_between_stores_only_new_chunks_are_moved(
    dev: MlflowServer, prod: MlflowServer, tmp_path: Path
) -> None:
    roots = [f"cas-file://{tmp_path}/{name}" for name in ("dev-store", "prod-store")]
    for server, root in zip((dev, prod), roots, strict=True):
        client_of(server.url).create_experiment("direct", f"{root}/1")
    base = random_bytes(20 * 2**20, 3)
    make_version(dev.url, "direct", tmp_path / "a", experiment="direct", large=base)
    first = go(dev, prod, "models:/direct/1", *roots)
    assert first.moved.moved_bytes >= len(base)
    changed = base[:5_000_000] + random_bytes(100_000, 4) + base[5_100_000:]
    make_version(dev.url, "direct", tmp_path / "b", experiment="direct", large=changed)
    second = go(dev, prod, "models:/direct/2", *roots)
    assert second.moved.bytes >= len(base)
    assert second.moved.moved_bytes < 0.05 * second.moved.bytes
    there = version_at(prod.url, second)
    location = client_of(prod.url).get_logged_model(model_of(there)).artifact_location
    files = files_of(prod.url, location, tmp_path / "there")
    assert files["data/weights.bin"] == changed


def test_storage_that_no_person_named_is_not_opened(
    dev: MlflowServer, prod: MlflowServer, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "key").write_text("private")
    client_of(dev.url).create_experiment("hostile", f"cas-file://{secret}")
    make_version(dev.url, "hostile", tmp_path / "a", experiment="hostile")
    before = all_of(prod.url)
    with pytest.raises(StorageNotNamedError, match="--storage"):
        go(dev, prod, "models:/hostile/1", f"cas-file://{tmp_path}/secre")
    assert all_of(prod.url) == before


def test_a_prompt_is_refused(dev: MlflowServer, prod: MlflowServer) -> None:
    client_of(dev.url).register_prompt("greeting", "Hello {{name}}")
    with pytest.raises(NotShippableError, match="prompt"):
        go(dev, prod, "models:/greeting/1")


def test_a_prompt_at_the_target_is_left_alone(
    dev: MlflowServer, prod: MlflowServer, tmp_path: Path
) -> None:
    make_version(dev.url, "taken", tmp_path / "model")
    client_of(prod.url).register_prompt("taken", "Hello")
    with pytest.raises(NotShippableError, match="--as"):
        go(dev, prod, "models:/taken/1")
    done = go(dev, prod, "models:/taken/1", name="free")
    assert done.target == "models:/free/1"
