"""Runs MLflow's own tests over stock's stores and over the pack's, and compares the outcomes.

``python .../tests/mlflow_suites.py PYTEST-ARGUMENTS...`` runs pytest in the working directory, a
checkout of MLflow, twice: as it is, and with `tests/support/with_pack/mlflow_over_pack.py`, which
puts the registry store of `approval-` and the artifact repository of `cas-file` where the tests use
stock's. It prints the tests whose outcome differs. It is a script, not a module: MLflow has a
package ``tests`` of its own. For example::

    mlflow_suites.py tests/store/model_registry/test_sqlalchemy_store.py
    mlflow_suites.py tests/tracking/fluent tests/tracking/test_tracking.py tests/artifacts
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

_SUPPORT = Path(__file__).parent / "support"
sys.path.insert(0, str(_SUPPORT))

from suites import Outcomes, compare, outcomes  # noqa: E402 - after its folder is known


def main(*arguments: str) -> int:
    """Compare; return how many tests differ each time."""
    with tempfile.TemporaryDirectory(prefix="mlflow-suite-") as folder:

        def run(chosen: list[str], on: bool) -> Outcomes:
            environment = {
                "PYTHONPATH": str(_SUPPORT / "with_pack"),
                "MLFLOW_SUITES_FOLDER": folder,
                "MLFLOW_PACK_LINEAGE_ENABLED": "false",
                "MLFLOW_DISABLE_TELEMETRY": "true",
            }
            plugin = ["-p", "mlflow_over_pack"] if on else []
            return outcomes(Path(folder, "report.xml"), [*plugin, *chosen], environment)

        return compare("MLflow", "pack", list(arguments), run)


if __name__ == "__main__":
    sys.exit(min(1, main(*sys.argv[1:])))
