"""The kernel's own interface for one process to see the system calls of others; Linux only.

A filter in the observed process stops it in each call that opens or renames a file, until the
observer, which has the filter's descriptor, lets it continue. It needs neither root nor a compiler;
who may not gain privileges by it gives up those of set-user-ID programs. See seccomp(2),
seccomp_unotify(2) and linux/seccomp.h. A filter stays with the process and its children for ever.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import struct
from typing import NamedTuple

OPEN = "open"
OPENAT = "openat"
OPENAT2 = "openat2"
CREAT = "creat"
RENAME = "rename"
RENAMEAT = "renameat"
LINK = "link"
LINKAT = "linkat"
MOVES_ROOT = "moves root"
"""A call after which the paths of a process may name other files."""

AT_FDCWD = -100
PATH_BYTES = 4096

_PR_SET_NO_NEW_PRIVS = 38
_SET_MODE_FILTER = 1
_NEW_LISTENER = 1 << 3
_WAIT_KILLABLE = 1 << 5
_CONTINUE = 1
_RECEIVE = 0xC0502100
_SEND = 0xC0182101
_ID_VALID = 0x40082102
_SET_FLAGS = 0x40082104
_SYNC_WAKE_UP = 1
_NOTIFICATION = struct.Struct("=QIIiIQ6Q")
_RESPONSE = struct.Struct("=QqiI")

# struct sock_filter: code, jt, jf, k. See linux/filter.h.
_INSTRUCTION = struct.Struct("=HBBI")
_LOAD, _EQUAL, _ANY_BIT, _RETURN = 0x20, 0x15, 0x45, 0x06
_ALLOW, _NOTIFY = 0x7FFF0000, 0x7FC00000
_NR, _ARCH, _ARGUMENTS = 0, 4, 16

_O_PATH = 0o10000000
_PIECE = struct.Struct("=QQ")  # struct iovec: address, length
_SHORT_BYTES = 128


class Machine(NamedTuple):
    """What differs between processors.

    Attributes:
        audit_arch: How the kernel calls it in a filter.
        seccomp: Number of the system call of that name.
        calls: Number to name of the system calls that are observed.
    """

    audit_arch: int
    seccomp: int
    calls: dict[int, str]


# The last four of each: pivot_root, chroot, unshare, setns.
_MACHINES = {
    "x86_64": Machine(
        0xC000003E,
        317,
        {
            2: OPEN,
            85: CREAT,
            257: OPENAT,
            437: OPENAT2,
            82: RENAME,
            264: RENAMEAT,
            316: RENAMEAT,
            86: LINK,
            265: LINKAT,
            **dict.fromkeys((155, 161, 272, 308), MOVES_ROOT),
        },
    ),
    "aarch64": Machine(
        0xC00000B7,
        277,
        {
            56: OPENAT,
            437: OPENAT2,
            38: RENAMEAT,
            276: RENAMEAT,
            37: LINKAT,
            **dict.fromkeys((41, 51, 97, 268), MOVES_ROOT),
        },
    ),
}
_FLAGS_ARGUMENT = {OPEN: 1, OPENAT: 2}


class UnavailableError(Exception):
    """The kernel, the processor or a container's rules do not allow it; the text says which."""


class Notification(NamedTuple):
    """A system call in which a process waits.

    Attributes:
        id: Names it in the answer.
        process: Identifier of the thread that makes the call.
        call: Its name, one of this module's constants.
        arguments: Six numbers; addresses are those of the process.
    """

    id: int
    process: int
    call: str
    arguments: tuple[int, ...]


def machine() -> Machine:
    """Return the facts of this machine.

    Raises:
        UnavailableError: If its system or processor is not known here.
    """
    system = os.uname()
    found = _MACHINES.get(system.machine) if system.sysname == "Linux" else None
    if found is None:
        raise UnavailableError(f"{system.sysname} on {system.machine} is not supported")
    # 5.8 says when a filter is no longer used; without that an observer would never end.
    release = tuple(int(part) for part in system.release.split("-")[0].split(".")[:2])
    if release < (5, 8):
        raise UnavailableError(f"Linux {system.release} is older than 5.8")
    return found


def filter_program(facts: Machine) -> bytes:
    """Return the filter: the observed calls wait, all else runs without delay.

    Calls in another machine's convention, such as 32-bit ones, run without delay, too. So does
    opening a folder, or a file that is neither read nor written.
    """
    tests = sorted(facts.calls.items())
    program = [(_LOAD, 0, 0, _ARCH), (_EQUAL, 1, 0, facts.audit_arch), (_RETURN, 0, 0, _ALLOW)]
    program.append((_LOAD, 0, 0, _NR))
    for number, name in tests:
        if (argument := _FLAGS_ARGUMENT.get(name)) is None:
            program += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _NOTIFY)]
            continue
        ignored = os.O_DIRECTORY | _O_PATH
        program += [
            (_EQUAL, 0, 4, number),
            (_LOAD, 0, 0, _ARGUMENTS + 8 * argument),  # the lower half: both are little-endian
            (_ANY_BIT, 0, 1, ignored),
            (_RETURN, 0, 0, _ALLOW),
            (_RETURN, 0, 0, _NOTIFY),
        ]
    program.append((_RETURN, 0, 0, _ALLOW))
    return b"".join(_INSTRUCTION.pack(*instruction) for instruction in program)


