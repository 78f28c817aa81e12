"""Drives the training loop in a thread of its own, so that buttons answer while it runs; one run at a time a kernel."""

import asyncio
import contextlib
import signal
import threading

from speedkit.recipe import Recipe
from speedkit.run import Run
from speedkit.train import train

_starting = threading.Lock()
_current: "Runner | None" = None


class Runner:
    """One training in a daemon thread. Nobody's widgets are read here: the recipe was copied at the click."""

    def __init__(self, recipe: Recipe, watch):
        """watch: a callable that gets each record of the run, and None when it has ended, in the run's thread."""
        self.run, self.watch = Run(recipe), watch
        self.error: BaseException | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._drive, name="speedkit run", daemon=True)

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def start(self):
        """Ends the run that is going on in this kernel, whichever panel began it, and starts this one."""
        global _current
        with _starting:
            stop_all()
            _current = self
            self._thread.start()
        _stop_on_interrupt()

    def stop(self):
        """Asks the run to end after the step that it is in."""
        self._stop.set()

    def join(self, timeout: float | None = None):
        self._thread.join(timeout)

    def here(self):
        """Drives the run in the calling thread, and raises what it raises."""
        stop_all()
        try:
            self._records()
        finally:
            self.watch(None)

    def _drive(self):
        try:
            self._records()
        except BaseException as error:
            self.error = error.with_traceback(None)  # a traceback would keep the run's tensors alive
        finally:
            self.watch(None)

    def _records(self):
        with contextlib.closing(train(self.run.recipe, self.run)) as records:
            for record in records:
                self.watch(record)
                if self._stop.is_set():
                    break


def stop_all():
    """Stops the run that is going on in this kernel, if there is one, and waits for its end."""
    if _current is not None and _current.alive:
        _current.stop()
        _current.join()


def _stop_on_interrupt():
    """Lets the notebook's interrupt button stop the run, which an exception in the main thread would not reach.

    ipykernel puts its own handler back after each message, so ours is installed a moment later, from its event loop.
    """
    with contextlib.suppress(RuntimeError):  # no event loop: not in a kernel
        asyncio.get_running_loop().call_later(0.2, _install)


def _install():
    found = signal.getsignal(signal.SIGINT)
    if getattr(found, "of_speedkit", False):
        return

    def on_interrupt(number, frame):
        if _current is not None and _current.alive:
            _current.stop()
        elif callable(found):
            found(number, frame)

    on_interrupt.of_speedkit = True
    signal.signal(signal.SIGINT, on_interrupt)
