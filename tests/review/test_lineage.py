"""The lineage page: what is upstream and downstream, for those who may read it."""

from __future__ import annotations

from typing import Any

from mlflow.entities import Dataset, DatasetInput, InputTag

from mlflow_plugins_pack.lineage.document.datasets import datasets
from mlflow_plugins_pack.lineage.document.graph import Entry, Graph
from mlflow_plugins_pack.lineage.document.tags import to_tags
from mlflow_plugins_pack.review import graph_layout
from tests.approvals.support.review_sites import ReviewSite

PATH = "/approvals/api/v1/lineage?target="
DATA = "s3://curated/fraud%20set.parquet"
DIGEST = "sha256:" + "ab" * 32
DATA_KEY = f"{DATA}#{'ab' * 8}"
TABLE = Entry("s3://o/t.csv", version="7")


def record(review: ReviewSite, run_id: str, **parts: Any) -> None:
    """Write a record as the plugin does: tags, and the datasets by which it is found."""
    graph = Graph(**parts)
    with review.signed_in("alice") as client:
        for key, value in to_tags(graph).items():
            client.set_tag(run_id, key, value)
        logged = [
            DatasetInput(
                Dataset(d.name, d.digest, d.source_type, d.source),
                [InputTag("mlflow.data.context", d.context)],
            )
            for d in datasets(graph)
        ]
        client.log_inputs(run_id, logged)


def run_of(review: ReviewSite, name: str) -> tuple[int, str]:
    version = review.new_version(name)
    with review.signed_in("alice") as client:
        return version, client.get_model_version(name, str(version)).run_id


def keys(answer: dict[str, Any]) -> dict[str, int]:
    return {node["key"]: node["depth"] for node in answer["nodes"]}


def test_from_data_to_the_model_in_production_and_back(review: ReviewSite) -> None:
    version, run = run_of(review, "lineage-1")
    record(review, run, inputs=(Entry(DATA, digest=DIGEST, size=5),), outputs=(TABLE,))
    later, reader = run_of(review, "lineage-2")
    model = f"models:/lineage-1/{version}"
    record(review, reader, inputs=(TABLE,), upstream_models=(model,))
    with review.signed_in("alice") as client:
        client.set_registered_model_alias("lineage-1", "shadow", str(version))

    down = review.json("bob", "GET", PATH + "s3://curated/fraud%2520set.parquet")
    assert keys(down) == keys(down) | {
        DATA_KEY: 0,
        run: 1,
        model: 2,
        "s3://o/t.csv#7": 2,
        reader: 3,
    }
    [node] = [node for node in down["nodes"] if node["key"] == model]
    assert (node["label"], node["detail"]) == (f"lineage-1 version {version}", "@shadow")
    assert {"source": DATA_KEY, "to": run, "verb": "read by"} in down["edges"]
    by_digest = review.json("bob", "GET", PATH + DIGEST)
    assert keys(by_digest)[run] == 1
    up = review.json("bob", "GET", PATH + "models:/lineage-1@shadow")
    assert keys(up) == keys(up) | {model: 0, run: -1, DATA_KEY: -2, reader: 1}
    up = review.json("bob", "GET", PATH + f"models:/lineage-2/{later}")
    assert keys(up)[reader] == -1
    assert keys(up)[model] == -2

    page = review.call("bob", "GET", f"/approvals/lineage?target={model}").text
    assert "<svg" in page
    assert "Versions with an alias or a stage" in page


def test_who_may_not_read_a_run_sees_nothing_of_it(review: ReviewSite) -> None:
    version, run = run_of(review, "lineage-3")
    record(review, run, inputs=(Entry("s3://secret/place.csv", version="1"),))
    for target in (run, f"models:/lineage-3/{version}"):
        for path in (PATH, "/approvals/lineage?target="):
            answer = review.call("mallory", "GET", path + target)
            assert answer.status_code in (403, 404)
            assert "secret" not in answer.text
    answer = review.call("mallory", "GET", PATH + "s3://secret/place.csv")
    assert run not in answer.text
    for odd in ("x' OR '1'='1", "models:/none/1", "0" * 32):
        answer = review.call("bob", "GET", "/approvals/lineage", params={"target": odd})
        assert answer.status_code in (400, 403, 404)


def test_the_layout_has_a_place_for_each_node() -> None:
    depths = {"data": -1, "other": -1, "run": 0, "version": 1}
    edges = [("data", "run"), ("other", "run"), ("run", "version"), ("version", "data")]
    found = graph_layout.place(depths, edges)
    assert len(set(found.places.values())) == len(depths)
    assert found.places["data"][0] < found.places["run"][0] < found.places["version"][0]
    assert len(found.lines) == len(edges)
    assert graph_layout.place({}, []).places == {}
