"""SVG written in Python: what the chart of a run and the chart of the class board share.

Lengths are in units of half a pixel: whole numbers are then fine enough, and short. Every attribute and every text is
escaped here, so that no label, note or nickname can become markup.
"""

import unicodedata
from collections.abc import Iterable, Iterator
from functools import cache

from markupsafe import Markup, escape

from speedkit.support.messages import language

NAMESPACE = "http://www.w3.org/2000/svg"


def element(name: str, *children, **attributes) -> Markup:
    """One element. ``text_anchor`` is written text-anchor, ``class_`` class; an attribute that is None is left out."""
    written = "".join([f' {_name(key)}="{_value(value)}"' for key, value in attributes.items() if value is not None])
    inside = "".join(map(escape, children))
    return Markup(f"<{name}{written}>{inside}</{name}>" if inside else f"<{name}{written}/>")


@cache
def _name(key):
    return key.rstrip("_").replace("_", "-")


def _value(value):
    if isinstance(value, float):
        return f"{value:g}"
    return escape(value) if isinstance(value, str) else str(int(value))


def text(x: float, y: float, words: str, anchor: str | None = None, size: int | None = None, weight=None) -> Markup:
    """A line of text; without ``size``, in the font size of the whole drawing."""
    return element("text", words, x=x, y=y, text_anchor=anchor, font_size=size, font_weight=weight)


def path(d: str, *children, **look) -> Markup:
    return element("path", *children, d=d, **look)


def group(x: float, y: float, *children) -> Markup:
    """Children whose own origin is at (x, y)."""
    return element("g", *children, transform=f"translate({x:g} {y:g})")


def drawing(parts: Iterable[Markup], width: int, height: float, words: str, **attributes) -> Markup:
    """The whole drawing, as wide as its column, in the colour of the page's text. words: for screen readers."""
    return element(
        "svg",
        *parts,
        xmlns=NAMESPACE,
        lang=language(),
        role="img",
        aria_label=words,
        viewBox=f"0 0 {width} {height:g}",
        width="100%",
        fill="currentColor",
        stroke_linejoin="round",
        **attributes,
    )


def in_rows(widths: Iterable[float], left: float, right: float, gap: float) -> Iterator[tuple[float, int]]:
    """(x, row) of each piece, given their widths: they are set in rows from left to right, like words."""
    x, row = left, 0
    for width in widths:
        if x > left and x + width > right:
            x, row = left, row + 1
        yield x, row
        x += width + gap


def wide(words: str) -> int:
    """The width of a text, in Latin characters."""
    return sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in words)


def cut(words: str, longest: int) -> str:
    """A text cut to the width of ``longest`` Latin characters."""
    if wide(words) <= longest:
        return words
    while words and wide(words) >= longest:
        words = words[:-1]
    return f"{words}…"
