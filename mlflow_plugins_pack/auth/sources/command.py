"""A secret printed by a program: no shell, bounded in time and output, its words redacted.

Understood outputs: a bare token; a JSON object with ``access_token`` and perhaps ``expires_in``
(RFC 6749, section 5.1); kubectl's ``ExecCredential`` (client.authentication.k8s.io).
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import threading
import time
from datetime import datetime, timezone
from typing import IO, Any

from mlflow_plugins_pack.auth.credentials.contracts import SecretReading, SourceError
from mlflow_plugins_pack.auth.credentials.lifetime import parse_lifetime
from mlflow_plugins_pack.auth.credentials.secret import Secret

_LARGEST_BYTES = 64 * 1024
_AFTER_EXIT_SECONDS = 0.5
_AFTER_KILL_SECONDS = 0.2


class CommandReader:
    """A program and its arguments."""

    def __init__(self, command: list[str], timeout_seconds: float) -> None:
        self._command, self._timeout_seconds = command, timeout_seconds

    def stamp(self) -> object:
        """Return a constant: only the expiry or a refusal makes the program run again."""
        return None

    def read(self) -> SecretReading:
        """Run the program."""
        output = _run(self._command, self._timeout_seconds)
        try:
            text = output.decode("utf-8").strip()
        except UnicodeDecodeError:
            text = ""
        if not text:
            raise SourceError(f"the program {self._command[0]} printed no token (UTF-8 text)")
        try:
            return parse_output(text, time.time())
        except ValueError as exc:
            raise SourceError(f"the answer of {self._command[0]} is unusable: {exc}") from None


def parse_output(text: str, now: float) -> SecretReading:
    """Read what a program printed.

    Args:
        text: Its standard output without blanks around.
        now: Seconds since the epoch, to turn a moment of expiry into a life.

    Returns:
        The token.

    Raises:
        ValueError: If it is JSON of another form.
    """
    if not text.startswith("{"):
        return SecretReading(Secret(text))
    document: Any = None
    with contextlib.suppress(ValueError, RecursionError):
        document = json.loads(text)
    if not isinstance(document, dict):
        raise ValueError("it starts with { and is not JSON")
    if document.get("kind") == "ExecCredential":
        return _parse_exec_credential(document, now)
    token = document.get("access_token")
    if not isinstance(token, str) or not token:
        raise ValueError("its JSON has no access_token")
    return SecretReading(Secret(token), parse_lifetime(document.get("expires_in")))


def _parse_exec_credential(document: dict[str, Any], now: float) -> SecretReading:
    version = str(document.get("apiVersion"))
    if not version.startswith("client.authentication.k8s.io/"):
        raise ValueError("its ExecCredential has an unknown apiVersion")
    status = document.get("status")
    token = status.get("token") if isinstance(status, dict) else None
    if not isinstance(status, dict) or not isinstance(token, str) or not token:
        raise ValueError("its ExecCredential has no status.token")
    ends = status.get("expirationTimestamp")
    if ends is None:
        return SecretReading(Secret(token))
    try:
        moment = datetime.fromisoformat(str(ends).replace("Z", "+00:00"))
    except ValueError:
        raise ValueError("its expirationTimestamp is not an RFC 3339 time") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=timezone.utc)
    left = moment.timestamp() - now
    if left <= 0:
        raise ValueError("its token has expired already; is this machine's clock right?")
    return SecretReading(Secret(token), parse_lifetime(left))


def _run(command: list[str], timeout_seconds: float) -> bytes:
    try:
        process = subprocess.Popen(  # noqa: S603 - from a file that only its owner may write
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=os.sep,  # a relative entry of PATH must not point into the current directory
            start_new_session=True,
        )
    except (OSError, ValueError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "a bad argument"
        raise SourceError(f"the program {command[0]} cannot be started: {reason}") from None
    problem = "was interrupted"
    try:
        output, errors, problem = _collect(process, timeout_seconds)
    finally:
        if problem:  # one that ended well may leave an agent running
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
        _release(process)
    if not problem and process.returncode:
        problem = f"ended with exit code {process.returncode}"
    if problem:
        detail = (
            "; what it wrote to standard error is not shown, since it may hold a secret: run it "
            "yourself to read it"
        )
        raise SourceError(f"the program {command[0]} {problem}{detail if errors else ''}")
    return output


def _collect(process: subprocess.Popen[bytes], timeout_seconds: float) -> tuple[bytes, bytes, str]:
    """Return standard output, standard error and what went wrong, if anything."""
    assert process.stdout is not None  # noqa: S101 - Popen was given pipes
    assert process.stderr is not None  # noqa: S101
    buffers: dict[IO[bytes], bytearray] = {process.stdout: bytearray(), process.stderr: bytearray()}
    deadline = time.monotonic() + timeout_seconds
    problem = ""
    with selectors.DefaultSelector() as selector:
        for pipe in buffers:
            os.set_blocking(pipe.fileno(), False)
            selector.register(pipe, selectors.EVENT_READ)
        exited_at: float | None = None
        while selector.get_map():
            now = time.monotonic()
            if now >= deadline:
                problem = f"did not end within {timeout_seconds:g} s and was given up"
                break
            if exited_at is None and process.poll() is not None:
                exited_at = now
            # A child of the program may keep the pipes open for ever after the program ended.
            if exited_at is not None and now - exited_at > _AFTER_EXIT_SECONDS:
                break
            for key, _ in selector.select(min(0.1, deadline - now)):
                pipe = key.fileobj  # type: ignore[assignment]
                data = pipe.read(_LARGEST_BYTES) or b""
                if not data:
                    selector.unregister(pipe)
                elif pipe is process.stderr:
                    buffers[pipe] = (buffers[pipe] + data)[:_LARGEST_BYTES]
                else:
                    buffers[pipe] += data
            if len(buffers[process.stdout]) > _LARGEST_BYTES:
                problem = "printed more than 64 KiB and was stopped"
                break
    if not problem:
        try:
            process.wait(max(0.05, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            problem = f"did not end within {timeout_seconds:g} s and was given up"
    return bytes(buffers[process.stdout]), bytes(buffers[process.stderr]), problem


def _release(process: subprocess.Popen[bytes]) -> None:
    """Close the pipes, and take note of the program's end.

    One that became another user (setuid, sudo) cannot be killed, and one that waits for a disk does
    not die: a thread waits for it, not the caller.
    """
    for pipe in (process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()
    try:
        process.wait(_AFTER_KILL_SECONDS)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(RuntimeError):  # the interpreter is ending
            threading.Thread(target=process.wait, daemon=True).start()
