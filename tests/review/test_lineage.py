"""The lineage page: what is upstream and downstream, for those who may read it."""

from __future__ import annotations

import json
from typing import Any

from mlflow_plugins_pack.review import graph_layout
from tests.approvals.support.review_sites import ReviewSite

PATH = "/approvals/api/v1/lineage?target="
DATA = "s3://curated/fraud%20set.parquet"
DIGEST = "sha256:" + "ab" * 32


def tag(review: ReviewSite, run_id: str, **tags: Any) -> None:
    with review.signed_in("alice") as client:
        for name, value in tags.items():
            client.set_tag(run_id, f"lineage.{name.replace('_', '.')}", json.dumps(value))


def run_of(review: ReviewSite, name: str) -> tuple[int, str]:
    version = review.new_version(name)
    with review.signed_in("alice") as client:
        return version, client.get_model_version(name, str(version)).run_id


def keys(answer: dict[str, Any]) -> dict[str, int]:
    return {node["key"]: node["depth"] for node in answer["nodes"]}


def test_from_data_to_the_model_in_production_and_back(review: ReviewSite) -> None:
    version, run = run_of(review, "lineage-1")
    tag(review, run, inputs=[{"u": DATA, "h": DIGEST, "n": 5}], outputs=[{"u": "s3://o/t.csv"}])
    later, reader = run_of(review, "lineage-2")
    model = f"models:/lineage-1/{version}"
    tag(review, reader, inputs=[{"u": "s3://o/t.csv"}], upstream_models=[model])
    with review.signed_in("alice") as client:
        client.set_registered_model_alias("lineage-1", "shadow", str(version))

    down = review.json("bob", "GET", PATH + "s3://curated/fraud%2520set.parquet")
    assert keys(down) == keys(down) | {DATA: 0, run: 1, model: 2, "s3://o/t.csv": 2, reader: 3}
    [found] = [node for node in down["nodes"] if node["key"] == model]
    assert (found["label"], found["detail"]) == (f"lineage-1 version {version}", "@shadow")
    assert {"source": DATA, "to": run, "verb": "read by"} in down["edges"]
    by_digest = review.json("bob", "GET", PATH + DIGEST)
    assert keys(by_digest)[run] == 1
    up = review.json("bob", "GET", PATH + "models:/lineage-1@shadow")
    assert keys(up) == keys(up) | {model: 0, run: -1, DATA: -2, reader: 1}
    up = review.json("bob", "GET", PATH + f"models:/lineage-2/{later}")
    assert keys(up)[reader] == -1
    assert keys(up)[model] == -2

    page = review.call("bob", "GET", f"/approvals/lineage?target={model}").text
    assert "<svg" in page
    assert "Versions with an alias or a stage" in page


def test_who_may_not_read_a_run_sees_nothing_of_it(review: ReviewSite) -> None:
    version, run = run_of(review, "lineage-3")
    tag(review, run, inputs=[{"u": "s3://secret/place.csv"}])
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
