"""Becomes the observed program.

Imports the standard library and `seccomp` only. The filter's descriptor goes through the socket to
the process that started this one; the program begins when that one answers.
"""

from __future__ import annotations

import os
import socket
import sys

from mlflow_plugins_pack.lineage.capture.programs import seccomp

NOT_FOUND, NOT_EXECUTABLE = 127, 126
"""Exit codes, as of a shell."""


def main(arguments: list[str]) -> None:
    """Run the program in place of this one.

    Args:
        arguments: The socket's number, the program, its arguments.
    """
    channel = socket.socket(fileno=int(arguments[0]))
    # The channel must not be open in the program.
    os.set_inheritable(channel.fileno(), False)
    try:
        handle = seccomp.observe_this_process()
    except seccomp.UnavailableError as exc:
        channel.sendall(str(exc).encode())
    else:
        socket.send_fds(channel, [b"+"], [handle])
        os.close(handle)
        channel.recv(1)
    try:
        os.execvp(arguments[1], arguments[1:])  # noqa: S606  # what the user asked for
    except FileNotFoundError:
        code, why = NOT_FOUND, "not found"
    except OSError as exc:
        code, why = NOT_EXECUTABLE, os.strerror(exc.errno or 0)
    sys.stderr.write(f"mlflow-pack: {arguments[1]}: {why}\n")
    sys.stderr.flush()
    os._exit(code)
