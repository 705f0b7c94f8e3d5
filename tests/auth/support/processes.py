"""Several processes that ask for a profile's credential at once; prints what each got.

``python -m tests.auth.support.processes COUNT PROFILE``: forked from one that has imported all, so
that they start together.
"""

from __future__ import annotations

import os
import sys

from mlflow_plugins_pack.auth import manager


def main() -> None:
    count, profile = int(sys.argv[1]), sys.argv[2]
    start, go = os.pipe()
    children = []
    for _ in range(count):
        if (child := os.fork()) == 0:
            os.close(go)
            os.read(start, 1)  # returns when the parent has closed its end
            ((_, value),) = manager.get_manager().credential(profile).headers
            os.write(1, f"{value.reveal()[-20:]}\n".encode())
            os._exit(0)
        children.append(child)
    os.close(go)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    sys.exit(max(codes))


if __name__ == "__main__":
    main()
