"""A chart that moves in the output of the running cell, and stays there as a picture when the run has ended."""

import threading
import time
from contextlib import contextmanager

from IPython import get_ipython
from IPython.display import display

from speedkit.lab import chart
from speedkit.run import Run

FRAME = 0.5  # seconds between two frames, at least
SHARE = 0.003  # of a core's time that making frames may take; see :mod:`speedkit.lab.panel`


def in_notebook() -> bool:
    """Whether a notebook shows what is displayed here, so that a chart can move."""
    return getattr(get_ipython(), "kernel", None) is not None


@contextmanager
def live(run: Run, earlier=()):
    """Shows the chart of ``run``, and of earlier runs, in the cell that runs, while the body of the ``with`` trains.

    At the end it becomes an ordinary output: a picture, with text for where there are no pictures. Outside a notebook
    nothing is shown. The ``with`` gives whether anything is.
    """
    if not in_notebook():
        yield False
        return
    handle, over = display({"text/plain": ""}, raw=True, display_id=True), threading.Event()
    thread = threading.Thread(target=_draw, args=(handle, run, earlier, over), name="speedkit live chart", daemon=True)
    thread.start()
    try:
        yield True
    finally:
        over.set()
        thread.join()
        if run.count:
            handle.update({"image/png": chart.png(run, earlier), "text/plain": chart.text(run, earlier)}, raw=True)


def _draw(handle, run, earlier, over):
    seen, pause = 0, FRAME
    while not over.wait(pause):
        if run.count != seen:
            seen, began = run.count, time.thread_time()
            sentence = f"<p><b>{run.where_time_goes()}</b></p>"
            handle.update({"text/html": f"{sentence}{chart.svg(run, earlier)}", "text/plain": ""}, raw=True)
            pause = max(FRAME, (time.thread_time() - began) / SHARE)
