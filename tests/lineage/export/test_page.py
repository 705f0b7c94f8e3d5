"""The page for people: what it marks, tells apart, links to and never hides."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest

from mlflow_plugins_pack.lineage.document import network, wording
from mlflow_plugins_pack.lineage.document.coverage import lacking
from mlflow_plugins_pack.lineage.document.graph import Graph
from mlflow_plugins_pack.lineage.document.network import Network, Node
from mlflow_plugins_pack.lineage.export import page

MADE = datetime(2026, 3, 4, 5, 6, 7, tzinfo=timezone.utc)


def answer() -> Network:
    made = Network()
    made.add(Node("file:///a/x.csv#1", network.DATA, "x.csv", uri="file:///a/x.csv", differs=True))
    made.add(Node("file:///b/x.csv#2", network.DATA, "x.csv", uri="file:///b/x.csv"))
    made.add(Node("1" * 32, network.RUN, "train", experiment_id="7"))
    made.add(Node("2" * 32, network.RUN, "train", experiment_id="7", lacks=("blind to catboost",)))
    made.add(Node("models:/a b/3", network.VERSION, "a b 3"))
    made.join("file:///a/x.csv#1", "1" * 32, network.READ)
    made.join("file:///b/x.csv#2", "2" * 32, network.READ)
    made.join("2" * 32, "models:/a b/3", network.REGISTERED)
    made.mark("models:/a b/3")
    return made


def test_equal_names_are_told_apart() -> None:
    assert page.distinct_labels(answer()) == {
        "file:///a/x.csv#1": "x.csv in a/",
        "file:///b/x.csv#2": "x.csv in b/",
        "1" * 32: "train (11111111)",
        "2" * 32: "train (22222222)",
        "models:/a b/3": "a b 3",
    }


def test_page_says_when_and_where_from_and_links_there_without_secrets() -> None:
    text = page.html(answer(), "models:/a b/3", server="https://u:hunter2@host/ml?k=1", made=MADE)
    assert "Made on 2026-03-04 05:06:07 UTC from https://host/ml" in text
    assert f'href="https://host/ml/#/experiments/7/runs/{"1" * 32}"' in text
    assert 'href="https://host/ml/#/models/a%20b/versions/3"' in text
    assert "hunter2" not in text
    assert 'class="version target"' in text
    assert "href" not in page.html(answer(), "x", server="sqlite:///ml.db", made=MADE)


def test_incomplete_records_never_look_complete() -> None:
    text = page.html(answer(), "x", server="", made=MADE)
    assert f"1 run is incomplete, of 2: {'2' * 32} (blind to catboost)" in text
    assert 'class="run incomplete"' in text
    assert "incomplete: blind to catboost" in text
    assert "the content differs now" in text
    found = answer().to_json()
    assert found["complete"] is False
    assert [n["complete"] for n in found["nodes"] if n["kind"] == "run"] == [True, False]


@pytest.mark.parametrize(
    ("record", "lacks"),
    [
        (None, "no lineage was recorded"),
        (Graph(), "its coverage is not known"),
        (Graph(facts={"coverage": {"layers": ["audit"]}}), "not every layer was on"),
        (Graph(facts={"coverage": {"complete": False, "blind": ["h5"]}}), "blind to h5"),
        (Graph(facts={"coverage": {"complete": True}}, dropped=3), "without 3 more files"),
        (Graph(facts={"coverage": {"complete": True}}), ""),
    ],
)
def test_only_what_is_said_to_be_complete_is(record: Graph | None, lacks: str) -> None:
    assert ", ".join(lacking(record)).startswith(lacks)
    assert bool(lacking(record)) == bool(lacks)


def test_summary_counts_and_names_aliases() -> None:
    made = answer()
    for number in (1, 2):
        made.add(Node(f"models:/m{number}@prod", network.ALIAS, f"m{number}@prod"))
    assert wording.summary(made) == "2 files or tables, 2 runs, 1 version, 2 of them @prod"


def test_columns_of_a_drawing_with_a_cycle() -> None:
    made = answer()
    made.join("2" * 32, "file:///b/x.csv#2", network.WROTE)
    columns = [[node.key for node in column] for column in made.layers()]
    assert columns[-1] == ["models:/a b/3"]
    assert sorted(key for column in columns for key in column) == sorted(made.nodes)