def observe_this_process() -> int:
    """Put the filter on this process and its future children.

    Returns:
        The descriptor of the filter, for the observer. Until that one answers, this process must
        make none of the observed calls.

    Raises:
        UnavailableError: If the kernel or a container's rules do not allow it.
    """
    facts = machine()
    code = filter_program(facts)
    buffer = ctypes.create_string_buffer(code, len(code))
    # struct sock_fprog, with the padding that a pointer needs
    described = struct.pack("=H6xQ", len(code) // _INSTRUCTION.size, ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)

    def install(flags: int) -> int:
        return int(
            libc.syscall(
                ctypes.c_long(facts.seccomp),
                ctypes.c_ulong(_SET_MODE_FILTER),
                ctypes.c_ulong(flags),
                described,
            )
        )

    # The second of them since 5.19: a signal does not interrupt a call that is being looked at.
    wanted = (_NEW_LISTENER | _WAIT_KILLABLE, _NEW_LISTENER)
    for flags in wanted:
        handle = install(flags)
        if handle < 0 and ctypes.get_errno() == errno.EACCES:
            # Not root: the kernel asks that set-user-ID programs give no privileges.
            if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
                break
            handle = install(flags)
        if handle >= 0:
            return handle
        if ctypes.get_errno() != errno.EINVAL:
            break
    code_name = errno.errorcode.get(ctypes.get_errno(), "?")
    why = {
        "EBUSY": "another program observes this process already",
        "EINVAL": "the kernel was built without it",
        "ENOSYS": "the kernel was built without it, or a container forbids it",
        "EPERM": "a container forbids it",
    }
    raise UnavailableError(f"{why.get(code_name, 'the kernel refused')} ({code_name})")


def prefer_one_processor(handle: int) -> None:
    """Have the kernel run observer and observed in turns on one processor, which is quicker.

    Since Linux 6.6; does nothing on older ones.
    """
    with contextlib.suppress(OSError):
        fcntl.ioctl(handle, _SET_FLAGS, _SYNC_WAKE_UP)


def receive(handle: int, facts: Machine) -> Notification | None:
    """Return the next waiting call; None if its process has ended meanwhile.

    Raises:
        OSError: If the filter's descriptor is unusable.
    """
    buffer = bytearray(_NOTIFICATION.size)
    try:
        fcntl.ioctl(handle, _RECEIVE, buffer, True)
    except (FileNotFoundError, InterruptedError):
        return None
    number, process, _, call, _, _, *arguments = _NOTIFICATION.unpack(buffer)
    return Notification(number, process, facts.calls.get(call, ""), tuple(arguments))


def is_waiting(handle: int, notification: Notification) -> bool:
    """Return whether the process still waits: only then was what was read about it its own."""
    try:
        fcntl.ioctl(handle, _ID_VALID, struct.pack("=Q", notification.id))
    except OSError:
        return False
    return True


def let_continue(handle: int, notification: Notification) -> None:
    """Let the process make its call as if it had not been looked at."""
    with contextlib.suppress(FileNotFoundError):  # it was killed
        fcntl.ioctl(handle, _SEND, _RESPONSE.pack(notification.id, 0, 0, _CONTINUE))


class Memory:
    """Reads texts from the memory of other processes of this user."""

    def __init__(self) -> None:
        read = ctypes.CDLL(None, use_errno=True).process_vm_readv
        number, count = ctypes.c_void_p, ctypes.c_ulong
        read.argtypes = (ctypes.c_int, number, count, number, count, count)
        read.restype = ctypes.c_ssize_t
        self._call = read
        self._buffer = ctypes.create_string_buffer(PATH_BYTES)
        self._start = ctypes.addressof(self._buffer)
        self._local = _PIECE.pack(self._start, PATH_BYTES)
        self._page = os.sysconf("SC_PAGE_SIZE")

    def _read(self, process: int, address: int, size: int) -> bytes:
        # Two pieces, cut where a page ends: the next page need not exist.
        first = min(size, self._page - address % self._page)
        pieces, count = _PIECE.pack(address, first), 1
        if size > first:
            pieces, count = pieces + _PIECE.pack(address + first, size - first), 2
        got = self._call(process, self._local, 1, pieces, count, 0)
        return ctypes.string_at(self._start, got) if got > 0 else b""

    def text(self, process: int, address: int) -> bytes | None:
        """Return a text that ends in a zero byte; None if it cannot be read."""
        # Nearly all are short, and each byte is copied.
        for size in (_SHORT_BYTES, PATH_BYTES):
            text, zero, _ = self._read(process, address, size).partition(b"\0")
            if zero:
                return text
        return None

    def number(self, process: int, address: int) -> int | None:
        """Return a number of 64 bits; None if it cannot be read."""
        found = self._read(process, address, 8)
        return int.from_bytes(found, "little") if len(found) == 8 else None
