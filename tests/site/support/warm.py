"""A process that has imported what ``mlflow-pack`` needs, and forks for each command.

``python -m tests.site.support.warm SOCKET`` serves `warm_client.py`: each connection brings the
client's arguments, folder, environment and its three open files, and gets the exit code.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import traceback

import mlflow.pyfunc
import mlflow.server.auth.client  # noqa: F401

import mlflow_plugins_pack.cli.approvals.group
import mlflow_plugins_pack.cli.artifacts.group
import mlflow_plugins_pack.cli.auth.group
import mlflow_plugins_pack.cli.doctor.command
import mlflow_plugins_pack.cli.lineage.group  # noqa: F401
from mlflow_plugins_pack.cli import main as entry


def serve(path: str) -> None:
    """Answer until the process is ended."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path + ".new")
    listener.listen()
    os.rename(path + ".new", path)
    while True:
        connection, _ = listener.accept()
        with connection:
            data, files, _, _ = socket.recv_fds(connection, 1 << 20, 3)
            child = os.fork()
            if child == 0:
                _run(json.loads(data), files)
            for file in files:
                os.close(file)
            _, status = os.waitpid(child, 0)
            connection.sendall(bytes([os.waitstatus_to_exitcode(status) & 0xFF]))


def _run(asked: dict[str, object], files: list[int]) -> None:
    status = 1
    try:
        for number, file in enumerate(files):
            os.dup2(file, number)
        sys.stdin, sys.stdout, sys.stderr = (os.fdopen(n, mode) for n, mode in enumerate("rww"))
        os.chdir(str(asked["folder"]))
        os.environ.clear()
        os.environ.update(asked["environment"])  # type: ignore[call-overload]
        sys.argv = ["mlflow-pack", *asked["arguments"]]  # type: ignore[misc]
        status = entry.main() or 0
    except SystemExit as exc:
        status = exc.code if isinstance(exc.code, int) else int(exc.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    serve(sys.argv[1])
