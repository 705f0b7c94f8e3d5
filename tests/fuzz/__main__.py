"""Runs every place with much odd input: ``python -m tests.fuzz [COUNT [SEED [ROOM]]]``.

COUNT inputs for each place, 1000 by default; SEED is random by default; ROOM is one of server,
artifacts, sign-in and lineage. Exits with 1 if an input had a wrong effect, and prints which.
"""

from __future__ import annotations

import logging
import os
import random
import sys
import tempfile
import time
import warnings
from pathlib import Path

from tests.fuzz.support.everywhere import ROOMS, places
from tests.fuzz.support.running import FuzzError, run


def main(count: int = 1000, seed: int | None = None, *rooms: str) -> int:
    seed = random.randrange(1 << 32) if seed is None else seed
    failed = 0
    logging.disable()  # of warnings about the input
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as name:
        os.environ.update(
            HOME=name, XDG_STATE_HOME=f"{name}/state", MLFLOW_DISABLE_TELEMETRY="true"
        )
        os.environ["MLFLOW_PACK_LINEAGE_ENABLED"] = "false"
        for room in rooms or ROOMS:
            folder = Path(name) / room
            folder.mkdir()
            with places(room, folder) as found:
                for place in found:
                    began, inputs = time.monotonic(), max(1, count * min(place.speed, 10) // 10)
                    said = "ok"
                    try:
                        run(place, inputs, seed)
                    except FuzzError as exc:
                        failed, said = failed + 1, str(exc)
                    spent = time.monotonic() - began
                    sys.stdout.write(
                        f"{room}: {place.name}: {inputs} inputs, {spent:.0f} s: {said}\n"
                    )
                    sys.stdout.flush()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:3]), *sys.argv[3:]))
