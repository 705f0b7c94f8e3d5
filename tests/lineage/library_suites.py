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

import sys
import tempfile
from pathlib import Path

# Not as a package: the suites have one of the name `tests`.
sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from suites import Outcomes, compare, outcomes

_PLUGIN = Path(__file__).parent / "support"


def main(name: str, *arguments: str) -> int:
    """Compare; return how many tests differ each time."""
    with tempfile.TemporaryDirectory(prefix="suite-") as folder:

        def run(chosen: list[str], on: bool) -> Outcomes:
            environment = {
                "PYTHONPATH": str(_PLUGIN),
                "MLFLOW_PACK_LINEAGE_ENABLED": "true" if on else "false",
                "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/tracking.db",
                "MLFLOW_DISABLE_TELEMETRY": "true",
            }
            return outcomes(Path(folder, "report.xml"), ["-p", "with_run", *chosen], environment)

        return compare(name, "capture", list(arguments), run)


if __name__ == "__main__":
    sys.exit(min(1, main(*sys.argv[1:])))
