"""Becomes the observed program, in a process that was just forked."""

from __future__ import annotations

import os
import socket
import sys
from typing import NoReturn

from mlflow_plugins_pack.lineage.capture.programs import seccomp

NOT_FOUND, NOT_EXECUTABLE = 127, 126
"""Exit codes, as of a shell."""


def become(words: list[str], channel: socket.socket) -> NoReturn:
    """Run a program in place of this process.

    The filter's descriptor, or the reason why there is none, goes through the channel; with a
    filter, the program begins when the other end answers.

    Args:
        words: The program and its arguments.
        channel: To the observer.
    """
    try:
        handle = seccomp.observe_this_process()
    except seccomp.UnavailableError as exc:
        channel.sendall(str(exc).encode())
    else:
        socket.send_fds(channel, [b"+"], [handle])
        os.close(handle)
        channel.recv(1)
    try:
        os.execvp(words[0], words)  # noqa: S606  # what the user asked for
    except FileNotFoundError:
        code, why = NOT_FOUND, "not found"
    except OSError as exc:
        code, why = NOT_EXECUTABLE, os.strerror(exc.errno or 0)
    sys.stderr.write(f"mlflow-pack: {words[0]}: {why}\n")
    sys.stderr.flush()
    os._exit(code)
