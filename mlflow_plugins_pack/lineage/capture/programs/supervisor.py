"""Looks at each file that an observed program opens, and reports it: a process of its own.

It is apart from the process that has the run, so that neither waits for the other: the observed
program goes on whatever becomes of that one, and no lock of that one delays an opened file. It ends
when no observed process is left, which may be long after the program: a service that the program
left behind can open files only while this answers.
"""

from __future__ import annotations

import json
import mmap
import os
import posixpath
import select
import struct
import time
from dataclasses import dataclass, field

from mlflow_plugins_pack.lineage.capture.child_spool import Writer
from mlflow_plugins_pack.lineage.capture.event import MOVE, READ, WRITE, Event
from mlflow_plugins_pack.lineage.capture.noise_filter import NoiseFilter
from mlflow_plugins_pack.lineage.capture.programs import seccomp
from mlflow_plugins_pack.lineage.files import FileState, file_state, is_same_content

VIA = "seccomp"
SHARED = struct.Struct("=QQ")
"""What the starting process can read at any time: the notification in hand, and how many calls
could not be looked at."""

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_TRUNC | os.O_APPEND
_OF_PROGRAMS = ("bin", "conf", "etc", "include", "jmods", "lib", "lib64", "libexec", "share")
"""Folders next to a program's ``bin`` that hold its own parts."""
_PLACES_LIMIT = 200_000


@dataclass(frozen=True)
class Task:
    """What the starting process asks for.

    Attributes:
        folder: Of the spool.
        home: The user's home folder.
        owners: Runs that the reports belong to.
        interpreter: Prefixes of Python installations, whose files are noise.
        include: Patterns that make a path data.
        exclude: Patterns that make a path noise.
    """

    folder: str
    home: str
    owners: tuple[str, ...]
    interpreter: tuple[str, ...]
    include: tuple[str, ...]
    exclude: tuple[str, ...]

    def encode(self) -> str:
        """Return it as an argument of a process."""
        lists = (self.owners, self.interpreter, self.include, self.exclude)
        return json.dumps([self.folder, self.home, *lists])

    @classmethod
    def decode(cls, text: str) -> Task:
        """Read what `encode` wrote."""
        folder, home, *lists = json.loads(text)
        owners, interpreter, include, exclude = map(tuple, lists)
        return cls(folder, home, owners, interpreter, include, exclude)


@dataclass
class Report:
    """Turns system calls into events, each of which is written once.

    Attributes:
        task: What is asked for.
        unseen: How many calls could not be looked at.
    """

    task: Task
    unseen: int = 0
    _memory: seccomp.Memory = field(default_factory=seccomp.Memory)
    _written: set[str] = field(default_factory=set)
    _known: set[tuple[str, str, FileState | None]] = field(default_factory=set)
    _undecided: dict[str, FileState] = field(default_factory=dict)

    def __post_init__(self) -> None:
        task = self.task
        self._writer = Writer(task.folder, task.owners)
        # What the pack itself writes in a Python program that captures, too.
        exclude = (*task.exclude, task.folder)
        self._noise = NoiseFilter(task.interpreter, task.home, task.include, exclude)
        self._mounts = _mounts("self")

    def look(self, handle: int, call: seccomp.Notification) -> None:
        """Report what a waiting call is about to do."""
        if call.call in (seccomp.OPEN, seccomp.OPENAT, seccomp.OPENAT2, seccomp.CREAT):
            self._opened(handle, call)
        else:
            self._named_otherwise(handle, call)

    def _opened(self, handle: int, call: seccomp.Notification) -> None:
        folder, address, flags = _opening(call)
        if call.call == seccomp.OPENAT2:
            flags = self._memory.number(call.process, flags) or 0
        path = self._path(call, folder, address)
        if path is None or not self._is_data(path, handle, call):
            return
        state = file_state(path)
        if not flags & _WRITES and not (flags & os.O_CREAT and state is None):
            if state is not None:
                self._emit(READ, path, state)
        elif flags & os.O_ACCMODE == os.O_RDWR and state is not None and not flags & os.O_TRUNC:
            # Databases open each file so. Whether it was only read shows at the end.
            self._undecided.setdefault(path, state)
        elif state is not None or not posixpath.lexists(path):
            self._written.add(path)
            self._emit(WRITE, path, state)

    def _named_otherwise(self, handle: int, call: seccomp.Notification) -> None:
        before, after = _naming(call)
        source = self._path(call, *before)
        target = self._path(call, *after)
        if source is None or target is None or not self._is_data(target, handle, call):
            return
        state = file_state(source)
        if state is None:
            return
        if call.call in (seccomp.RENAME, seccomp.RENAMEAT) and source in self._written:
            self._written.discard(source)
            self._emit(MOVE, target, None, source)
        else:
            self._emit(WRITE, target, None)
        self._written.add(target)

    def _path(self, call: seccomp.Notification, folder: int, address: int) -> str | None:
        """Return the absolute path that a call names; None if it is noise or cannot be known."""
        text = self._memory.text(call.process, address)
        if text is None:
            self.unseen += 1
            return None
        path = os.fsdecode(text)
        if not path.startswith("/"):
            place = "cwd" if folder == seccomp.AT_FDCWD else f"fd/{folder}"
            try:
                base = os.readlink(f"/proc/{call.process}/{place}")  # noqa: PTH115
            except OSError:
                self.unseen += 1
                return None
            path = posixpath.join(base, path)
        return posixpath.normpath(path)

    def _is_data(self, path: str, handle: int, call: seccomp.Notification) -> bool:
        if not self._noise.is_data(path) or self._is_part_of_program(path, call.process):
            return False
        # In a container, or after chroot, the same path names another file.
        same = _mounts(call.process) == self._mounts
        if not seccomp.is_waiting(handle, call):
            return False
        self.unseen += not same
        return same

    def _is_part_of_program(self, path: str, process: int) -> bool:
        try:
            program = os.readlink(f"/proc/{process}/exe")  # noqa: PTH115
        except OSError:
            return False
        folder, name = posixpath.split(posixpath.dirname(program))
        return (
            name in ("bin", "sbin")
            and folder != "/"
            and path.startswith(tuple(f"{folder}/{part}/" for part in _OF_PROGRAMS))
        )

    def _emit(
        self, kind: str, path: str, state: FileState | None, source: str | None = None
    ) -> None:
        key = (kind, path, state)
        if key in self._known and kind != MOVE:
            return
        if len(self._known) >= _PLACES_LIMIT:
            self._known.clear()
        self._known.add(key)
        now = time.monotonic_ns()
        self._writer.write(Event(now, kind, path, VIA, self.task.owners, 0, state, source=source))

    def decide(self) -> None:
        """Report the files that were opened for both, as what they turned out to be."""
        for path, before in self._undecided.items():
            if path not in self._written:
                self._emit(READ, path, before)
            if not is_same_content(before, file_state(path)):
                self._emit(WRITE, path, before)
        self._undecided.clear()


