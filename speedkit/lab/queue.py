"""Turns on a machine that many kernels share: one comparison at a time, and who else is training there now.

Kernels on the same cores or the same GPU spoil each other's times. So a comparison waits until no other one goes on,
first come, first served, and every run shows for as long as it lasts. Both are files in a folder that all users of
the machine can write, ``SPEEDKIT_TURNS`` or ``speedkit-turns`` beside the other temporary files; ``ls -l`` shows them:

    wait-TIME-PROCESS-MARK   a comparison that waits, or whose turn it is; TIME in nanoseconds since 1970
    run-TIME-PROCESS-MARK    a process that trains
    turn                     empty, and left there: the comparison whose turn it is holds a lock on it

Neither a file's being there nor its content counts, but the lock that a process holds on it: the system drops it when
the process ends, however it ends. They are record locks, as POSIX has them, which belong to one process: forked workers
would inherit flock's and keep a dead kernel's turn. Two rules follow: in one process nobody opens its own files a
second time, because closing them would drop the lock, and all comparisons of a process share one place.

Nothing here is protected against a user who takes a place and keeps it on purpose: ``ls -l`` names that user.
"""

import contextlib
import math
import os
import re
import secrets
import stat
import threading
import time
from pathlib import Path
from typing import NamedTuple

import psutil

from speedkit import run
from speedkit.support.messages import _, ngettext
from speedkit.support.settings import queue_folder

try:
    import fcntl
except ImportError:  # Windows
    import msvcrt

    fcntl = None

WAIT, RUN = "wait", "run"
NAME = re.compile(r"(wait|run)-(\d{20})-(\d{1,10})-[0-9a-f]{8}")
READ = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0)
WRITE = os.O_RDWR | getattr(os, "O_NOFOLLOW", 0)
NAP = 0.1  # seconds after which a comparison that waits can be stopped
LOOK, RARELY = 0.25, 2.0  # seconds between two looks at the queue for each one ahead, and at most: thirty cost little
TRIES = 5  # at a folder that another process may just be making
BUSY = 2  # from so many times the cores on, a load average is called high

_own: set[str] = set()  # names of files that this process holds, or is about to


class Ticket(NamedTuple):
    """Another process's place in the queue, or its run: seconds since 1970, the process, and its user's name."""

    name: str
    since: float
    process: int
    user: str


class OtherProcesses(NamedTuple):
    """How many other processes train, and how many have a comparison that is going on or waits."""

    runs: int
    comparisons: int


# A comparison's turn


class Turn:
    """The turn of one comparison. A context manager: it ends with the block, also where it was still waited for.

    wanted: False for one that neither waits nor lets others wait, like a smoke run.
    """

    def __init__(self, wanted: bool = True):
        self.wanted = wanted
        self.waited = 0.0  # seconds, 0 where it came at once
        self.problem = ""  # why there was no waiting, where there should have been

    def __enter__(self):
        _queue.enter()
        return self

    def __exit__(self, *__):
        _queue.leave()

    def waiting(self):
        """Waits for the turn. A generator: it yields what it waits for, in words, some times a second.

        Where the folder cannot be used there is no waiting, and ``problem`` says why.
        """
        began, failures = time.monotonic(), 0
        while self.wanted:
            words, pause = "", NAP
            try:
                ahead = _queue.ahead()
                if not ahead:
                    return
                failures = 0
                words, pause = _words(ahead), min(RARELY, LOOK * len(ahead))
            except OSError as error:
                failures += 1
                if failures == TRIES:
                    self.problem = f"{error.filename or 'a lock'}: {error.strerror or type(error).__name__}"
                    return
            looked = time.monotonic()
            while time.monotonic() - looked < pause:
                if words:
                    yield words
                time.sleep(NAP)
                if words:
                    self.waited = time.monotonic() - began


def _words(ahead):
    words = ngettext(
        "waiting for {n} other comparison on this machine",
        "waiting for {n} other comparisons on this machine",
        len(ahead),
    )
    came = time.strftime("%H:%M", time.localtime(ahead[0].since)) if ahead[0].since else ""
    return f"{words} {_('(the first came at {time})', time=came)}" if came else words


class Presence:
    """A file of this process, kept for as long as anything in the process needs it."""

    def __init__(self, kind):
        self.kind, self.guard, self.holders, self.file, self.path = kind, threading.RLock(), 0, None, None

    def enter(self):
        with self.guard:
            self.holders += 1

    def leave(self):
        with self.guard:
            self.holders = max(0, self.holders - 1)
            if not self.holders:
                self.drop()

    def show(self):
        """Makes the file, unless it is there.

        Raises:
            OSError: it cannot be made, or not be locked.
        """
        with self.guard:
            place = folder()
            for __ in range(TRIES):
                if self.file is not None or place is None:
                    return
                self.path = place / f"{self.kind}-{time.time_ns():020d}-{os.getpid()}-{secrets.token_hex(4)}"
                _own.add(self.path.name)
                try:
                    self.file = open(self.path, "xb", buffering=0)  # noqa: SIM115 (its lock ends with it)
                    self.path.chmod(0o644)
                    # Whoever looked between these lines took it for a dead process's and removed it.
                    if _try_lock(self.file.fileno()) and _is(self.path, self.file.fileno()):
                        return
                except BaseException:
                    self.drop()
                    raise
                self.drop()
            raise OSError(None, "a file there was removed again and again", str(place))

    def drop(self):
        """Removes the file and its lock."""
        if self.path is None:
            return
        if self.file is not None:
            self.file.close()
            with contextlib.suppress(OSError):
                self.path.unlink()
        _own.discard(self.path.name)
        self.file = self.path = None


