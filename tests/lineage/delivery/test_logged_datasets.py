"""Datasets that a person logs are part of the record, and MLflow loads recorded ones again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mlflow_plugins_pack.errors import LineageSourceError
from mlflow_plugins_pack.lineage.dataset_source import RecordedSource
from mlflow_plugins_pack.lineage.delivery.logged_datasets import (
    LoggedDataset,
    merged,
    places_of,
)
from mlflow_plugins_pack.lineage.document.datasets import datasets
from mlflow_plugins_pack.lineage.document.graph import Entry, Graph, file_uri
from mlflow_plugins_pack.lineage.query import api
from tests.lineage.support.reading import RunRecord
from tests.lineage.support.scripts import RunScript
from tests.support import servers


@pytest.mark.parametrize(
    ("source_type", "source", "places", "version"),
    [
        ("local", {"uri": "/data/my file.csv"}, ["file:///data/my%20file.csv"], None),
        ("local", {"uri": "file:///data/a.csv"}, ["file:///data/a.csv"], None),
        ("s3", {"uri": "s3a://lake/my key"}, ["s3://lake/my%20key"], None),
        ("http", {"url": "https://u:p@host/a.csv?token=x"}, ["https://host/a.csv"], None),
        ("hugging_face", {"path": "org/set", "revision": "1"}, ["hf://datasets/org/set@1"], None),
        (
            "delta_table",
            {"path": "/lake/t", "delta_table_version": 3},
            ["file:///lake/t"],
            "delta:3",
        ),
        ("delta_table", {"delta_table_name": "c.s.t"}, ["table:///c.s.t"], None),
        ("spark", {"table_name": "s.t"}, ["table:///s.t"], None),
        (
            "spark",
            {"sql": "SELECT * FROM a.b JOIN c ON x = 'secret'"},
            ["table:///a.b", "table:///c"],
            None,
        ),
        ("code", {"tags": {"mlflow.user": "u"}}, [], None),
        ("spark", ["odd"], [], None),
    ],
)
def test_places_of_sources(
    source_type: str, source: object, places: list[str], version: str | None
) -> None:
    assert places_of(source_type, json.dumps(source)) == (tuple(places), version)


def test_relative_path_of_a_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert places_of("local", '{"uri": "a.csv"}') == ((file_uri(str(tmp_path / "a.csv")),), None)


def test_one_dataset_for_what_capture_saw_too() -> None:
    seen = Entry("file:///d/a.csv", "sha256:" + "ab" * 32, coverage="full")
    other = Entry("file:///d/b.csv", "sha256:" + "cd" * 32, coverage="full")
    graph = merged(
        Graph(inputs=(seen, other)),
        [LoggedDataset("mine@1", (seen.uri,)), LoggedDataset("spark@2", ("table:///t",))],
    )
    assert [(e.uri, e.dataset) for e in graph.inputs] == [
        ("file:///d/a.csv", "mine@1"),
        ("file:///d/b.csv", None),
        ("table:///t", "spark@2"),
    ]
    assert [dataset.name for dataset in datasets(graph)] == ["b.csv"]


def test_logged_datasets_of_a_run(
    run_script: RunScript, server: servers.MlflowServer, tmp_path: Path
) -> None:
    outcome = run_script(
        """
        import json, mlflow, pandas
        from mlflow.data.spark_dataset_source import SparkDatasetSource
        from mlflow.data.meta_dataset import MetaDataset
        open("mine.csv", "w").write("a\\n1\\n" + "2\\n" * 77)
        with mlflow.start_run():
            pass
        with mlflow.start_run() as run:
            frame = pandas.read_csv("mine.csv")
            mine = mlflow.data.from_pandas(frame, source="mine.csv", name="mine")
            mlflow.log_input(mine, context="training")
            mlflow.log_input(MetaDataset(SparkDatasetSource(table_name="sales.orders")))
        print(json.dumps(run.info.run_id))
        """,
        server.url,
    )
    record = RunRecord(server.url, outcome.value)
    entries = {entry["u"]: entry for entry in record.entries().values()}
    mine = entries[(tmp_path / "mine.csv").as_uri()]
    assert mine["ds"].startswith("mine@")
    assert mine["h"].startswith("sha256:")
    assert entries["table:///sales.orders"]["via"] == "logged"
    assert record.datasets() == {}
    assert {item.dataset.name for item in record.run.inputs.dataset_inputs} == {"mine", "dataset"}
    for target in (str(tmp_path / "mine.csv"), mine["h"], "table:///sales.orders"):
        used = api.used_by(target, tracking_uri=server.url)
        assert [use.run for use in used.uses] == [outcome.value], target
    assert outcome.value in api.downstream(mine["h"], tracking_uri=server.url).nodes


def test_source_loads_the_recorded_content_or_nothing(tmp_path: Path) -> None:
    import hashlib

    path = tmp_path / "a file.csv"
    path.write_text("one")
    digest = "sha256:" + hashlib.sha256(b"one").hexdigest()
    entry = Entry(file_uri(str(path)), digest, coverage="full")
    (made,) = datasets(Graph(inputs=(entry,)))
    source = RecordedSource.from_json(made.source)
    assert made.source_type == RecordedSource._get_source_type()
    assert source.to_dict() == {"uri": entry.uri, "digest": digest}
    assert source.load() == str(path)
    path.write_text("two")
    with pytest.raises(LineageSourceError, match="another content now"):
        source.load()
    kept = tmp_path / "kept.csv"
    kept.write_text("one")
    assert RecordedSource(entry.uri, digest, origin=kept.as_uri()).load() == str(kept)
    with pytest.raises(LineageSourceError, match="not a file"):
        RecordedSource("postgresql://h:5432/d.s.t").load()
