"""The questions people ask, over a chain of real programs: prepare, train, register, use again."""

from __future__ import annotations

import functools
import json
import os
import xml.dom.minidom
from dataclasses import dataclass
from pathlib import Path

import mlflow
import pytest
from click.testing import CliRunner, Result

from mlflow_plugins_pack.cli.lineage.group import lineage
from mlflow_plugins_pack.errors import LineageTargetError
from mlflow_plugins_pack.lineage.document import network
from mlflow_plugins_pack.lineage.export import FORMATS
from mlflow_plugins_pack.lineage.query import api
from tests.lineage.support.reading import RunRecord
from tests.lineage.support.scripts import RunScript, run_in
from tests.support import servers


@dataclass
class Chain:
    """The runs of the story, and its folder."""

    url: str
    folder: Path
    prepare: str
    train: str
    score: str
    unrelated: str


@pytest.fixture(scope="module")
def chain(
    server: servers.MlflowServer,
    dataset_folder: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Chain:
    folder = tmp_path_factory.mktemp("chain")
    run_script: RunScript = functools.partial(run_in, folder, DATA=str(dataset_folder))
    (folder / "raw.csv").write_bytes((dataset_folder / "cancer.csv").read_bytes())

    def run(code: str) -> str:
        return str(run_script(code, server.url).value)

    prepare = run(
        """
        import json, mlflow, pandas
        with mlflow.start_run(run_name="prepare") as run:
            pandas.read_csv("raw.csv").assign(part=1).to_parquet("clean.parquet")
            mlflow.log_artifact("clean.parquet")
        print(json.dumps(run.info.run_id))
        """
    )
    train = run(
        """
        import json, mlflow, pandas
        from sklearn.linear_model import LinearRegression
        with mlflow.start_run(run_name="train") as run:
            frame = pandas.read_parquet("clean.parquet")
            model = LinearRegression().fit(frame[["mean radius"]], frame["target"])
            info = mlflow.sklearn.log_model(model, name="line")
        mlflow.register_model(info.model_uri, "chain")
        mlflow.MlflowClient().set_registered_model_alias("chain", "prod", 1)
        print(json.dumps(run.info.run_id))
        """
    )
    score = run(
        f"""
        import json, mlflow, pandas
        with mlflow.start_run(run_name="score") as run:
            model = mlflow.pyfunc.load_model("models:/chain@prod")
            path = mlflow.artifacts.download_artifacts("runs:/{prepare}/clean.parquet")
            frame = pandas.read_parquet(path)
            frame["score"] = model.predict(frame[["mean radius"]])
            frame[["score"]].to_csv("scores.csv")
        print(json.dumps(run.info.run_id))
        """
    )
    unrelated = run(
        """
        import json, mlflow, os
        with mlflow.start_run(run_name="unrelated") as run:
            open(os.environ["DATA"] + "/settings.yaml").read()
        print(json.dumps(run.info.run_id))
        """
    )
    return Chain(server.url, folder, prepare, train, score, unrelated)


def invoke(chain: Chain, *arguments: str) -> Result:
    return CliRunner().invoke(lineage, [*arguments, "--tracking-uri", chain.url])


def test_upstream_runs_and_models_stand_in_the_tags(chain: Chain) -> None:
    tags = RunRecord(chain.url, chain.score).tags
    assert json.loads(tags["upstream.runs"]) == [chain.prepare]
    assert json.loads(tags["upstream.models"]) == ["models:/chain/1"]


def test_a_run_that_loads_its_own_model_is_not_its_own_upstream(chain: Chain) -> None:
    tags = RunRecord(chain.url, chain.train).tags
    assert "upstream.runs" not in tags
    assert "upstream.models" not in tags


def test_version_that_is_registered_later_carries_the_lineage_of_its_run(chain: Chain) -> None:
    version = mlflow.MlflowClient(chain.url).get_model_version("chain", "1")
    run = RunRecord(chain.url, chain.train)
    assert version.tags["lineage.digest"] == run.tags["digest"]
    assert json.loads(version.tags["lineage.inputs"]) == json.loads(run.tags["inputs"])
    # Nothing more: its page in the stock UI is the reviewer's.
    given = {key for key in version.tags if key.startswith("lineage.")}
    assert given == {"lineage.inputs", "lineage.digest"}


def test_upstream_of_an_alias_reaches_the_raw_file(chain: Chain) -> None:
    found = api.upstream("models:/chain@prod", tracking_uri=chain.url)
    runs = {node.key for node in found.of_kind(network.RUN)}
    assert runs == {chain.train, chain.prepare}
    files = {node.label for node in found.of_kind(network.DATA)}
    assert files == {"raw.csv", "clean.parquet"}
    assert not found.notes


def test_downstream_of_the_raw_file_reaches_the_alias_and_the_scores(chain: Chain) -> None:
    found = api.downstream(str(chain.folder / "raw.csv"), tracking_uri=chain.url)
    assert {chain.prepare, chain.train, chain.score} <= {
        node.key for node in found.of_kind(network.RUN)
    }
    assert chain.unrelated not in found.nodes
    assert "models:/chain/1" in found.nodes
    assert "models:/chain@prod" in found.nodes
    assert "scores.csv" in {node.label for node in found.of_kind(network.DATA)}


def test_used_by_a_file_wherever_its_bytes_lay(chain: Chain, tmp_path: Path) -> None:
    copy = tmp_path / "other name.csv"
    copy.write_bytes((chain.folder / "clean.parquet").read_bytes())
    uses = api.used_by(str(copy), tracking_uri=chain.url).uses
    assert [use.run for use in uses] == [chain.score, chain.train]
    assert {"models:/chain/1", "models:/chain@prod"} <= set(uses[1].models)
    assert not uses[1].differs
    result = invoke(chain, "used-by", str(copy))
    assert result.exit_code == 0, result.output
    assert chain.train[:20] in result.output


@pytest.mark.parametrize("form", ["uri", "digest", "short digest"])
def test_used_by_by_uri_and_digest(chain: Chain, form: str) -> None:
    entry = RunRecord(chain.url, chain.prepare).entries()["raw.csv"]
    target = {"uri": entry["u"], "digest": entry["h"], "short digest": entry["h"][7:23]}[form]
    uses = api.used_by(target, tracking_uri=chain.url).uses
    assert chain.prepare in [use.run for use in uses]


def test_what_no_run_used(chain: Chain, tmp_path: Path) -> None:
    (tmp_path / "new.csv").write_text("never read")
    assert not api.used_by(str(tmp_path / "new.csv"), tracking_uri=chain.url).uses
    assert not api.used_by("s3://bucket/it's%20not.csv", tracking_uri=chain.url).uses
    assert "No run read it." in invoke(chain, "used-by", str(tmp_path / "new.csv")).output


def test_wrong_targets_are_explained(chain: Chain) -> None:
    with pytest.raises(LineageTargetError, match="used-by"):
        api.run_lineage(str(chain.folder / "raw.csv"), tracking_uri=chain.url)
    absent = invoke(chain, "used-by", "absent.csv").output
    assert "does not exist here" in absent
    assert "No run read it." in absent


@pytest.mark.parametrize("target", ["models:/chain/1", "chain@prod", "train", "prepare"])
def test_who_used_a_model_or_the_results_of_a_run(chain: Chain, target: str) -> None:
    named = {"train": chain.train, "prepare": chain.prepare}.get(target, target)
    runs = [use.run for use in api.used_by(named, tracking_uri=chain.url).uses]
    assert runs == ([chain.score, chain.train] if target == "prepare" else [chain.score])


def test_file_that_is_gone_is_known_by_its_place(chain: Chain) -> None:
    raw = chain.folder / "raw.csv"
    content = raw.read_bytes()
    raw.unlink()
    try:
        found = api.used_by(str(raw), tracking_uri=chain.url)
    finally:
        raw.write_bytes(content)
    assert [use.run for use in found.uses] == [chain.prepare]
    assert "does not exist here" in found.notes[0]


def test_diff(chain: Chain) -> None:
    same = api.diff(chain.train, chain.train, tracking_uri=chain.url)
    assert same.difference.same_data
    assert not same
    other = invoke(chain, "diff", chain.prepare, chain.train, "--json")
    assert other.exit_code == 1
    document = json.loads(other.stdout)
    assert not document["same_data"]
    assert [Path(e["u"]).name for e in document["only_first"]] == ["raw.csv"]
    assert [Path(e["u"]).name for e in document["only_second"]] == ["clean.parquet"]


def test_verify_tells_what_changed(chain: Chain) -> None:
    assert invoke(chain, "verify", chain.prepare).exit_code == 0
    raw = chain.folder / "raw.csv"
    before, state = raw.read_bytes(), raw.stat()
    try:
        # The same size and time: only the digest can tell.
        raw.write_bytes(bytes([before[0] ^ 1]) + before[1:])
        os.utime(raw, ns=(state.st_atime_ns, state.st_mtime_ns))
        result = invoke(chain, "verify", chain.prepare, "--json")
        assert result.exit_code == 1
        (check,) = json.loads(result.stdout)
        assert check["result"] == "changed"
        raw.unlink()
        assert json.loads(invoke(chain, "verify", chain.prepare, "--json").stdout)[0]["result"] == (
            "missing"
        )
    finally:
        raw.write_bytes(before)


@pytest.mark.parametrize("form", FORMATS)
def test_export(chain: Chain, form: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = invoke(chain, "export", chain.train, "--format", form, "--out", str(out))
    assert result.exit_code == 0, result.output
    text = out.read_text()
    if form == "openlineage":
        event = json.loads(text)
        assert event["eventType"] == "COMPLETE"
        assert event["run"]["runId"].replace("-", "") == chain.train
        (data,) = event["inputs"]
        assert (data["namespace"], data["name"]) == ("file", str(chain.folder / "clean.parquet"))
    elif form == "prov":
        prov = pytest.importorskip("prov.model")
        document = prov.ProvDocument.deserialize(content=text, format="json")
        assert {record.label for record in document.get_records(prov.ProvActivity)} >= {
            "prepare",
            "train",
        }
    elif form == "html":
        body = text.partition("\n")[2].replace('<meta charset="utf-8">', "")
        assert "<script" not in text
        assert "http://www.w3.org/2000/svg" in text
        xml.dom.minidom.parseString(body[body.index("<svg") : body.index("</svg>") + 6])
        assert "chain@prod" in text
    else:
        assert "prepare" in text
        assert "raw.csv" in text


def test_runs_are_found_by_digest_in_stock_search(chain: Chain) -> None:
    digest = RunRecord(chain.url, chain.train).datasets()["clean.parquet"]
    client = mlflow.MlflowClient(chain.url)
    found = client.search_runs(["0"], f"dataset.digest = '{digest}'")
    assert {chain.train, chain.score} == {run.info.run_id for run in found}
