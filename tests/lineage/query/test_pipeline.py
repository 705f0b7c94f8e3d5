"""A pipeline of 30 runs, and the three questions that people ask about one.

Ten times: prepare the raw file, train on the result and register the model, score with it. After
the fifth time the raw file is replaced. Most preparations have the same result as others.
"""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest
from click.testing import CliRunner, Result

from mlflow_plugins_pack.cli.lineage.group import lineage
from mlflow_plugins_pack.lineage.document import network
from mlflow_plugins_pack.lineage.query import api
from tests.lineage.support.scripts import RunScript, run_in
from tests.support import servers

ROUNDS = 10
SECONDS = 5
T = TypeVar("T")

SCRIPT = """
    import json, os, mlflow, numpy
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, ColSpec

    class Line(mlflow.pyfunc.PythonModel):
        def load_context(self, context):
            self.factor = json.load(open(context.artifacts["weights"]))["factor"]
        def predict(self, context, model_input, params=None):
            return model_input * self.factor

    signature = ModelSignature(Schema([ColSpec("double", "x")]), Schema([ColSpec("double")]))
    client = mlflow.MlflowClient()

    def prepare(number):
        with mlflow.start_run(run_name="prepare") as run:
            mlflow.log_param("threshold", 0 if number < 8 else 1)
            rows = open("raw.csv").read().split()
            kept = [row for row in rows if float(row) > (0 if number < 8 else 1)]
            open("clean.csv", "w").write("\\n".join(kept))
        return run.info.run_id

    def train(number):
        with mlflow.start_run(run_name="train") as run:
            mlflow.log_param("alpha", number)
            rows = [float(row) for row in open("clean.csv").read().split()]
            json.dump({"factor": sum(rows) + number}, open("weights.json", "w"))
            mlflow.log_metric("loss", 1 / number)
            mlflow.pyfunc.log_model(
                name="line", python_model=Line(), artifacts={"weights": "weights.json"},
                signature=signature, pip_requirements=[], registered_model_name="pipeline")
        client.set_registered_model_alias("pipeline", "prod", number)
        return run.info.run_id

    def score(number):
        with mlflow.start_run(run_name="score") as run:
            model = mlflow.pyfunc.load_model("models:/pipeline@prod")
            rows = [float(row) for row in open("clean.csv").read().split()]
            found = model.predict({"x": numpy.array(rows)})
            open(f"scores-{number}.csv", "w").write(str(found))
        return run.info.run_id

    numbers = range(*map(int, os.environ["ROUNDS"].split()))
    print(json.dumps([[prepare(number), train(number), score(number)] for number in numbers]))
"""


@dataclass
class Pipeline:
    """The runs of each round: prepare, train, score."""

    url: str
    folder: Path
    rounds: list[list[str]]

    @property
    def raw(self) -> str:
        return str(self.folder / "raw.csv")


