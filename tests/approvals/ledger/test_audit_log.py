from __future__ import annotations

import hashlib
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from mlflow_plugins_pack.approvals.ledger.audit_log import GENESIS, entry_hash, verify_chain

texts = st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
bodies = st.lists(
    st.fixed_dictionaries(
        {
            "created_at": st.integers(0, 2**45),
            "actor": texts,
            "action": st.sampled_from(["REQUESTED", "APPLIED"]),
            "workspace": texts,
            "name": texts,
            "version": st.none() | st.integers(0, 99),
            "target": texts,
            "request_id": texts,
            "before": texts,
            "after": texts,
            "policy_sha256": texts,
        }
    ),
    min_size=1,
    max_size=6,
)


def chained(bodies: list[dict[str, Any]]) -> list[dict[str, Any]]:
    entries, last = [], GENESIS
    for seq, body in enumerate(bodies, 1):
        entry = {**body, "seq": seq, "prev_hash": last}
        entry["hash"] = last = entry_hash(entry)
        entries.append(entry)
    return entries


@given(bodies)
def test_an_untouched_chain_holds(bodies: list[dict[str, Any]]) -> None:
    entries = chained(bodies)
    found = verify_chain(entries, len(entries), entries[-1]["hash"])
    assert found.is_intact
    assert (found.entries, found.head) == (len(entries), entries[-1]["hash"])


@given(bodies, st.data())
def test_any_change_is_found_at_its_place(bodies: list[dict[str, Any]], data: Any) -> None:
    entries = chained(bodies)
    head = (len(entries), entries[-1]["hash"])
    index = data.draw(st.integers(0, len(entries) - 1))
    how = data.draw(st.sampled_from(["change", "remove", "rehash"]))
    if how == "remove":
        del entries[index]
    else:
        entries[index] = {**entries[index], "actor": "mallory!"}
        if how == "rehash":
            entries[index]["hash"] = entry_hash(entries[index])
    found = verify_chain(entries, *head)
    assert not found.is_intact
    expected = index + 1
    if how == "rehash":  # the forged entry fits itself; what follows, or the head, does not
        expected = index + 2
    assert found.broken_at == expected


@given(bodies)
def test_a_longer_or_shorter_log_than_the_head_is_found(bodies: list[dict[str, Any]]) -> None:
    entries = chained(bodies)
    assert verify_chain(entries[:-1], len(entries), entries[-1]["hash"]).broken_at == len(entries)
    short_head = entries[-2]["hash"] if len(entries) > 1 else GENESIS
    assert verify_chain(entries, len(entries) - 1, short_head).broken_at == len(entries)


def test_the_hash_can_be_computed_by_anyone() -> None:
    entry = chained(
        [
            dict.fromkeys(
                [
                    "actor",
                    "workspace",
                    "name",
                    "version",
                    "target",
                    "request_id",
                    "before",
                    "after",
                    "policy_sha256",
                ]
            )
            | {"created_at": 5, "action": "APPLIED"}
        ]
    )[0]
    body = {key: value for key, value in entry.items() if key != "hash"}
    canonical = json.dumps(body, sort_keys=True, separators=(",", ":"))
    assert entry["hash"] == hashlib.sha256((GENESIS + canonical).encode()).hexdigest()


def test_an_empty_log_is_intact() -> None:
    assert verify_chain([], 0, GENESIS).is_intact
