"""Looks at each file that an observed program opens, and reports it: a process of its own.

It is apart from the process that has the run, so that neither waits for the other: the observed
program goes on whatever becomes of that one, and no lock of that one delays an opened file. It ends
when no observed process is left, which may be long after the program: a service that the program
left behind can open files only while this answers.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import posixpath
import re
import select
import socket
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from mlflow_plugins_pack.lineage.capture.child_spool import Writer
from mlflow_plugins_pack.lineage.capture.event import MOVE, READ, WRITE, Event
from mlflow_plugins_pack.lineage.capture.noise_filter import NoiseFilter
from mlflow_plugins_pack.lineage.capture.programs import launcher, seccomp
from mlflow_plugins_pack.lineage.files import FileState, file_state, is_same_content

VIA = "seccomp"
SHARED = struct.Struct("=QQ")
"""What the starting process can read at any time: the notification in hand, and how many calls
could not be looked at."""

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_TRUNC | os.O_APPEND
_OF_PROGRAMS = ("bin", "conf", "etc", "include", "jmods", "lib", "lib64", "libexec", "share")
"""Folders next to a program's ``bin`` that hold its own parts."""
_HAS_PARTS = re.compile(rf"/(?:{'|'.join(_OF_PROGRAMS)})/")
_PLACES_LIMIT = 200_000
_PROCESSES_LIMIT = 1_000


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
    _at_home: set[int] = field(default_factory=set)
    _may_move: bool = False

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
        elif call.call == seccomp.MOVES_ROOT:
            self._may_move = True
            self._at_home.clear()
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
        return posixpath.normpath(path) if "//" in path or "/." in path else path

    def _is_data(self, path: str, handle: int, call: seccomp.Notification) -> bool:
        if not self._noise.is_data(path) or self._is_part_of_program(path, call.process):
            return False
        # In a container, or after chroot, the same path names another file.
        same = call.process in self._at_home or _mounts(call.process) == self._mounts
        if not seccomp.is_waiting(handle, call):
            return False
        if same and not self._may_move:
            # Far fewer than the numbers that the kernel gives out before it begins again.
            if len(self._at_home) >= _PROCESSES_LIMIT:
                self._at_home.clear()
            self._at_home.add(call.process)
        self.unseen += not same
        return same

    def _is_part_of_program(self, path: str, process: int) -> bool:
        if not _HAS_PARTS.search(path):
            return False
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


class Observer:
    """Starts the program, answers its calls, and tells the process that has the run how it ends.

    It is the parent of the program, since some systems let a process look into its descendants only
    (see Yama in the kernel's documentation).

    Args:
        control: To the process that has the run. The first message has the program's process
            identifier and either the filter's descriptor or the reason why there is none; the
            second one has the program's exit status, after all that it opened was reported.
        shared: Of a file of `SHARED`.
        task: What is asked for.
    """

    def __init__(self, control: socket.socket, shared: int, task: Task) -> None:
        self._control = control
        self._memory = mmap.mmap(shared, SHARED.size)
        self._report = Report(task)
        self._handle = -1
        self._program = -1

    def start(self, words: list[str]) -> None:
        """Start the program, and leave what is its own to it: terminal, streams, open files."""
        here, there = socket.socketpair()
        self._program = os.fork()
        if self._program == 0:
            here.close()
            self._control.close()
            launcher.become(words, there)
        there.close()
        os.setsid()
        _release_files({self._control.fileno(), here.fileno()})
        os.chdir("/")
        said, handles, _, _ = socket.recv_fds(here, 400, 1)
        problem = "" if handles else said.decode(errors="replace") or "it ended at once"
        about = json.dumps([self._program, problem]).encode()
        socket.send_fds(self._control, [about], handles[:1])
        if handles:
            self._handle = handles[0]
            seccomp.prefer_one_processor(self._handle)
            here.sendall(b"+")
        here.close()

    def attend(self) -> None:
        """Report until the program ends; answer until no process is left that makes any call."""
        end = os.pidfd_open(self._program)
        if self._handle < 0:
            select.select([end], [], [])
            self._tell_end()
            return
        answers = _answers(self._handle, self._memory, self._look)
        poll = select.poll()
        poll.register(self._handle, select.POLLIN)
        poll.register(end, select.POLLIN)
        while end not in (seen := dict(poll.poll())):
            if seen[self._handle] & select.POLLIN:
                next(answers)
        self._report.decide()
        self._tell_end()
        answer_all(self._handle, self._memory)

    def _look(self, call: seccomp.Notification) -> int:
        try:
            self._report.look(self._handle, call)
        except Exception:  # noqa: BLE001  # whatever it is, the program goes on
            self._report.unseen += 1
        return self._report.unseen

    def _tell_end(self) -> None:
        status = os.waitpid(self._program, 0)[1]
        with contextlib.suppress(OSError):  # that process has ended
            self._control.sendall(json.dumps([status]).encode())
        self._control.close()


def _release_files(needed: set[int]) -> None:
    """Close every file that the program inherits, but not what is needed here."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for handle in (0, 1, 2):
        os.dup2(nothing, handle)
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208
        if int(name) > 2 and int(name) not in needed:
            with contextlib.suppress(OSError):
                os.close(int(name))


def _answers(
    handle: int, memory: mmap.mmap, look: Callable[[seccomp.Notification], int]
) -> Iterator[None]:
    """Answer one call a step."""
    facts = seccomp.machine()
    unseen = SHARED.unpack(memory[:])[1]
    while True:
        if (call := seccomp.receive(handle, facts)) is not None:
            SHARED.pack_into(memory, 0, call.id, unseen)
            try:
                unseen = look(call)
            finally:
                seccomp.let_continue(handle, call)
                SHARED.pack_into(memory, 0, 0, unseen)
        yield


def answer_all(handle: int, memory: mmap.mmap) -> None:
    """Let every call continue, without a look at it, until no process is left that makes any.

    Args:
        handle: Of the filter.
        memory: Of `SHARED`. A call that another observer had in hand when it was killed is
            answered first.
    """
    waiting, unseen = SHARED.unpack(memory[:])
    if waiting:
        seccomp.let_continue(handle, seccomp.Notification(waiting, 0, "", ()))
    answers = _answers(handle, memory, lambda _: unseen)
    poll = select.poll()
    poll.register(handle, select.POLLIN)
    while poll.poll()[0][1] & select.POLLIN:
        next(answers)


def main(arguments: list[str]) -> None:
    """Run as a process of its own.

    Args:
        arguments: Numbers of the control socket and of the shared file, the task, the program and
            its arguments; or ``answer`` and the numbers of the filter and of the shared file.
    """
    if arguments[0] == "answer":
        handle, shared = map(int, arguments[1:])
        answer_all(handle, mmap.mmap(shared, SHARED.size))
        return
    control, shared = map(int, arguments[:2])
    observer = Observer(socket.socket(fileno=control), shared, Task.decode(arguments[2]))
    observer.start(arguments[3:])
    observer.attend()
