"""What a call costs as the store grows: synthetic runs and index, real calls next to them.

    python -m tests.artifacts.support.scale [--runs 10 100 1000 10000] [--gib 1 10 100]

Prints milliseconds of logging, listing and downloading in one run, first with the host's index
cache empty and then again, how busy the processor was, and how much memory the process took.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

CHUNK_BYTES = 64 * 1024
CHUNKS_PER_PACK = 256
PACKS_PER_DELTA = 128
"""Makes index objects of 1.5 MiB: they are combined up to 2 MiB."""
FILES_PER_RUN = 10


def grow(root: str, runs: int, gib: int) -> None:
    """Add manifests of runs, and an index of as many GiB, without the packs."""
    from mlflow_plugins_pack.artifacts.format import object_keys
    from mlflow_plugins_pack.artifacts.format.index_delta import Delta, encode_delta
    from mlflow_plugins_pack.artifacts.format.manifest import FileEntry
    from mlflow_plugins_pack.artifacts.format.pack import Chunk, Record, encode_records
    from mlflow_plugins_pack.artifacts.store.opening import open_store
    from mlflow_plugins_pack.artifacts.uri.location import parse_location

    store = open_store(parse_location(root))
    chance = random.Random(1)
    packs = gib * (1 << 30) // CHUNK_BYTES // CHUNKS_PER_PACK
    for start in range(0, packs, PACKS_PER_DELTA):
        delta = Delta()
        for _ in range(start, min(packs, start + PACKS_PER_DELTA)):
            delta.packs[chance.randbytes(32)] = encode_records(
                Record(0, 0, chance.randbytes(32), 8 + n * CHUNK_BYTES, CHUNK_BYTES, CHUNK_BYTES)
                for n in range(CHUNKS_PER_PACK)
            )
        name = object_keys.make_ulid(time.time_ns() // 1_000_000, os.urandom(10))
        store.backend.write(store.key(object_keys.index_key(name)), encode_delta(delta))
    pack = chance.randbytes(32)
    for _ in range(runs):
        chunk = Chunk(pack, chance.randbytes(32), 8, CHUNK_BYTES, CHUNK_BYTES, 0)
        entries = [
            FileEntry(f"f{n}", CHUNK_BYTES, chance.randbytes(32), 0, chunks=(chunk,))
            for n in range(FILES_PER_RUN)
        ]
        store.manifests.commit(f"1/{uuid.UUID(int=chance.getrandbits(128)).hex}/artifacts", entries)


def measure(root: str, folder: str) -> None:
    """Time calls in a run of this process's own; prints one line."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    repository = get_artifact_repository(f"{root}/1/{uuid.uuid4().hex}/artifacts")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    cells = []
    processor = []
    for turn in range(2):
        path = Path(folder, f"new-{uuid.uuid4().hex}")
        path.write_bytes(os.urandom(200_000))
        for call in (
            lambda path=path: repository.log_artifact(str(path)),
            lambda: repository.list_artifacts(),
            lambda path=path: repository.download_artifacts(path.name),
        ):
            began, busy = time.perf_counter(), time.process_time()
            call()
            cells.append(f"{(time.perf_counter() - began) * 1000:.0f}")
            processor.append((time.process_time() - busy) * 1000)
        del turn
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(
        f"first {'/'.join(cells[:3])} ms ({sum(processor[:3]):.0f} of the processor)  "
        f"then {'/'.join(cells[3:])} ms  +{grown:.0f} MiB"
    )


def main(runs: list[int], gibs: list[int]) -> None:
    print("log/list/download of one file in a run of its own")
    for count, gib in [(n, gibs[0]) for n in runs] + [(runs[0], n) for n in gibs[1:]]:
        with tempfile.TemporaryDirectory(prefix="scale-") as folder:
            root = f"cas-file://{folder}/store"
            environment = {**os.environ, "MLFLOW_PACK_ARTIFACT_CACHE_DIR": f"{folder}/cache"}
            for code in (f"grow({root!r}, {count}, {gib})", f"measure({root!r}, {folder!r})"):
                if code.startswith("measure"):
                    print(f"{count:6} runs, {gib:4} GiB: ", end="", flush=True)
                call = f"from tests.artifacts.support.scale import grow, measure; {code}"
                subprocess.run([sys.executable, "-c", call], check=True, env=environment)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, nargs="+", default=[10, 100, 1000, 10000])
    parser.add_argument("--gib", type=int, nargs="+", default=[1, 10, 100])
    arguments = parser.parse_args()
    main(arguments.runs, arguments.gib)
