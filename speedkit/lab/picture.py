"""A matplotlib figure as a cell's last line, without pyplot: drawn once, kept in the saved notebook."""

import functools
import io
import threading
from collections.abc import Callable

DRAWING = threading.RLock()  # held while matplotlib works: it may be used from one thread at a time only

# Okabe and Ito's colours with a contrast of at least 3 on white and on #111, and a grey
INK, WAITING, COMPUTING = "currentColor", "#D55E00", "#0072B2"
EARLIER_COLOURS = ("#009E73", "#CC79A7", "#8C8C8C")
EARLIER_DASHES = ((8, 4), (3, 4), (10, 4, 2, 4), (16, 4), (5, 3), (1, 3))


class Picture:
    """A figure drawn as PNG, and the sentence that stands for it where there are no pictures.

    ``figure`` is the ``matplotlib.figure.Figure``, for anyone who wants to change or save it.
    """

    def __init__(self, figure, text: str):
        with DRAWING:
            image = io.BytesIO()
            figure.savefig(image, format="png", dpi=100)
        self.figure, self.png, self.text = figure, image.getvalue(), text

    def __repr__(self):
        return self.text

    def _repr_png_(self):
        return self.png


def drawn(text: str | Callable[..., str]):
    """Makes a function that returns a matplotlib figure return a :class:`Picture` of it.

    It is drawn under the lock, and in matplotlib's default style, whatever style the learner has set. text: what the
    picture shows, in a sentence, or a function of the same arguments that says it.
    """

    def decorate(function):
        @functools.wraps(function)
        def draw(*args, **options) -> Picture:
            from matplotlib import style

            with DRAWING, style.context("default"):
                figure = function(*args, **options)
                return Picture(figure, text if isinstance(text, str) else text(*args, **options))

        return draw

    return decorate
