"""A run that reads more files than it may list: whole folders, none forgotten, in any order."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflow_plugins_pack.lineage.attribution.runs import Runs
from mlflow_plugins_pack.lineage.attribution.windows import Recorder
from mlflow_plugins_pack.lineage.capture.event import READ, Event
from mlflow_plugins_pack.lineage.files import FileState, packed, unpacked
from mlflow_plugins_pack.lineage.fingerprints import folders
from mlflow_plugins_pack.lineage.query import api
from tests.lineage.support.reading import RunRecord
from tests.lineage.support.scripts import RunScript
from tests.support import servers


def event(place: str, size: int = 1) -> Event:
    return Event(1, READ, place, "audit", ("r",), 1, FileState(1, 1, size, 5, 5))


@given(st.integers(0, 2**63 - 1), st.integers(-(2**62), 2**62))
def test_size_and_time_survive_the_packing(size: int, mtime_ns: int) -> None:
    assert unpacked(packed(size, mtime_ns)) == (size, mtime_ns)


@given(
    st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 30)), unique=True, max_size=60),
    st.integers(1, 40),
    st.randoms(use_true_random=False),
)
def test_listing_fits_loses_nothing_and_knows_no_order(
    files: list[tuple[str, int]], limit: int, shuffle: random.Random
) -> None:
    def listing(order: list[tuple[str, int]]) -> tuple[folders.Split, dict[str, str]]:
        recorder = Recorder(Runs(), limit)
        for folder, number in order:
            recorder.add(event(f"/{folder}/{number}", number))
        scope = recorder.window("r", 1).own
        split = folders.split(scope.reads, scope.more, limit)
        held = len(scope.reads) + len(scope.more)
        assert held + scope.dropped == len(order)
        assert len(split.single) + sum(map(len, split.folders.values())) + split.dropped == held
        return split, {
            folder: folders.digest(folders.files(keys, scope.reads, scope.more))
            for folder, keys in split.folders.items()
        }

    first, digests = listing(files)
    assert len(first.single) + len(first.folders) <= max(limit, len(first.folders))
    again, other_digests = listing(shuffle.sample(files, len(files)))
    if len(files) <= limit * 10:
        assert digests == other_digests
        assert sorted(first.single) == sorted(again.single)


@pytest.mark.parametrize("changed", [("b", 1, 5), ("a", 2, 5), ("a", 1, 6)])
def test_digest_tells_names_sizes_and_times(changed: folders.File) -> None:
    other: folders.File = ("z", 1, 1)
    assert folders.digest([("a", 1, 5), other]) == folders.digest([other, ("a", 1, 5)])
    assert folders.digest([("a", 1, 5), other]) != folders.digest([changed, other])


def test_run_over_many_files_names_their_folder(
    run_script: RunScript, server: servers.MlflowServer, tmp_path: Path
) -> None:
    outcome = run_script(
        """
        import json, os, random, subprocess, sys, mlflow
        write = "import os\\nos.mkdir('images')\\n" \\
            "for i in range(300): open(f'images/{i}.png', 'w').write(str(i))"
        subprocess.run([sys.executable, "-S", "-c", write], check=True)
        ids = []
        for _ in range(2):
            names = os.listdir("images")
            random.shuffle(names)
            with mlflow.start_run() as run:
                open(os.environ["DATA"] + "/cancer.csv").read()
                for name in names:
                    open(f"images/{name}").read()
            ids.append(run.info.run_id)
        print(json.dumps(ids))
        """,
        server.url,
        MLFLOW_PACK_LINEAGE_MAX_INPUTS="50",
    )
    first, second = (RunRecord(server.url, run_id) for run_id in outcome.value)
    entry = first.entries()["images"]
    assert (entry["files"], entry["c"], entry["n"]) == (
        300,
        "stat",
        sum(len(str(i)) for i in range(300)),
    )
    assert first.entries()["cancer.csv"]["c"] == "full"
    assert first.tags["digest"] == second.tags["digest"]
    assert json.loads(first.tags["truncated"]) == {"rolled_up": 300}
    assert len(first.document(tmp_path)["members"][entry["u"]]) == 300

    image = outcome.folder / "images" / "77.png"
    used = {use.run for use in api.used_by(str(image), tracking_uri=server.url).uses}
    assert used == set(outcome.value)

    def verified() -> list[str]:
        checks = api.verify(outcome.value[0], tracking_uri=server.url)
        return [check.result for check in checks if check.entry.files]

    assert verified() == ["same"]
    os.utime(image)
    assert verified() == ["unknown"]
    image.write_text("longer than it was")
    assert verified() == ["changed"]
    image.unlink()
    assert verified() == ["changed"]


MEMORY = """
import sys, tracemalloc
import mlflow
from mlflow_plugins_pack.lineage.session import session
from mlflow_plugins_pack.lineage.capture.event import READ
from mlflow_plugins_pack.lineage.files import FileState
current = session.current()
names = [f"/data/images/{index:07}.png" for index in range(150_000)]
tracemalloc.start()
for index, name in enumerate(names):
    claimed = current.claim(name, False)
    if claimed is not None:
        current.emit_file(claimed, READ, name, FileState(1, index, 1000 + index, index, index))
    if index % 5000 == 0:
        current._records._sort()
current._records._sort()
print(tracemalloc.get_traced_memory()[0] >> 20)
"""


def test_memory_of_a_run_over_very_many_files_is_bounded() -> None:
    done = subprocess.run(
        [sys.executable, "-c", MEMORY],
        env=servers.clean_environment(MLFLOW_DISABLE_TELEMETRY="true"),
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert int(done.stdout) < 64