def _mounts(process: int | str) -> tuple[int, str] | None:
    """Return what says whether a path means the same to two processes; None if they have ended."""
    try:
        place = os.stat(f"/proc/{process}/ns/mnt").st_ino  # noqa: PTH116
        return place, os.readlink(f"/proc/{process}/root")  # noqa: PTH115
    except OSError:
        return None


def _signed(argument: int) -> int:
    return (argument & 0xFFFFFFFF) - ((argument & 0x80000000) << 1)


def _opening(call: seccomp.Notification) -> tuple[int, int, int]:
    """Return folder, address of the path, and flags (of `openat2`: their address)."""
    first, second, third, *_ = call.arguments
    if call.call == seccomp.OPEN:
        return seccomp.AT_FDCWD, first, second
    if call.call == seccomp.CREAT:
        return seccomp.AT_FDCWD, first, os.O_CREAT | os.O_WRONLY | os.O_TRUNC
    return _signed(first), second, third


def _naming(call: seccomp.Notification) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return folder and address of the path, of the old name and of the new one."""
    first, second, third, fourth, *_ = call.arguments
    if call.call in (seccomp.RENAME, seccomp.LINK):
        return (seccomp.AT_FDCWD, first), (seccomp.AT_FDCWD, second)
    return (_signed(first), second), (_signed(third), fourth)


def observe(handle: int, shared: int, ready: int, process: int, task: Task) -> None:
    """Answer every call until no process is left that makes any; report until the program ends.

    Args:
        handle: Of the filter.
        shared: Of a file of `SHARED`.
        ready: A pipe: a byte says that calls are answered from now on, its end that all is written.
        process: Of the program.
        task: What is asked for.
    """
    facts = seccomp.machine()
    memory = mmap.mmap(shared, SHARED.size)
    report = Report(task)
    # One that this takes over from may have ended with a call in hand.
    if left := SHARED.unpack(memory[:])[0]:
        seccomp.let_continue(handle, seccomp.Notification(left, 0, "", ()))
    poll = select.poll()
    poll.register(handle, select.POLLIN)
    try:
        program = os.pidfd_open(process)
        poll.register(program, select.POLLIN)
    except OSError:
        program = -1  # it has ended
    seccomp.prefer_one_processor(handle)
    os.write(ready, b"+")
    reports = True
    while True:
        seen = dict(poll.poll())
        if reports and (program in seen or program < 0):
            report.decide()
            os.close(ready)
            reports = False
            if program >= 0:
                poll.unregister(program)
        if seen.get(handle, 0) & select.POLLIN:
            if (call := seccomp.receive(handle, facts)) is not None:
                SHARED.pack_into(memory, 0, call.id, report.unseen)
                try:
                    if reports:
                        report.look(handle, call)
                except Exception:  # noqa: BLE001  # whatever it is, the program goes on
                    report.unseen += 1
                finally:
                    seccomp.let_continue(handle, call)
                    SHARED.pack_into(memory, 0, 0, report.unseen)
        elif seen.get(handle, 0) & (select.POLLHUP | select.POLLERR):
            return


def let_all_continue(handle: int, shared: int, program: int) -> None:
    """Answer every call until the program ends, without looking at any: the last resort.

    Args:
        handle: Of the filter.
        shared: Of a file of `SHARED`.
        program: Descriptor of the program, as of `os.pidfd_open`.
    """
    facts = seccomp.machine()
    if left := SHARED.unpack(os.pread(shared, SHARED.size, 0))[0]:
        seccomp.let_continue(handle, seccomp.Notification(left, 0, "", ()))
    poll = select.poll()
    poll.register(handle, select.POLLIN)
    poll.register(program, select.POLLIN)
    while program not in (seen := dict(poll.poll())):
        if seen.get(handle, 0) & select.POLLIN:
            if (call := seccomp.receive(handle, facts)) is not None:
                seccomp.let_continue(handle, call)
        else:
            return


def has_ended(program: int) -> bool:
    """Return whether the process of a descriptor has ended."""
    return bool(select.select([program], [], [], 0)[0])


def main(arguments: list[str]) -> None:
    """Run `observe` with the arguments of a command line."""
    handle, shared, ready, process = map(int, arguments[:4])
    observe(handle, shared, ready, process, Task.decode(arguments[4]))
