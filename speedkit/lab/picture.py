"""A matplotlib figure as a cell's last line, without pyplot: drawn once, and still there in the saved notebook."""

import functools
import io
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from speedkit.support.output import printable

# Colours of Okabe and Ito with a contrast of at least 3 on white and on #111, and a grey
INK, WAITING, COMPUTING, VALIDATION = "currentColor", "#D55E00", "#0072B2", "#A67C00"
PART_COLOURS = ("#8A6FDF", "#6B8E23", "#A67C00", "#C2417C", "#3F8F8F")  # of memory: the others mean something else
EARLIER_COLOURS = ("#009E73", "#CC79A7", "#8C8C8C")
RUN_COLOURS = (INK, *EARLIER_COLOURS, "#8A6FDF")  # by recipe: the first one's is the page's own
EARLIER_DASHES = ((8, 4), (3, 4), (10, 4, 2, 4), (16, 4), (5, 3), (1, 3))


_lock = threading.RLock()  # matplotlib may be used from one thread at a time only


@contextmanager
def drawing() -> Iterator[None]:
    """The context for all drawing: one thread at a time, in matplotlib's default style, not one the learner has set."""
    from matplotlib import style  # here, because matplotlib is slow to load

    with _lock, style.context("default"):
        yield


class Picture:
    """A figure drawn as PNG, and a sentence to be shown where there are no pictures.

    ``figure`` is the ``matplotlib.figure.Figure``, for anyone who wants to change or save it.
    """

    def __init__(self, figure, text: str):
        with drawing():
            image = io.BytesIO()
            figure.savefig(image, format="png", dpi=100)
        self.figure, self.png, self.text = figure, image.getvalue(), text

    def __repr__(self):
        return printable(self.text)

    def _repr_png_(self):
        return self.png


def drawn(text: str | Callable[..., str]):
    """Makes a function that returns a matplotlib figure return a :class:`Picture` of it, drawn as :func:`drawing` says.

    text: what the picture shows, in a sentence, or a function of the same arguments that says it.
    """

    def decorate(function):
        @functools.wraps(function)
        def draw(*args, **options) -> Picture:
            with drawing():
                figure = function(*args, **options)
                return Picture(figure, text if isinstance(text, str) else text(*args, **options))

        return draw

    return decorate
