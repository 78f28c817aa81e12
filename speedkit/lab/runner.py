"""Drives the training loop in its own thread, so that buttons respond while it runs; one run at a time per kernel."""

import asyncio
import contextlib
import queue
import signal
import threading
import traceback
import weakref

from IPython import get_ipython

from speedkit.recipe import Recipe
from speedkit.run import Run
from speedkit.support.errors import NotFinite, release, releasing
from speedkit.support.explain import advice, telling_line
from speedkit.support.messages import _, message_of
from speedkit.train import train

_shown_in_cell = weakref.WeakValueDictionary()


def stop_what_this_cell_showed(panel) -> bool:
    """Stops the panel or board that this cell showed before: running the cell again removed it from the page.

    Returns whether that ended a run.
    """
    shell = get_ipython()
    parent = shell.get_parent() if hasattr(shell, "get_parent") else {}
    cell = parent.get("metadata", {}).get("cellId")
    if cell is None:
        return False
    before, _shown_in_cell[cell] = _shown_in_cell.get(cell), panel
    return before is not None and before is not panel and bool(before.stop())


_starting = threading.Lock()
_to_train: "queue.SimpleQueue[Runner]" = queue.SimpleQueue()
_trainer: threading.Thread | None = None
_current: "Runner | None" = None
_main_loop: asyncio.AbstractEventLoop | None = None


class Runner:
    """One training, in a daemon thread or in the caller's. It reads no widgets: the recipe was copied at the click."""

    def __init__(self, recipe: Recipe, watch):
        """watch: called in the run's thread with each record of the run, and with None when it has ended."""
        self.run, self.watch = Run(recipe.effective()), watch
        self.problem = ""  # why it failed, in words: an exception would keep the run's tensors alive
        self._stop, self._over = threading.Event(), threading.Event()

    def start(self):
        """Trains in the background. Ends the run that is active in this kernel, whichever panel started it."""
        self._take_over()
        _to_train.put(self)
        _start_trainer()
        stop_on_interrupt()

    def here(self):
        """Trains in the calling thread, and raises what the training raises."""
        try:
            self._take_over()
            with releasing():
                self._drive()
        finally:
            self._end()

    def stop(self):
        """Asks the run to end after the current step."""
        self._stop.set()

    @property
    def alive(self) -> bool:
        return not self._over.is_set()

    def join(self, timeout: float | None = None):
        """Waits until the run has ended and ``watch`` has been called for the last time."""
        self._over.wait(timeout)

    def _take_over(self):
        global _current
        with _starting:
            stop_all()
            _current = self

    def in_background(self):
        """Trains in the calling thread; what the training raises goes to ``problem`` only."""
        try:
            with contextlib.suppress(Exception):  # ``problem`` explains it
                self._drive()
        finally:
            self._end()

    def _drive(self):
        try:
            with contextlib.closing(train(self.run.recipe, self.run)) as records:
                for record in records:
                    self.watch(record)
                    if self._stop.is_set():
                        break
        except BaseException as error:
            self.problem = explain(error) if isinstance(error, Exception) else ""
            release(error)
            raise

    def _end(self):
        try:
            self.watch(None)
        finally:
            self._over.set()


def _start_trainer():
    """Starts the one thread in which this kernel's background runs are made.

    A thread per run would be simpler, but memory would grow with every run: OpenMP makes a new team for each thread
    that trains, and the C library gives the next thread only part of what one has freed. And an executor's thread would
    delay the kernel's exit until its run had ended.
    """
    global _trainer
    with _starting:
        if _trainer is None:
            _trainer = threading.Thread(target=_serve, name="speedkit run", daemon=True)
            _trainer.start()


def _serve():
    while True:
        try:
            _to_train.get().in_background()
        except BaseException:  # a fault of the panel itself is printed, and the next run goes ahead
            traceback.print_exc()


def stop_all():
    """Stops the run that is active in this kernel, if there is one, and waits for its end."""
    if _current is not None:
        _current.stop()
        _current.join()


def explain(error: BaseException) -> str:
    """What went wrong and what to do, in one sentence. The kit's own errors are sentences like that already."""
    words = message_of(error)
    if isinstance(error, ValueError | NotFinite):
        return words
    if known := advice(error):
        return known
    line = telling_line(words).rstrip(".")
    name = "" if line.startswith(type(error).__name__) else f"{type(error).__name__}: "
    return _("{what} (panel.run() in a cell shows where this happened).", what=f"{name}{line}")


def stop_on_interrupt():
    """Lets the notebook's interrupt button stop the run, which an exception in the main thread would not reach.

    ipykernel restores its own handler after each message, so ours is installed a moment later, by the event loop of the
    main thread: a button's click may be handled in another thread, which must not install handlers.
    """
    global _main_loop
    if threading.current_thread() is threading.main_thread():
        with contextlib.suppress(RuntimeError):  # no event loop: not in a kernel
            _main_loop = asyncio.get_running_loop()
    if _main_loop is not None and not _main_loop.is_closed():
        _main_loop.call_soon_threadsafe(_main_loop.call_later, 0.2, _install)


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
