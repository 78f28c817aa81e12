"""Scripts without a main guard: if workers start by importing the script, it would train in each of them."""

import contextlib
import os
import tempfile
from multiprocessing import current_process
from pathlib import Path

import psutil

from speedkit.support.errors import CannotRun
from speedkit.support.messages import Message


class NoGuard(CannotRun, SystemExit):
    """A script trains while its own workers import it. It ends the script with one sentence, unless it is caught."""

    def __init__(self):
        sentence = Message(
            "This script starts worker processes, and each of them begins by importing it: put what trains below a "
            "line if __name__ == '__main__':, or choose workers=0 or start_method='fork'."
        )
        super().__init__(sentence)
        self.code = f"speedkit: {sentence}"


def leave_if_imported_by_a_worker():
    """Ends this process without a word if it is a worker that is only starting; its parent raises :class:`NoGuard`."""
    if getattr(current_process(), "_inheriting", False):  # as multiprocessing itself asks
        with contextlib.suppress(OSError, psutil.Error):
            parent = psutil.Process().parent()
            if "multiprocessing.forkserver" in " ".join(parent.cmdline()):
                parent = parent.parent()
            os.close(os.open(_mark(parent.pid), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        os._exit(1)


def missing_guard() -> bool:
    """Whether a worker of this process tried to train, and left its mark."""
    mark = _mark(os.getpid())
    found = mark.exists()
    mark.unlink(missing_ok=True)
    return found


def _mark(process):
    return Path(tempfile.gettempdir(), f"speedkit-no-main-guard-{process}")
