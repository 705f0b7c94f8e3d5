"""Runs a library's own test suite with the capture and without it, and compares the outcomes.

``python .../tests/lineage/library_suites.py NAME PYTEST-ARGUMENTS...`` runs pytest in the working
directory, twice: with lineage switched off, and with an active run whose capture is on. It prints
how many tests passed, failed and were skipped in each, and the tests whose outcome differs; those
are run again both ways, since some tests of any suite fail now and then. It exits with 1 if one
differs each time. Suites that packages bring with them::

    library_suites.py pandas --pyargs pandas.tests.io
    library_suites.py pyarrow --pyargs pyarrow.tests
    library_suites.py h5py --pyargs h5py.tests

Those of duckdb and polars are in their repositories, at the tag of the installed version: go to
``duckdb-python`` and give ``tests/fast``, or to ``py-polars`` and give ``tests/unit/io``. It is a
script, not a module: those have a package ``tests`` of their own.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

_PLUGIN = Path(__file__).parent / "support"
_ROUNDS = 3


def outcomes(folder: Path, arguments: list[str], *, on: bool) -> dict[str, str]:
    """Run pytest; return the outcome of each test by its name."""
    report = folder / "report.xml"
    report.unlink(missing_ok=True)
    path = os.pathsep.join(filter(None, (str(_PLUGIN), os.environ.get("PYTHONPATH"))))
    environment = {
        **os.environ,
        "PYTHONPATH": path,
        "MLFLOW_PACK_LINEAGE_ENABLED": "true" if on else "false",
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'tracking.db'}",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"),
            *("-p", "with_run", f"--junitxml={report}", *arguments),
        ],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode not in (0, 1):
        raise RuntimeError(
            f"pytest ended with {done.returncode}:\n{done.stdout[-3000:]}{done.stderr}"
        )
    found = {}
    for case in ElementTree.parse(report).iter("testcase"):
        kinds = {child.tag for child in case} & {"failure", "error", "skipped"}
        found[f"{case.get('classname')}::{case.get('name')}"] = min(kinds, default="passed")
    return found


def main(name: str, *arguments: str) -> int:
    """Compare; return how many tests differ each time."""
    differing: set[str] = set()
    with tempfile.TemporaryDirectory(prefix="suite-") as folder:
        for number in range(_ROUNDS):
            chosen = list(arguments)
            if number:
                words = {test.partition("::")[2].partition("[")[0] for test in differing}
                chosen += ["-k", " or ".join(sorted(words))]
            off, on = (outcomes(Path(folder), chosen, on=side) for side in (False, True))
            if not number:
                for side, found in (("off", off), ("on", on)):
                    counts = ", ".join(
                        f"{n} {k}" for k, n in sorted(Counter(found.values()).items())
                    )
                    _say(f"{name}: capture {side}: {counts}")
            now = {test for test in {*off, *on} if off.get(test) != on.get(test)}
            differing = now if not number else differing & now
            for test in sorted(differing):
                _say(f"  {test}: {off.get(test)} without, {on.get(test)} with the capture")
            if not differing:
                break
    _say(f"{name}: {len(differing)} differ each time")
    return len(differing)


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(min(1, main(*sys.argv[1:])))
