"""A mounted file system that can be stopped, so that it answers nothing any more.

The server speaks the protocol of FUSE by itself (``include/uapi/linux/fuse.h`` of Linux), so that
only the right to mount is needed, and no library.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_LOOKUP, _FORGET, _GETATTR, _OPEN, _READ, _INIT = 1, 2, 3, 14, 15, 26
_OPENDIR, _BATCH_FORGET, _INTERRUPT = 27, 42, 36
_UNANSWERED = (_FORGET, _BATCH_FORGET, _INTERRUPT)
_ROOT, _FILE = 1, 2
_NO_ENTRY, _NO_SYSTEM_CALL = -2, -38
_LAZILY = 2


@dataclass
class Mount:
    """A folder with one file in it.

    Attributes:
        file: The file.
        server: Id of the process that answers; one that is stopped does not.
    """

    file: Path
    server: int


@contextlib.contextmanager
def stopping_mount(folder: Path, name: str, content: bytes) -> Iterator[Mount | None]:
    """Mount a file system over a folder; None where that is not allowed."""
    libc = ctypes.CDLL(None, use_errno=True)
    try:
        device = os.open("/dev/fuse", os.O_RDWR)
    except OSError:
        yield None
        return
    options = f"fd={device},rootmode=40000,user_id={os.getuid()},group_id={os.getgid()}"
    where = os.fsencode(folder)
    if libc.mount(b"test", where, b"fuse", 0, options.encode()):
        os.close(device)
        yield None
        return
    server = subprocess.Popen(
        [sys.executable, __file__, str(device), name, content.hex()], pass_fds=(device,)
    )
    os.close(device)
    try:
        yield Mount(folder / name, server.pid)
    finally:
        server.send_signal(signal.SIGCONT)
        server.kill()
        server.wait()
        libc.umount2(where, _LAZILY)


def serve(device: int, name: bytes, content: bytes) -> None:
    """Answer the kernel until the file system is unmounted."""

    def attributes(node: int) -> bytes:
        mode, size = (0o040755, 0) if node == _ROOT else (0o100644, len(content))
        times = (0,) * 3 + (0,) * 3
        return struct.pack("<QQQ3Q3I7I", node, size, 1, *times, mode, 1, 0, 0, 0, 4096, 0)

    # What is known may not be remembered: each look has to ask.
    def answer(opcode: int, node: int, body: bytes) -> bytes | int:
        if opcode == _INIT:
            return struct.pack("<IIIIHHIIHHI7I", 7, 31, 0, 0, 0, 0, 1 << 16, 1, 0, 0, *(0,) * 8)
        if opcode == _LOOKUP:
            if body.rstrip(b"\0") != name:
                return _NO_ENTRY
            return struct.pack("<QQQQII", _FILE, 0, 0, 0, 0, 0) + attributes(_FILE)
        if opcode == _GETATTR:
            return struct.pack("<QII", 0, 0, 0) + attributes(node)
        if opcode in (_OPEN, _OPENDIR):
            return struct.pack("<QII", 0, 0, 0)
        if opcode == _READ:
            _, offset, size = struct.unpack_from("<QQI", body)
            return content[offset : offset + size]
        return _NO_SYSTEM_CALL

    while True:
        try:
            request = os.read(device, 1 << 17)
        except OSError:
            return
        _, opcode, unique, node = struct.unpack_from("<IIQQ", request)
        if opcode in _UNANSWERED:
            continue
        found = answer(opcode, node, request[40:])
        error, body = (found, b"") if isinstance(found, int) else (0, found)
        os.write(device, struct.pack("<IiQ", 16 + len(body), error, unique) + body)


if __name__ == "__main__":
    serve(int(sys.argv[1]), os.fsencode(sys.argv[2]), bytes.fromhex(sys.argv[3]))
