"""A matplotlib figure as a cell's last line, without pyplot: drawn once, kept in the saved notebook."""

import io

from matplotlib.figure import Figure

from speedkit.lab.chart import DRAWING


class Picture:
    """A figure drawn as PNG, and the sentence that stands for it where there are no pictures."""

    def __init__(self, figure: Figure, text: str):
        with DRAWING:
            image = io.BytesIO()
            figure.savefig(image, format="png", dpi=100)
        self.png, self.text = image.getvalue(), text

    def __repr__(self):
        return self.text

    def _repr_png_(self):
        return self.png


def show(figure: Figure, text: str = "a figure") -> Picture:
    """The figure as something that a notebook shows as a cell's last line."""
    return Picture(figure, text)
