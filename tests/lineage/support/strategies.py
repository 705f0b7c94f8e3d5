"""Hypothesis strategies for lineage documents."""

from __future__ import annotations

import os

from hypothesis import strategies as st

from mlflow_plugins_pack.lineage.document.graph import (
    Entry,
    Graph,
    file_uri,
)

# Any bytes but NUL and slash can be a file's name; Python shows them with surrogate escapes.
names = st.binary(min_size=1, max_size=60).map(
    lambda raw: os.fsdecode(raw.replace(b"/", b"_").replace(b"\0", b"_"))
)


paths = st.lists(names, min_size=1, max_size=5).map(lambda parts: "/" + "/".join(parts))


digests = st.binary(min_size=32, max_size=32).map(lambda raw: f"sha256:{raw.hex()}")
entries = st.builds(
    Entry,
    uri=paths.map(file_uri),
    digest=st.none() | digests,
    size=st.none() | st.integers(0, 1 << 50),
    modified=st.none() | st.integers(0, 1 << 33),
    version=st.none() | st.text(max_size=30),
    role=st.sampled_from(["data", "config", "model", "intermediate"]),
    via=st.sampled_from(["audit", "wrap", "boto"]),
    coverage=st.sampled_from(["full", "sampled", "stat"]),
    changed=st.booleans(),
    shared=st.booleans(),
    files=st.none() | st.integers(1, 1000),
)


graphs = st.builds(
    Graph,
    inputs=st.lists(entries, max_size=8).map(tuple),
    outputs=st.lists(entries, max_size=8).map(tuple),
    upstream_runs=st.lists(st.uuids().map(lambda u: u.hex), max_size=3, unique=True).map(tuple),
    dropped=st.integers(0, 10),
)
