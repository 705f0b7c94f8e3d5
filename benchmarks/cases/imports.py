"""What the pack adds to ``import mlflow``, each time in a fresh process."""

from __future__ import annotations

import json
import subprocess
import sys

from benchmarks.frame import PACK, STOCK, Case, Figure, Options, Sample, interleave

_CODE = """
import json, time
wall, cpu = time.perf_counter(), time.process_time()
import mlflow
print(json.dumps({"import mlflow": (time.perf_counter() - wall) * 1000,
                  "import mlflow, processor": (time.process_time() - cpu) * 1000}))
"""


def _import(*, pack: bool) -> Sample:
    from benchmarks.worker import environment

    done = subprocess.run(
        [sys.executable, "-c", _CODE],
        env=environment(pack=pack),
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    sample: Sample = json.loads(done.stdout)
    return sample


def _run(options: Options, blocks: int) -> list[Figure]:
    _import(pack=True), _import(pack=False)  # the files come from the disk only once
    return interleave(
        {STOCK: lambda: _import(pack=False), PACK: lambda: _import(pack=True)},
        [
            Figure("import mlflow", "ms", goal="+50 ms", is_overhead=True),
            Figure("import mlflow, processor", "ms", goal="+50 ms", is_overhead=True),
        ],
        blocks,
        options.progress,
    )


CASE = Case("import", "what the pack adds to import mlflow", 10, _run)