@pytest.fixture(scope="module")
def pipeline(server: servers.MlflowServer, tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    folder = tmp_path_factory.mktemp("pipeline")
    run_script: RunScript = functools.partial(run_in, folder)
    rounds = []
    for first, end, rows in ((1, 6, "1\n2\n3\n"), (6, 11, "1\n2\n3\n4\n")):
        (folder / "raw.csv").write_text(rows)
        rounds += run_script(SCRIPT, server.url, warns=True, ROUNDS=f"{first} {end}").value
    return Pipeline(server.url, folder, rounds)


def in_time(ask: Callable[[], T]) -> T:
    """Ask at most three times: once it has to be quick, whatever else the machine does."""
    taken = []
    while not taken or (taken[-1] >= SECONDS and len(taken) < 3):
        began = time.monotonic()
        answer = ask()
        taken.append(time.monotonic() - began)
    assert min(taken) < SECONDS, taken
    return answer


def invoke(pipeline: Pipeline, *arguments: str) -> Result:
    return CliRunner().invoke(lineage, [*arguments, "--tracking-uri", pipeline.url])


def names(answer: network.Network, kind: str) -> list[str]:
    return sorted(node.label for node in answer.of_kind(kind))


def test_what_was_prod_trained_on_back_to_raw(pipeline: Pipeline) -> None:
    found = in_time(lambda: api.upstream("models:/pipeline@prod", tracking_uri=pipeline.url))
    prepare, train, _ = pipeline.rounds[-1]
    assert {node.key for node in found.of_kind(network.RUN)} == {prepare, train}
    assert names(found, network.DATA) == ["clean.csv", "raw.csv"]
    raw = next(node for node in found.of_kind(network.DATA) if node.label == "raw.csv")
    assert raw.size == len("1\n2\n3\n4\n")
    assert raw.digest
    assert raw.time
    assert not found.notes


def test_upstream_has_nothing_that_happened_later(pipeline: Pipeline) -> None:
    """All rounds before the raw file was replaced prepared the same bytes."""
    for number in (1, 3):
        prepare, train, _ = pipeline.rounds[number]
        found = api.upstream(train, tracking_uri=pipeline.url)
        assert {node.key for node in found.of_kind(network.RUN)} == {prepare, train}


def test_which_models_are_affected_by_raw_also_after_it_was_replaced(pipeline: Pipeline) -> None:
    found = in_time(lambda: api.affected(pipeline.raw, tracking_uri=pipeline.url))
    versions = [f"models:/pipeline/{number}" for number in range(ROUNDS, 0, -1)]
    assert [model.uri for model in found.models] == versions
    assert found.models[0].aliases == ("prod",)
    assert found.models[0].through == tuple(pipeline.rounds[-1][:2])
    earlier = {model.uri for model in found.models if model.differs}
    assert earlier == set(versions[5:])
    assert found.summary == "10 versions, 1 of them @prod"
    assert any("another content now" in note for note in found.notes)
    result = invoke(pipeline, "affected", pipeline.raw)
    assert "10 versions, 1 of them @prod" in result.output
    assert "models:/pipeline/1 " in result.output


def test_who_read_a_file_that_has_another_content_now(pipeline: Pipeline) -> None:
    found = in_time(lambda: api.used_by(pipeline.raw, tracking_uri=pipeline.url))
    assert [use.run for use in found.uses] == [runs[0] for runs in reversed(pipeline.rounds)]
    assert [use.differs for use in found.uses] == [False] * 5 + [True] * 5
    assert {use.size for use in found.uses} == {6, 8}
    assert "the content differs now" in invoke(pipeline, "used-by", pipeline.raw).output


def test_what_changed_between_two_versions_and_upstream_of_them(pipeline: Pipeline) -> None:
    found = in_time(
        lambda: api.diff("models:/pipeline/5", "pipeline@prod", tracking_uri=pipeline.url)
    )
    train, prepare = found.steps
    assert train.difference.parameters == {"alpha": ("5", "10")}
    assert train.difference.metrics == {"loss": (0.2, 0.1)}
    assert [Path(after.uri).name for _, after in train.difference.changed] == ["clean.csv"]
    assert prepare.made == str(pipeline.folder / "clean.csv")
    assert (prepare.difference.first.run_id, prepare.difference.second.run_id) == (
        pipeline.rounds[4][0],
        pipeline.rounds[9][0],
    )
    assert prepare.difference.parameters == {"threshold": ("0", "1")}
    assert [Path(after.uri).name for _, after in prepare.difference.changed] == ["raw.csv"]
    result = invoke(pipeline, "diff", "models:/pipeline/5", "models:/pipeline@prod")
    assert result.exit_code == 1
    assert "clean.csv was made by prepare" in result.output
    assert "parameter threshold: 0 -> 1" in result.output
    assert "Different in 2 pairs of runs" in result.output


def test_what_is_printed_can_be_asked_about(pipeline: Pipeline) -> None:
    """Each target is one that an answer printed, and each answer has the runs of the last round."""
    prepare, train, _ = pipeline.rounds[-1]
    shown = json.loads(invoke(pipeline, "show", train, "--json").stdout)
    clean = next(entry for entry in shown["inputs"] if entry["u"].endswith("clean.csv"))
    listed = json.loads(invoke(pipeline, "upstream", "pipeline@prod", "--json").stdout)
    keys = [node["key"] for node in listed["nodes"]]
    assert {"models:/pipeline/10", "models:/pipeline@prod", prepare, train} <= set(keys)
    (data_key,) = [key for key in keys if "clean.csv#" in key]
    for target in (clean["h"], clean["h"][:23], clean["h"][7:23], data_key):
        users: Any = api.used_by(target, tracking_uri=pipeline.url)
        assert train in {use.run for use in users.uses}, target
    for target in (train, f"runs:/{train}", "models:/pipeline/10", "pipeline@prod"):
        assert api.run_lineage(target, tracking_uri=pipeline.url).run_id == train
        assert invoke(pipeline, "verify", target).exit_code in (0, 1)
    folder = api.used_by(str(pipeline.folder), tracking_uri=pipeline.url)
    assert {runs[0] for runs in pipeline.rounds} <= {use.run for use in folder.uses}
    (model,) = [key for key in keys if key.startswith("models:/m-")]
    upstream = api.upstream(model.removeprefix("models:/"), tracking_uri=pipeline.url)
    assert prepare in upstream.nodes


def test_page_tells_what_a_person_must_know(pipeline: Pipeline, tmp_path: Path) -> None:
    out = tmp_path / "page.html"
    result = invoke(pipeline, "export", "pipeline@prod", "--format", "html", "--out", str(out))
    assert result.exit_code == 0, result.output
    page = out.read_text()
    assert page.count('rect class="alias target"') == 1
    train = pipeline.rounds[-1][1]
    assert f'href="{pipeline.url}/#/experiments/0/runs/{train}"' in page
    assert f'href="{pipeline.url}/#/models/pipeline/versions/10"' in page
    assert "Made on 20" in page
    assert pipeline.url in page
