"""What capturing lineage costs each file that is opened, while a run is active.

Three kinds of files: data that no run has read yet, data that was read before, and files that are
no data (the filter drops them).
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks.frame import PACK, STOCK, Case, Figure, Options, Sample, interleave, stopwatch

OPENS = 2000
KINDS = {
    "new data file": "per open of a data file not seen before",
    "known data file": "per open of a data file seen before",
    "other file": "per open of a file that is not data",
}


def _run(options: Options, blocks: int) -> list[Figure]:
    from benchmarks.worker import worker

    count = str(options.count(OPENS))
    with tempfile.TemporaryDirectory(prefix="lineage-", dir=Path.home()) as name:
        module = "benchmarks.cases.lineage"
        with (
            worker(module, f"{name}/stock", count, pack=False) as stock,
            worker(module, f"{name}/pack", count, pack=True) as pack,
        ):
            return interleave(
                {STOCK: stock, PACK: pack},
                [Figure(text, "us", is_overhead=True) for text in KINDS.values()],
                blocks,
                options.progress,
            )


_WRITE = """
import os, sys
place, suffix, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
os.mkdir(place)
for index in range(count):
    with open(f"{place}/{index}.{suffix}", "wb") as file:
        file.write(b"a,b\\n1,2\\n")
"""

CASE = Case("lineage", "client processor time per opened file", 20, _run)


def main() -> None:
    """Be a worker: open files, measure."""
    import mlflow

    from benchmarks.worker import serve

    folder, count = Path(sys.argv[1]), int(sys.argv[2])
    folder.mkdir()
    mlflow.set_tracking_uri(f"sqlite:///{folder / 'mlflow.db'}")
    mlflow.set_experiment("benchmark")
    block = 0

    def opens(paths: Callable[[int], Path]) -> float:
        with stopwatch() as watch:
            for index in range(count):
                with paths(index).open("rb") as file:
                    file.read(1)
        return watch.cpu_seconds / count * 1e6

    def measure() -> Sample:
        nonlocal block
        block += 1
        new, other = folder / f"new-{block}", folder / f"other-{block}"
        for place, suffix in ((new, "csv"), (other, "py")):
            # Another process writes: what this one wrote itself would count as intermediate.
            arguments = [str(place), suffix, str(count)]
            subprocess.run([sys.executable, "-S", "-c", _WRITE, *arguments], check=True)
        with mlflow.start_run():
            return {
                KINDS["other file"]: opens(lambda index: other / f"{index}.py"),
                KINDS["new data file"]: opens(lambda index: new / f"{index}.csv"),
                KINDS["known data file"]: opens(lambda index: new / f"{index}.csv"),
            }

    serve(measure)


if __name__ == "__main__":
    main()
