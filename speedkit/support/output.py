"""Output that never ends a run: whatever is wrong with the place where it goes, what was measured comes first."""

import codecs
import contextlib
import os
import signal
import sys
import threading
import unicodedata

STAND_INS = {"→": "->", "×": "x", "µ": "u", "…": "...", "−": "-", "–": "-", "■": "#", "▲": "^", "·": "-", "’": "'"}


def _stand_in(error):
    def plain(character):
        letter = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
        return STAND_INS.get(character) or letter or "?"

    return "".join(map(plain, error.object[error.start : error.end])), error.end


codecs.register_error("speedkit.plain", _stand_in)


def printable(text: str, stream=None) -> str:
    """A text with plain letters for all that ``stream`` (default: ``sys.stdout``) has no code for."""
    coding = getattr(stream or sys.stdout, "encoding", None) or "utf-8"
    try:
        return text.encode(coding, "speedkit.plain").decode(coding)
    except (UnicodeError, LookupError):  # surrogates, of names of files that are not text
        return text.encode("ascii", "speedkit.plain").decode("ascii")


class Output:
    """A text stream that raises nothing: a reader that has gone, a full disk, a closed stream only end the output."""

    def __init__(self, stream):
        self.stream, self.problem = stream, None

    def write(self, text: str) -> int:
        self._try(lambda: self.stream.write(printable(text, self.stream)))
        return len(text)

    def flush(self):
        self._try(lambda: self.stream.flush())

    def isatty(self) -> bool:
        return bool(self._try(lambda: self.stream.isatty()))

    def __getattr__(self, name):
        return getattr(self.stream, name)

    def _try(self, call):
        if self.problem is None and self.stream is not None:
            try:
                return call()
            except (OSError, ValueError) as error:  # ValueError: it is closed
                self.problem = error
                # Python writes what it still holds when it ends, and would fail once more.
                with contextlib.suppress(OSError, ValueError, AttributeError), open(os.devnull, "w") as nowhere:
                    os.dup2(nowhere.fileno(), self.stream.fileno())
        return None


@contextlib.contextmanager
def safe_output():
    """In this block, printing raises nothing."""
    out, err = Output(sys.stdout), Output(sys.stderr)
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            yield
        finally:
            out.flush()
            if out.problem is not None and not isinstance(out.problem, BrokenPipeError):
                err.write(f"speedkit: the output could not be written ({out.problem}).\n")
            err.flush()


class Ended(KeyboardInterrupt):
    """A signal asked the process to end; raised like an interrupt, so that what was measured is kept."""


class EndingSignals:
    """A context manager in which a signal that would end the process raises :class:`Ended` instead, once.

    A signal that is ignored (nohup) or has a handler stays as it is, and so do all of them outside of the main thread.
    """

    NAMES = ("SIGTERM", "SIGHUP", "SIGQUIT", "SIGXCPU", "SIGUSR1", "SIGUSR2", "SIGBREAK")

    def __init__(self):
        self.name, self.number, self.found, self.quiet = "", 0, {}, False

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():
            for number in (getattr(signal, name) for name in self.NAMES if hasattr(signal, name)):
                if signal.getsignal(number) is signal.SIG_DFL:
                    self.found[number] = signal.signal(number, self._hear)
        return self

    def _hear(self, number, frame):
        if not self.name:
            self.number, self.name = number, signal.Signals(number).name
            if not self.quiet:
                raise Ended(self.name)

    def only_remember(self):
        """From now on, signals do not interrupt: what was measured is being saved."""
        self.quiet = True
        if threading.current_thread() is threading.main_thread() and signal.SIGINT not in self.found:
            self.found[signal.SIGINT] = signal.signal(signal.SIGINT, self._hear)

    def __exit__(self, *_):
        for number, handler in self.found.items():
            signal.signal(number, handler)
