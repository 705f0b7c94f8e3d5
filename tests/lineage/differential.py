"""Runs whole scripts with the capture and without it, and compares all that can be told apart.

``python -m tests.lineage.differential [TEXT]`` does so for the scripts of benchmarks/corpus (or
those whose names hold TEXT), in some ten minutes: exit code, output, warnings with their places,
files written, metrics, parameters and tags. It prints each difference, and the table of
`python -m benchmarks lineage-coverage` for the scripts that ran; it exits with 1 if one differs.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.cases.lineage_coverage import (
    Outcome,
    Runner,
    Script,
    markdown,
    scripts,
    summary,
)

_VARYING = re.compile(
    r"\d{4}[-/]\d\d[-/]\d\d[ T]\d\d:\d\d:\d\d[.,\d]*|0x[0-9a-f]{6,}|[0-9a-f]{32}|\d+\.\d+ ?m?s\b"
    r"|[\d.]+(it|B|MB|kB|examples)/s|/tmp/\w+|pid=\d+"
)
_RANDOM = re.compile(r"[0-9a-f-]{36}|\d+-[0-9a-f-]{36}|part-[0-9a-f]{7,}-c000")
"""Random parts of files' names."""
_FORKS = ("use of fork", "os.fork()")
"""The text of a warning that depends on how many threads run; the worker is one."""


@dataclass
class Effects:
    """What a script did, as far as it is the same each time."""

    code: int
    output: list[str]
    warned: list[str]
    files: dict[str, str]
    runs: list[Any]


def effects(runner: Runner, script: Script, enabled: str) -> tuple[Effects, Outcome] | str:
    """Run a script; return what it did and what its runs list, or why it could not run."""
    experiment = f"{script.path.stem}-{enabled}"
    started = runner.start(
        script,
        experiment,
        MLFLOW_PACK_LINEAGE_ENABLED=enabled,
        PYTHONWARNINGS="always",
        PYTHONHASHSEED="0",
    )
    if isinstance(started, str):
        return started
    done, work = started
    text = [_same(line, runner, work) for line in done.stderr.splitlines()]
    did = Effects(
        done.returncode,
        [_same(line, runner, work) for line in done.stdout.splitlines()],
        sorted({line for line in text if re.search(r":\d+: \w*Warning", line)}),
        _files(work, runner),
        _runs(runner, experiment),
    )
    return did, runner.score(script, experiment, done, work)


def _same(line: str, runner: Runner, work: Path) -> str:
    return _VARYING.sub("-", line.replace(str(work), "WORK").replace(str(runner.data), "DATA"))


def _files(work: Path, runner: Runner) -> dict[str, str]:
    found = {}
    for path in sorted(work.rglob("*")):
        if path.is_file():
            name = _same(_RANDOM.sub("-", str(path)), runner, work)
            content = path.read_bytes()
            # Some formats hold the time, or a random number, but their size is the same.
            is_same = path.suffix in (".csv", ".json", ".txt", ".npy") and "_delta_log" not in name
            same = content if is_same else b""
            found[name] = f"{len(content) >> 8} {hashlib.sha256(same).hexdigest()[:12]}"
    return found


def _runs(runner: Runner, experiment: str) -> list[Any]:
    import mlflow

    client = mlflow.MlflowClient(runner.tracking_uri)
    found = client.get_experiment_by_name(experiment)
    return sorted(
        (
            [
                run.info.status,
                sorted(run.data.params.items()),
                sorted(name for name in run.data.metrics if "time" not in name),
                sorted(tag for tag in run.data.tags if not tag.startswith("lineage.")),
                sorted(
                    file.path
                    for file in client.list_artifacts(run.info.run_id)
                    if file.path != "lineage"
                ),
            ]
            for run in client.search_runs([found.experiment_id])
        ),
        key=str,
    )


def differences(off: Effects, on: Effects) -> dict[str, Any]:
    """Return what is not the same, by the name of the effect."""
    one, other = asdict(off), asdict(on)
    for side in (one, other):
        side["warned"] = [w for w in side["warned"] if not any(text in w for text in _FORKS)]
    return {name: (one[name], other[name]) for name in one if one[name] != other[name]}


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main(only: str = "") -> int:
    """Compare all scripts; return how many differ."""
    outcomes, different = [], 0
    with tempfile.TemporaryDirectory(prefix="differential-", ignore_cleanup_errors=True) as name:
        os.chmod(name, 0o755)
        with Runner(Path(name)) as runner:
            for script in scripts(only):
                off, on = (effects(runner, script, enabled) for enabled in ("false", "true"))
                if isinstance(off, str) or isinstance(on, str):
                    _say(f"{script.path.stem}: {off if isinstance(off, str) else on}")
                    continue
                outcomes.append(on[1])
                found = differences(off[0], on[0])
                different += bool(found)
                said = json.dumps(found) if found else "same"
                _say(f"{script.path.stem}: {said}; {summary(on[1])}")
    _say(markdown(outcomes))
    _say(f"{len(outcomes)} scripts compared, {different} differ")
    return different


if __name__ == "__main__":
    sys.exit(min(1, main(*sys.argv[1:2])))
