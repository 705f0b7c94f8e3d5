"""Entries, their union and digests, URIs: pure, so mostly by hypothesis."""

from __future__ import annotations

import json
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from mlflow_plugins_pack.lineage.document.graph import (
    Entry,
    Graph,
    file_uri,
    inputs_digest,
    merkle,
    object_uri,
    parent_uri,
    path_of,
    role_of,
    roll_up,
    shown_uri,
    without_secrets,
)
from tests.lineage.support.strategies import entries, graphs, paths


@given(entries)
def test_entry_survives_json(entry: Entry) -> None:
    assert Entry.from_json(json.loads(json.dumps(entry.to_json()))) == entry


@given(graphs)
def test_graph_survives_json(graph: Graph) -> None:
    assert Graph.from_json(json.loads(json.dumps(graph.to_json()))) == graph


@given(paths)
def test_any_path_becomes_an_ascii_uri_and_comes_back(path: str) -> None:
    uri = file_uri(path)
    assert uri.isascii()
    assert not set(uri) & set(' "<>\\^`{|}#?\n\r\t\x7f')
    assert path_of(uri) == path
    shown_uri(uri).encode("utf-8")


@given(paths)
def test_home_is_hidden_only_below_home(path: str) -> None:
    home = "/home/alice"
    assert file_uri(home + path, home) == "file:///~" + file_uri(path).removeprefix("file://")
    assert path_of(file_uri(home + path, home), home) == home + path
    assert file_uri("/home/alice2" + path, home) == file_uri("/home/alice2" + path)


@given(graphs, graphs)
def test_union_keeps_all_and_repeating_it_changes_nothing(one: Graph, two: Graph) -> None:
    both = one.union(two)
    contents = {(e.uri, e.content) for e in (*one.inputs, *two.inputs)}
    assert {(e.uri, e.content) for e in both.inputs} == contents
    assert len(both.inputs) == len(contents)
    again = both.union(two)
    assert again.inputs == both.inputs
    assert again.outputs == both.outputs


def test_union_of_shared_and_own_is_own() -> None:
    entry = Entry("file:///a", digest="sha256:1", shared=True)
    own = replace(entry, shared=False)
    assert Graph((entry,)).union(Graph((own,))).inputs == (own,)
    assert Graph((own,)).union(Graph((entry,))).inputs == (own,)


@given(st.lists(entries, max_size=8), st.randoms())
def test_digest_depends_on_contents_alone(items: list[Entry], random: object) -> None:
    shuffled = list(items)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert inputs_digest(items) == inputs_digest(shuffled)
    noise = Entry("file:///settings.yaml", digest="sha256:00", role="config")
    assert inputs_digest([*items, noise]) == inputs_digest(items)
    data = Entry("file:///new", digest="sha256:not-there-yet")
    assert inputs_digest([*items, data]) != inputs_digest(items)
    moved = [replace(e, uri=e.uri + "x") for e in items if e.digest]
    assert inputs_digest(moved) == inputs_digest([e for e in items if e.digest])


@given(st.lists(entries, min_size=1, max_size=8), st.data())
def test_merkle_notices_any_changed_file(items: list[Entry], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(items) - 1))
    changed = list(items)
    changed[index] = replace(items[index], digest="sha256:other")
    assert merkle(changed) != merkle(items)
    assert merkle(reversed(items)) == merkle(items) or len({e.uri for e in items}) < len(items)


def test_roll_up_is_as_weak_as_its_weakest_file() -> None:
    files = [
        Entry("file:///d/a", digest="sha256:1", size=1, modified=5, coverage="full"),
        Entry("file:///d/b", digest="sha256:2", size=2, modified=7, coverage="sampled"),
        Entry("file:///d/c/", size=4, coverage="full", changed=True, files=3),
    ]
    rolled = roll_up("file:///d/", files)
    assert (rolled.size, rolled.modified, rolled.files) == (7, 7, 5)
    assert (rolled.coverage, rolled.changed, rolled.shared) == ("sampled", True, False)


def test_parents_end_at_the_root() -> None:
    assert parent_uri("file:///a/b.csv") == "file:///a/"
    assert parent_uri("file:///a/") == "file:///"
    assert parent_uri("file:///") is None
    assert parent_uri("s3://bucket/a/b") == "s3://bucket/a/"
    assert parent_uri("s3://bucket") is None


def test_secrets_are_dropped_from_uris() -> None:
    assert without_secrets("https://u:p@h:1/a?sig=x#y") == "https://h:1/a"
    assert without_secrets("postgresql://u:p@h/db?password=x") == "postgresql://h/db"
    assert without_secrets("sqlite:///a.db?key=x") == "sqlite:///a.db"
    assert object_uri("s3", "b", "a b/ü%?") == "s3://b/a%20b/%C3%BC%25%3F"


def test_roles() -> None:
    assert role_of("/a/Settings.YAML") == "config"
    assert role_of("/a/net.pt") == "model"
    assert role_of("/a/x.csv") == "data"
