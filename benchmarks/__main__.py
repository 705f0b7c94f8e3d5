"""Command line: ``python -m benchmarks NAME [--blocks N] [--scale X] [--json FILE]``."""

from __future__ import annotations

import argparse
import compileall
import json
import os
import sys
from pathlib import Path

import mlflow_plugins_pack
from benchmarks.cases import CASES, SURVEYS
from benchmarks.frame import Options
from benchmarks.report import document, machine, table


def main(arguments: list[str] | None = None) -> int:
    """Run the named cases and print their figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="cases; a prefix names several")
    parser.add_argument("--list", action="store_true", help="list the cases and stop")
    parser.add_argument("--blocks", type=int, help="pairs of measurements (default: the case's)")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the full size")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every block there too")
    parser.add_argument("--only", default="", metavar="TEXT", help="parts of a survey to run")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write a survey's tables there")
    parser.add_argument(
        "--work",
        type=Path,
        default=Path("/dev/shm") if os.access("/dev/shm", os.W_OK) else Path("/tmp"),
        help="folder for the data (default: tmpfs)",
    )
    parsed = parser.parse_args(arguments)
    if parsed.list or not parsed.names:
        for case in (*CASES, *SURVEYS):
            print(f"{case.name:<26} {case.summary}")
        return 0 if parsed.list else 2
    surveys = [survey for survey in SURVEYS if survey.name in parsed.names]
    names = set(parsed.names) - {survey.name for survey in surveys}
    chosen = [case for case in CASES if case.name.startswith(tuple(names))]
    unknown = [n for n in names if not any(case.name.startswith(n) for case in CASES)]
    if unknown:
        parser.error(f"no case is named {', '.join(unknown)}; see --list")
    if (parsed.blocks is not None and parsed.blocks < 1) or parsed.scale <= 0:
        parser.error("--blocks and --scale must be positive")
    # What is configured here must decide nothing there.
    for name in list(os.environ):
        if name.startswith(("MLFLOW_", "_MLFLOW_", "AWS_", "AZURE_")):
            del os.environ[name]
    os.environ.update(MLFLOW_DISABLE_TELEMETRY="true", MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR="false")
    # As pip leaves an installed package: else its first import would be measured as a compilation.
    compileall.compile_dir(Path(mlflow_plugins_pack.__file__).parent, quiet=1)

    options = Options(
        parsed.blocks, parsed.scale, parsed.work, lambda line: print(f"  {line}", file=sys.stderr)
    )
    facts = machine(parsed.work)
    for key, value in facts.items():
        print(f"{key + ':':<8} {value}")
    documents = []
    for case in chosen:
        print(f"{case.name}: {case.summary}", file=sys.stderr)
        figures = case.run(options, options.blocks or case.blocks)
        documents.append(document(case.name, options, figures))
        print(f"\n{table(case.name, figures)}", flush=True)
    for survey in surveys:
        print(f"{survey.name}: {survey.summary}", file=sys.stderr)
        text = survey.run(options, parsed.only)
        print(f"\n{text}", flush=True)
        if parsed.write:
            _replace_figures(parsed.write, facts, text)
    if parsed.json:
        parsed.json.write_text(json.dumps({"machine": facts, "cases": documents}, indent=2) + "\n")
    return 0


def _replace_figures(page: Path, facts: dict[str, object], text: str) -> None:
    """Write tables into a page below its prose, which ends where the figures' origin begins."""
    names = ("python", "mlflow", "pack", "when")
    where = ", ".join(f"{name} {facts[name]}" for name in names)
    prose = page.read_text().partition("\npython ")[0] if page.exists() else "# Measured\n"
    page.write_text(f"{prose}\n{where}\n\n{text}\n")


if __name__ == "__main__":
    sys.exit(main())
