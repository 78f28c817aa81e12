"""Charts that move in the output of the running cell, and stay there as a picture when it has ended.

Frames are drawn between two steps, and the time that they take is no part of a run's times; a second thread would hold
up whichever step is being made. Only the panel, which has such a thread anyway, draws with one (:func:`live`).
"""

import sys
import threading
import time
from contextlib import closing, contextmanager
from functools import cached_property
from importlib import import_module

from IPython import get_ipython
from IPython.display import display

from speedkit.run import Run
from speedkit.support.output import Output

FRAME = 0.5  # seconds between two frames, at least
AFTER = 2.0  # seconds that a cell trains before it gets a chart
EARLIER = 4  # runs of the same cell that stay on the axes
FEW = 10  # steps: a shorter run is not shown beside others
SHARE = 0.003  # of a core's time that making frames may take; see :mod:`speedkit.lab.panel`
NOTHING = {"text/html": "", "text/plain": ""}
clock = time.perf_counter


def in_notebook() -> bool:
    """Whether a notebook shows what is displayed here, so that a chart can move."""
    return getattr(get_ipython(), "kernel", None) is not None


@contextmanager
def live(run: Run, earlier=(), view=None):
    """Shows the chart of ``run``, and of earlier runs, in the cell that runs, while the body of the ``with`` trains.

    view: a :class:`speedkit.lab.chart.View` to draw them in.

    At the end it becomes an ordinary output: a picture, with text for where there are no pictures. Outside a notebook
    nothing is shown. The ``with`` gives whether anything is.
    """
    cell, over = _cell, threading.Event()
    if cell is None:
        yield False
        return
    if cell.handle is None:
        cell.show(NOTHING, stays=True)
    thread = threading.Thread(
        target=_draw, args=(cell, run, earlier, view, over), name="speedkit live chart", daemon=True
    )
    thread.start()
    try:
        yield True
    finally:
        over.set()
        thread.join()
        if run.count:
            cell.show(_picture(run, earlier, view), stays=True)


def _draw(cell, run, earlier, view, over):
    seen, pause = 0, FRAME
    while not over.wait(pause):
        if run.count != seen:
            seen, began = run.count, time.thread_time()
            cell.show(_moving(run, earlier, view))
            pause = max(FRAME, (time.thread_time() - began) / SHARE)


def _moving(run, earlier, view):
    from speedkit.lab import chart  # here and below, because most of what imports this draws nothing

    return {"text/html": f"<p><b>{run.where_time_goes()}</b></p>{chart.svg(run, earlier, view)}", "text/plain": ""}


def _picture(run, earlier, view):
    """The chart that stays: in the colours of the theme where HTML is trusted, else as an image, or as text."""
    from speedkit.lab import chart

    image = chart.png(run, earlier, view)
    return _moving(run, earlier, view) | {"image/png": image, "text/plain": chart.text(run, earlier)}


class _Cell:
    """What the running cell shows of what it trains: one chart, however many runs it makes."""

    def __init__(self):
        self.due, self.handle, self.stays = None, None, True
        self.fitted: list[Run] = []  # newest last

    def frame(self, run, earlier) -> float:
        began = clock()
        if self.due is None:
            self.due = began + AFTER
        if began < self.due or not run.count:
            return 0.0
        self.show(_moving(run, earlier, self.view))
        spent = clock() - began
        self.due = began + max(FRAME, spent / SHARE)
        return spent

    def show(self, output, stays: bool = False):
        if self.handle is None:
            self.handle = display(output, raw=True, display_id=True)
        else:
            self.handle.update(output, raw=True)
        self.stays = stays

    @cached_property
    def view(self):
        from speedkit.lab import chart

        return chart.View()

    def end(self):
        if not self.stays:
            *earlier, last = self.fitted or [None]
            self.show(_picture(last, earlier, self.view) if last else NOTHING)  # a comparison shows its own result


_cell: _Cell | None = None


def frame(run: Run, earlier=()) -> float:
    """Draws the chart of the running cell if it is time for a frame; returns the seconds which that took.

    Call it between two steps, in the thread that runs the cell. Outside a cell it does nothing.
    """
    return 0.0 if _cell is None else _cell.frame(run, earlier)


def keep(run: Run):
    """Keeps a run that has ended on the chart of the running cell, for those that follow."""
    if _cell is not None and run.count >= FEW:
        _cell.fitted = [*_beside([each for each in _cell.fitted if each is not run]), run]


def _beside(runs):
    """The runs of a cell that stay on the axes: the first, which the others are compared with, and the newest."""
    return [*runs[:1], *runs[1:][1 - EARLIER :]]


def forget():
    """Leaves no picture of the runs that were kept: what is shown next says more."""
    if _cell is not None:
        _cell.fitted = []


def progress(items=None, *, unit: str, total: int | None = None, wanted: bool = True):
    """A progress bar (tqdm's) as text in the running cell; a chart of what is trained meanwhile stands above it."""
    from tqdm import tqdm  # the plain one: the notebook's needs ipywidgets and leaves nothing in a saved notebook

    if _cell is not None and _cell.handle is None and wanted:
        _cell.show(NOTHING, stays=True)
    return tqdm(items, total=total, unit=unit, file=Output(sys.stdout), disable=not wanted)


def fitting(records, run: Run):
    """The records of a run that ``fit`` makes; between them the chart of the running cell is drawn."""
    if _cell is None or threading.current_thread() is not threading.main_thread():
        return records
    return _drawing(records, run, _cell)


def _drawing(records, run, cell):
    earlier = _beside(cell.fitted)
    with closing(records):
        for record in records:
            yield record
            run.paused_s += cell.frame(run, earlier)
    keep(run)
    return run


def _begin(*__):
    global _cell
    _cell = _Cell()


def _end(*__):
    global _cell
    cell, _cell = _cell, None
    if cell is not None:
        cell.end()


def watch_cells():
    """From now on, ``fit`` and comparisons show in the cell of a notebook that they train."""
    shell = get_ipython()
    shell.events.register("pre_run_cell", _begin)
    shell.events.register("post_run_cell", _end)
    import_module("speedkit.train").shown = fitting  # ``speedkit.train`` itself is the function
    _begin()  # the cell that runs now


if in_notebook():
    watch_cells()
