"""The live chart, as SVG text."""

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

from speedkit.lab.chart.content import known_pieces, prepare
from speedkit.lab.svg import cut, drawing, element, group, in_rows, path, text, wide
from speedkit.run import Run

LEFT, RIGHT, ABOVE, BELOW, HEIGHT = 116, 84, 80, 66, 300  # margins and height of the plotting area, in half pixels
FONT, SMALL, LEGEND_ROW, BAR_ROW, CHARACTER, KEY = 25, 25, 36, 34, 13.5, 70


def svg(run: Run, earlier: Sequence[Run] = (), width: int = 900, in_seconds: bool = False) -> Markup:
    """The chart as one SVG element, ``width`` pixels wide before it is fitted to its column."""
    chart = prepare(run, earlier, in_seconds)
    whole = 2 * width
    parts, top = _legend(chart.legend, whole)
    for i, plot in enumerate(chart.plots):
        x, y = (i % 2) * whole // 2, top + (i // 2) * (ABOVE + HEIGHT + BELOW)
        parts.append(group(x + LEFT, y + ABOVE, *_plot(plot, chart.x, chart.x_title, whole // 2 - LEFT - RIGHT)))
    height = top + 2 * (ABOVE + HEIGHT + BELOW)
    if chart.bars:
        parts.append(group(LEFT, height + 16, *_bars(chart, whole - LEFT - RIGHT)))
        height += 76 + BAR_ROW * len(chart.bars)
    height += 36
    parts.append(text(LEFT, height - 12, chart.caption))
    look = {"font_size": SMALL, "stroke_linecap": "round"}
    return drawing(parts, whole, height, chart.words, class_="sk-chart", data_n=chart.count, **look)


def _legend(legend, whole):
    """The keys of the runs, in as many rows as they need; and the height of these rows."""
    labels = [cut(label, 110) for label, __ in legend]
    places = in_rows([KEY + wide(label) * CHARACTER for label in labels], LEFT, whole, 30)
    parts, row = [], 0
    for label, (__, mark), (x, row) in zip(labels, legend, places, strict=True):
        y = LEGEND_ROW * row + 24
        parts += [path(f"M{x:g} {y - 8}h56", **_stroke(mark)), text(x + KEY, y, label, size=FONT)]
    return parts, LEGEND_ROW * (row + 1)


def _plot(plot, steps, x_title, width):
    def place(x, shares):
        """Units right and down in the plotting area: int64 [points, 2]; the caller leaves out nan shares."""
        return np.rint(np.column_stack((steps.share(x) * width, (1 - shares) * HEIGHT))).astype(int)

    def labels(axis):
        return [(round((1 - axis.share(tick)) * HEIGHT), words) for tick, words in axis.ticks.items()]

    parts, left = [_title(plot.title)], labels(plot.left)
    grid = "".join(f"M0 {y}h{width}" for y, __ in left)
    parts.append(path(grid, stroke="currentColor", stroke_opacity=0.15, stroke_width=2))
    parts += [text(-10, y + 8, words, "end") for y, words in left]
    if plot.right:
        parts += [text(width + 10, y + 8, words) for y, words in labels(plot.right)]
    for tick, words in steps.ticks.items():
        x = round(steps.share(tick) * width)
        parts.append(text(x, HEIGHT + 28, words, "end" if x > width - 40 else "middle"))
    parts.append(text(width, HEIGHT + 54, x_title, "end"))
    for mark in plot.marks:
        parts += _mark(mark, plot.right if mark.right else plot.left, place)
    if len(plot.clipped):
        across = np.rint(steps.share(plot.clipped) * width).astype(int).tolist()
        outline = "".join(f"M{x}-16l-8 14h16z" for x in across)
        parts.append(path(outline, class_="sk-clipped", fill="currentColor"))
        parts.append(text(width, -22, f"▲ {plot.clipped_words}", "end"))
    if plot.words and plot.empty:
        parts.append(text(width // 2, HEIGHT // 2 - 14, plot.words, "middle", FONT))
    elif plot.words:
        parts.append(text(0, -22, plot.words))
    return parts


def _bars(chart, width):
    """A bar for each run, its parts side by side; the longest takes half of the width, and words stand beside it."""
    parts, longest = [_title(chart.bars_title, 24)], max(bar.total for bar in chart.bars)
    for row, bar in enumerate(chart.bars):
        x, y = 0, 44 + BAR_ROW * row
        for size, colour in bar.parts:
            across = round(width / 2 * size / longest)
            drawn = max(0, across - 2)  # a gap tells neighbours apart
            parts.append(path(f"M{x} {y}h{drawn}v22h{-drawn}z", fill=colour))
            x += across
        parts.append(text(x + 14, y + 19, cut(bar.words, 60)))
    return parts


def _title(title, y=-50):
    pieces = []
    for words, key in title:
        pieces += [Markup("&#160; ")] if pieces else []
        pieces += [element("tspan", "■ ", fill=key), words] if key else [words]
    return element("text", *pieces, y=y, font_size=FONT)


def _mark(mark, axis, place):
    """The line or the area of a mark, and its dots."""
    outline, dots = [], []
    for piece in known_pieces(mark):
        top = place(mark.x[piece], axis.share(mark.y[piece]))
        if mark.base is not None:
            bottom = place(mark.x[piece], axis.share(mark.base[piece]))
            outline.append(f"{_along(np.concatenate((top, bottom[::-1])))}z")
        else:
            outline.append(_along(top))
        if mark.dots or len(top) == 1:
            dots += [f"M{x} {y}h0" for x, y in top.tolist()]
    look = _stroke(mark) if mark.base is None else {"fill": mark.colour, "fill_opacity": mark.opacity}
    if outline:
        yield path("".join(outline), data_series=mark.name, **look)
    if dots:
        yield path("".join(dots), stroke=mark.colour, stroke_width=13)


def _along(points):
    """A path along int64 [points, 2]: the first absolute, the others relative to the one before, which is shorter."""
    steps = points.copy()
    steps[1:] -= points[:-1]
    numbers = list(map(str, steps.ravel().tolist()))
    return f"M{' '.join(numbers[:2])}" + (f"l{' '.join(numbers[2:])}".replace(" -", "-") if len(numbers) > 2 else "")


def _stroke(mark):
    dashes = " ".join(str(2 * length) for length in mark.dash) or None
    return {"fill": "none", "stroke": mark.colour, "stroke_width": 2 * mark.width, "stroke_dasharray": dashes}