class Queue(Presence):
    """This process's place among the comparisons of the machine, and the lock of the one whose turn it is."""

    def __init__(self):
        super().__init__(WAIT)
        self.lock = None

    def ahead(self) -> list[Ticket]:
        """Who comes first; nobody: the turn is this process's now, or there is no queue.

        Raises:
            OSError: the folder cannot be used.
        """
        with self.guard:
            self.show()
            if self.lock is not None or self.file is None:
                return []
            others = live_tickets(WAIT)
            before = [ticket for ticket in others if ticket.name < self.path.name]
            if before or self._take():
                return before
            return others or [Ticket("turn", 0.0, 0, "")]  # it began before the clock was set back

    def _take(self):
        path = self.path.parent / "turn"
        try:
            file = os.open(path, WRITE)
        except FileNotFoundError:
            file = os.open(path, WRITE | os.O_CREAT | os.O_EXCL, 0o666)
            path.chmod(0o666)
        if _try_lock(file) and _is(path, file):
            self.lock = file
            return True
        os.close(file)
        return False

    def drop(self):
        if self.lock is not None:
            os.close(self.lock)
            self.lock = None
        super().drop()


_queue, _runs = Queue(), Presence(RUN)


def _reset_after_fork():
    """In a forked child, nothing is held: the locks stayed with the parent, and closing its files here leaves them."""
    global _queue, _runs
    for file in filter(None, (_queue.file, _runs.file)):
        file.close()
    if _queue.lock is not None:
        os.close(_queue.lock)
    _own.clear()
    _queue, _runs = Queue(), Presence(RUN)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_after_fork)


# Who is there


@contextlib.contextmanager
def active(wanted: bool = True):
    """Shows other processes that this one trains, for as long as the block lasts; where it cannot, it is left out."""
    if not wanted:
        yield
        return
    _runs.enter()
    try:
        with contextlib.suppress(OSError):
            _runs.show()
        yield
    finally:
        _runs.leave()


run.announced = active  # every training in this process


def live_tickets(kind: str) -> list[Ticket]:
    """The living files of one kind of other processes, the oldest first. Those of dead ones are removed.

    Raises:
        OSError: the folder cannot be used.
    """
    place = folder()
    names = sorted(os.listdir(place)) if place is not None else []
    found = []
    for name in names:
        match = NAME.fullmatch(name)
        if match and match[1] == kind and name not in _own and (user := _user_if_alive(place / name)) is not None:
            found.append(Ticket(name, int(match[2]) / 1e9, int(match[3]), user))
    return found


def others() -> OtherProcesses:
    """How many other processes are there; none where the folder is switched off or cannot be used."""
    try:
        return OtherProcesses(len(live_tickets(RUN)), len(live_tickets(WAIT)))
    except OSError:
        return OtherProcesses(0, 0)


def others_warning(found: OtherProcesses) -> str:
    """What other runs mean for a time that is measured now, in a sentence; "" where there are none."""
    count = found.runs
    if not count:
        return ""
    compared = f" {_('(a comparison among them)')}" if found.comparisons else ""
    return ngettext(
        "{n} other speedkit run is active on this machine{compared}: no time that is measured now is that of a run "
        "alone.",
        "{n} other speedkit runs are active on this machine{compared}: no time that is measured now is that of a run "
        "alone.",
        count,
        compared=compared,
    )


def load(own: int = 1) -> str:
    """A load average of the last minute that is high for this machine's cores, in a sentence; else "".

    own: processes that this kernel itself keeps busy, its workers included.
    """
    cores = psutil.cpu_count() or 1
    try:
        average = os.getloadavg()[0]
    except (AttributeError, OSError):  # Windows keeps none
        return ""
    if not math.isfinite(average) or average <= BUSY * max(cores, own):
        return ""
    return _(
        "The machine is loaded: on average of the last minute, {threads} threads wanted its {cores} cores.",
        threads=f"{average:.0f}",
        cores=cores,
    )


def folder() -> Path | None:
    """The folder of the turns, made where it is missing; None where ``SPEEDKIT_TURNS`` is "off".

    Raises:
        OSError: it is no folder, or cannot be made.
    """
    place = queue_folder()
    if place is None:
        return None
    with contextlib.suppress(FileExistsError):
        place.mkdir(parents=True)
        place.chmod(0o1777)  # everyone may add files, and remove their own
    if not stat.S_ISDIR(place.lstat().st_mode):  # a link in the common folder may be somebody's trap
        raise NotADirectoryError(None, "is not a folder", str(place))
    return place


def _user_if_alive(path):
    """The user of a file whose process is alive, else None; a dead process's file is removed."""
    try:
        file = os.open(path, READ)
    except OSError:  # gone, a link, or nothing that a process of ours has made
        return None
    try:
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode):
            return None
        if not _try_lock(file, shared=True):
            return _name(status.st_uid)
        with contextlib.suppress(OSError):  # another user's, or open here, which Windows minds
            path.unlink()
    finally:
        os.close(file)
    if fcntl is None:
        with contextlib.suppress(OSError):
            path.unlink()
    return None


def _name(user):
    try:
        import pwd

        return pwd.getpwuid(user).pw_name
    except (ImportError, KeyError):
        return str(user)


def _try_lock(file, shared=False):
    """Whether the lock on an open file could be had at once."""
    try:
        if fcntl is None:
            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.lockf(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True


def _is(path, file):
    """Whether the open file is still the one at ``path``."""
    try:
        there, own = path.lstat(), os.fstat(file)
    except FileNotFoundError:
        return False
    return (there.st_dev, there.st_ino) == (own.st_dev, own.st_ino)
