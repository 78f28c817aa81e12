"""The queue of a machine that many kernels share: one comparison at a time, and who else is training there now.

Kernels on the same cores or the same GPU spoil each other's times. So a comparison waits for its turn, first come,
first served, and every run is shown to the other kernels while it lasts. Both are files in a folder that all users of
the machine can write to, ``SPEEDKIT_TURNS`` or ``speedkit-turns`` among the temporary files; ``ls -l`` shows them:

    wait-TIME-PROCESS-MARK   a comparison that waits or has its turn; TIME in nanoseconds since 1970
    run-TIME-PROCESS-MARK    a process that trains
    turn                     empty, and never removed: the comparison that has its turn holds a lock on it

Neither the file's existence nor its content counts, only the lock that a process holds on it: the system drops the
lock when the process ends, however it ends. They are POSIX record locks, which belong to one process; with flock,
forked workers would inherit a lock and hold a dead kernel's turn. Two rules follow: no process opens its own files a
second time, because closing them would drop the lock, and all comparisons of a process share one place.

Nothing here protects against a user who takes a place and never gives it up: ``ls -l`` names that user.
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

from speedkit import hardware, run
from speedkit.support.messages import _, ngettext
from speedkit.support.variables import queue_folder

try:
    import fcntl
except ImportError:  # Windows
    import msvcrt

    fcntl = None

WAIT, RUN = "wait", "run"
NAME = re.compile(r"(wait|run)-(\d{20})-(\d{1,10})-[0-9a-f]{8}")
READ = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0)
WRITE = os.O_RDWR | getattr(os, "O_NOFOLLOW", 0)
NAP = 0.1  # seconds between two moments at which a waiting comparison can be stopped
LOOK, RARELY = 0.25, 2.0  # seconds between two looks at the queue: per comparison ahead, and at most; with thirty
# kernels this costs little
TRIES = 5  # to use a folder that another process may be making just now
BUSY = 2  # a load average above this many times the cores is called high

_own: set[str] = set()  # names of the files that this process holds, or is about to


class Ticket(NamedTuple):
    """Another process's place in the queue, or its run: since when (seconds since 1970), and the user's name."""

    name: str
    since: float
    process: int
    user: str


class OtherProcesses(NamedTuple):
    """How many other processes train, and how many have a comparison that runs or waits."""

    runs: int
    comparisons: int


# A comparison's turn


class Turn:
    """The turn of one comparison. A context manager: the turn, or the wait for it, ends with the block.

    wanted: False for a comparison that neither waits nor makes others wait, like a smoke run.
    """

    def __init__(self, wanted: bool = True):
        self.wanted = wanted
        self.waited = 0.0  # seconds; 0 if there was no need
        self.problem = ""  # why it could not wait

    def __enter__(self):
        _queue.enter()
        return self

    def __exit__(self, *__):
        _queue.leave()

    def waiting(self):
        """Waits for the turn. A generator: it yields what it waits for, in words, a few times a second.

        If the folder cannot be used it does not wait, and ``problem`` says why.
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
    return f"{words} " + _("(the first came at {time})", time=came) if came else words


class Presence:
    """A file of this process that exists as long as anything in the process needs it."""

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
        """Makes and locks the file, unless it exists already.

        Raises:
            OSError: it cannot be made or locked.
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
                    # A process that looked before it was locked may have taken it for a dead process's and removed it.
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
    """This process's place among the comparisons of the machine, and the lock of the one that has its turn."""

    def __init__(self):
        super().__init__(WAIT)
        self.lock = None

    def ahead(self) -> list[Ticket]:
        """The comparisons that come first; none if it is this process's turn now, or there is no queue.

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
    """A forked child holds nothing: the locks belong to the parent, and closing its files here does not drop them."""
    global _queue, _runs
    for file in filter(None, (_queue.file, _runs.file)):
        file.close()
    if _queue.lock is not None:
        os.close(_queue.lock)
    _own.clear()
    _queue, _runs = Queue(), Presence(RUN)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_after_fork)


# Who else is there


@contextlib.contextmanager
def active(wanted: bool = True):
    """Shows other processes that this one trains, as long as the block lasts, if the folder can be used."""
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
    """The files of one kind that living processes other than this one hold, oldest first; removes those of dead ones.

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
    """How many other processes there are; none if the queue is off or its folder cannot be used."""
    try:
        return OtherProcesses(len(live_tickets(RUN)), len(live_tickets(WAIT)))
    except OSError:
        return OtherProcesses(0, 0)


def others_warning(found: OtherProcesses) -> str:
    """A sentence on what other runs mean for times that are measured now; "" if there are no other runs."""
    count = found.runs
    if not count:
        return ""
    compared = " " + _("(a comparison among them)") if found.comparisons else ""
    return ngettext(
        "{n} other speedkit run is active on this machine{compared}: a time measured now is not that of a run alone.",
        "{n} other speedkit runs are active on this machine{compared}: a time measured now is not that of a run alone.",
        count,
        compared=compared,
    )


def load(own: int = 1) -> str:
    """A sentence on the machine's load average of the last minute, if it is high for its cores; else "".

    If this process may use only some of the cores, the load does not say how busy those are: the answer is "".
    own: processes that this kernel itself keeps busy, its workers included.
    """
    cores = hardware.cores()
    try:
        average = os.getloadavg()[0]
    except (AttributeError, OSError):  # Windows has none
        return ""
    if cores < (os.cpu_count() or 1) or not math.isfinite(average) or average <= BUSY * max(cores, own):
        return ""
    return _("This machine is busy: load average {load} on {cores} cores.", load=f"{average:.0f}", cores=cores)


def folder() -> Path | None:
    """The folder of the queue, made if it is missing; None if ``SPEEDKIT_TURNS`` is "off".

    Raises:
        OSError: it is not a folder, or cannot be made.
    """
    place = queue_folder()
    if place is None:
        return None
    with contextlib.suppress(FileExistsError):
        place.mkdir(parents=True)
        place.chmod(0o1777)  # everyone may add files, and remove their own
    if not stat.S_ISDIR(place.lstat().st_mode):  # a link in a shared folder may be a trap
        raise NotADirectoryError(None, "is not a folder", str(place))
    return place


def _user_if_alive(path):
    """The user whose living process holds a file, else None; a dead process's file is removed."""
    try:
        file = os.open(path, READ)
    except OSError:  # gone, a link, or not made by speedkit
        return None
    try:
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode):
            return None
        if not _try_lock(file, shared=True):
            return _name(status.st_uid)
        with contextlib.suppress(OSError):  # another user's; on Windows, also because it is open here
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
    """Takes the lock on an open file if it is free; returns whether it was."""
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
