"""Runs a test suite of others twice, without and with something of ours, and compares the outcomes.

For scripts, not modules: such suites often have a package ``tests`` of their own, so that this file
is imported from its folder.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from xml.etree import ElementTree

_ROUNDS = 3

Outcomes = dict[str, str]


def outcomes(report: Path, arguments: list[str], environment: Mapping[str, str]) -> Outcomes:
    """Run pytest in the working directory; return the outcome of each test by its name.

    Args:
        report: A file that may be written.
        arguments: For pytest.
        environment: What is added to this process's environment; `PYTHONPATH` goes in front.
    """
    report.unlink(missing_ok=True)
    paths = (environment.get("PYTHONPATH"), os.environ.get("PYTHONPATH"))
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"),
            *(f"--junitxml={report}", *arguments),
        ],
        env={**os.environ, **environment, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
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


def compare(
    name: str, what: str, arguments: list[str], run: Callable[[list[str], bool], Outcomes]
) -> int:
    """Compare; return how many tests differ each time, since some of any suite fail now and then.

    Args:
        name: The suite's name.
        what: What is off in the first run of each round and on in the second.
        arguments: For pytest.
        run: Runs pytest with arguments, off or on.
    """
    differing: set[str] = set()
    for number in range(_ROUNDS):
        chosen = list(arguments)
        if number:
            words = {test.partition("::")[2].partition("[")[0] for test in differing}
            chosen += ["-k", " or ".join(sorted(words))]
        off, on = (run(chosen, side) for side in (False, True))
        if not number:
            for side, found in (("off", off), ("on", on)):
                counts = ", ".join(f"{n} {k}" for k, n in sorted(Counter(found.values()).items()))
                _say(f"{name}: {what} {side}: {counts}")
        now = {test for test in {*off, *on} if off.get(test) != on.get(test)}
        differing = now if not number else differing & now
        for test in sorted(differing):
            _say(f"  {test}: {off.get(test)} without, {on.get(test)} with the {what}")
        if not differing:
            break
    _say(f"{name}: {len(differing)} differ each time")
    return len(differing)


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
