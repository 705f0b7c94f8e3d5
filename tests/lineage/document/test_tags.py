"""Tags: always valid JSON within MLflow's limit, whatever the files are called."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlflow_plugins_pack.lineage.document.graph import Entry, Graph, file_uri, inputs_digest
from mlflow_plugins_pack.lineage.document.stored import graph_from_tags
from mlflow_plugins_pack.lineage.document.tags import LIMIT_BYTES, PREFIX, fit, to_tags
from tests.lineage.support.strategies import entries, graphs, names


def _check(graph: Graph) -> dict[str, str]:
    tags = to_tags(graph)
    for name, value in tags.items():
        assert name.startswith(PREFIX)
        assert len(value.encode()) <= LIMIT_BYTES, name
        if name not in (f"{PREFIX}schema", f"{PREFIX}digest"):
            json.loads(value)
    return tags


@given(graphs)
def test_any_graph(graph: Graph) -> None:
    _check(graph)


def _listing(count: int, name: str = "rows") -> Graph:
    return Graph(
        inputs=tuple(
            Entry(
                file_uri(f"/data/{index % 7}/part-{index % 90}/{name}-{index:06}.parquet"),
                digest=f"sha256:{index:064x}",
                size=index,
                modified=1_700_000_000 + index,
                coverage="full",
            )
            for index in range(count)
        )
    )


def _files(which: str, tags: dict[str, str]) -> int:
    listed = sum(e.get("files", 1) for e in json.loads(tags[PREFIX + which]))
    return listed + json.loads(tags.get(f"{PREFIX}truncated", "{}")).get(which, 0)


@pytest.mark.parametrize("count", [0, 1, 30, 77, 10_000])
def test_no_file_is_lost_from_the_count(count: int) -> None:
    tags = _check(_listing(count))
    assert _files("inputs", tags) == count
    assert json.loads(tags.get(f"{PREFIX}truncated", "{}")).get("inputs", 0) == 0


def test_few_files_are_listed_each() -> None:
    tags = _check(_listing(30))
    assert len(json.loads(tags[f"{PREFIX}inputs"])) == 30
    assert f"{PREFIX}truncated" not in tags


def test_ten_thousand_files_take_little_time() -> None:
    began = time.process_time()
    _check(_listing(10_000))
    assert time.process_time() - began < 5


@settings(max_examples=30)
@given(
    st.lists(names, min_size=1, max_size=12),
    st.integers(1, 400),
    st.sampled_from(["x", "ü", "\udcff", '"', "%", "\n"]),
)
def test_hostile_names(folders: list[str], repeat: int, letter: str) -> None:
    graph = Graph(
        inputs=tuple(
            Entry(file_uri(f"/{folder}/{letter * repeat}/{index}"), digest=f"sha256:{index}")
            for index, folder in enumerate(folders * 10)
        ),
        upstream_runs=tuple(f"{index:032}" for index in range(repeat)),
    )
    tags = _check(graph)
    assert _files("inputs", tags) == len(graph.inputs)


def test_one_path_longer_than_the_limit_is_counted_as_left_out() -> None:
    entry = Entry(file_uri("/" + "ü" * 2000), digest="sha256:1")
    tags = _check(Graph(inputs=(entry,), outputs=(entry,)))
    assert json.loads(tags[f"{PREFIX}inputs"]) == []
    assert json.loads(tags[f"{PREFIX}truncated"]) == {"inputs": 1, "outputs": 1}


@given(st.lists(entries, max_size=5))
def test_what_fits_is_left_alone(items: list[Entry]) -> None:
    unique = {(e.uri, e.content): e for e in items}
    kept, left_out = fit(unique.values(), 1 << 30)
    assert left_out == 0
    assert sorted(kept, key=lambda e: (e.uri, e.content)) == [unique[key] for key in sorted(unique)]


@given(graphs)
def test_tags_read_back_as_the_graph_when_nothing_was_rolled_up(graph: Graph) -> None:
    tags = {k.removeprefix(PREFIX): v for k, v in to_tags(graph).items()}
    again = graph_from_tags(tags)
    if "truncated" not in tags:
        assert set(again.inputs) == set(graph.inputs)
        assert again.upstream_runs == graph.upstream_runs


def test_broken_tags_count_as_absent() -> None:
    broken = {"inputs": '[{"u": "file:///a"}, {"x": 1}, 3]', "outputs": "[{", "truncated": "[]"}
    graph = graph_from_tags(broken)
    assert [e.uri for e in graph.inputs] == ["file:///a"]
    assert graph.outputs == ()


@pytest.mark.parametrize(
    "inputs",
    [
        *("[" * 8000, "{}", "[7]", '[{"u": 5}]', '[{"u": "a", "h": []}]', '[{"u": "a", "n": "x"}]'),
        *('[{"u": "a", "files": 1e999}]', '[{"u": "a", "r": {}}]', '[{"u": "\\ud800"}]', "[[[]]]"),
    ],
    ids=lambda text: text[:24],
)
def test_entries_of_other_types_count_as_absent(inputs: str) -> None:
    """Anyone who may write a run may write its tags; commands print and hash them."""
    tags = {"inputs": inputs, "truncated": '{"dropped": []}', "upstream.runs": "[[], 5]"}
    found = graph_from_tags(tags)
    assert (found.inputs, found.dropped, found.upstream_runs) == ((), 0, ())
    inputs_digest(found.inputs)
