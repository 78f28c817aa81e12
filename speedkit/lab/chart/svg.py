"""The live chart, as HTML: four drawings in SVG, side by side where there is room and else one below the other."""

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

from speedkit.lab.chart.content import View, known_pieces, prepare
from speedkit.lab.svg import NAMESPACE, cut, element, group, path, text
from speedkit.run import Run
from speedkit.support.messages import language

LEFT, RIGHT, ABOVE, BELOW, HEIGHT = 116, 84, 80, 66, 300  # margins and height of the plotting area, in half pixels
WIDTH, FONT, SMALL, BAR_ROW = 900, 25, 25, 34  # of one drawing
LETTERS = "font-size:12.5px;line-height:1.4;margin:0 0 0 2px"
# Two columns as soon as letters are 11 pixels high in both, never three; a drawing alone in its row does not fill it.
COLUMNS = "display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,max(396px,40%)),1fr));gap:0 8px"
WHOLE_ROW, ROW = "grid-column:1/-1", "display:flex;flex-wrap:wrap;gap:0 16px"


def svg(run: Run, earlier: Sequence[Run] = (), view: View | None = None) -> Markup:
    """The chart as one HTML element, as wide as its column. Of a run that has ended, values are read by pointing."""
    chart = prepare(run, earlier, view)
    legend = element("div", *map(_key, chart.legend), style=f"{LETTERS};{ROW};{WHOLE_ROW}")
    parts = [legend, *(_drawing(_plot(plot, chart), ABOVE + HEIGHT + BELOW, ABOVE) for plot in chart.plots)]
    if chart.bars:
        title = element("div", *map(_named, chart.bars_title), style=f"{LETTERS};{ROW}")
        bars = _drawing(_bars(chart, WIDTH - LEFT - RIGHT), BAR_ROW * len(chart.bars) + 10, 4, widest=480)
        parts.append(element("div", title, bars, style=WHOLE_ROW))
    parts.append(element("p", chart.caption, style=f"{LETTERS};{WHOLE_ROW}"))
    says = {"role": "img", "aria_label": chart.words, "lang": language(), "data_n": chart.count}
    return element("div", *parts, class_="sk-chart", style=COLUMNS, **says)


def _key(entry):
    """The key of a run: a piece of its line, and its label."""
    label, mark = entry
    line = element(
        "svg", path("M0 8h56", **_stroke(mark)), viewBox="0 0 60 16", width="30", height="8", xmlns=NAMESPACE
    )
    return element("span", line, f" {cut(label, 110)}")


def _named(piece):
    words, colour = piece
    return element("span", *[element("span", "■ ", style=f"color:{colour}")] * bool(colour), words)


def _drawing(parts, height, above, widest=640):
    """One drawing, its origin ``above`` below its top, at most ``widest`` pixels wide."""
    look = {"font_size": SMALL, "fill": "currentColor", "stroke_linecap": "round", "stroke_linejoin": "round"}
    size = {"viewBox": f"0 0 {WIDTH} {height}", "width": "100%", "style": f"max-width:{widest}px"}
    return element("svg", group(LEFT, above, *parts), xmlns=NAMESPACE, **size, **look)


def _plot(plot, chart):
    steps, width = chart.x, WIDTH - LEFT - RIGHT

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
    parts.append(text(width, HEIGHT + 54, chart.x_title, "end"))
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
    return [*parts, *_readings(plot.readings(steps, chart.x_title), width)] if chart.over else parts


def _readings(readings, width):
    """Unseen strips side by side: pointing at one shows the values there."""
    across = width / len(readings)
    for i, words in enumerate(readings):
        if words:
            strip = f"M{across * i:g} 0h{across:g}v{HEIGHT}h{-across:g}z"
            yield path(strip, element("title", words), fill_opacity="0")


def _bars(chart, width):
    """A bar for each run, its parts side by side; the longest takes half of the width, and words stand beside it."""
    parts, longest = [], max(bar.total for bar in chart.bars)
    for row, bar in enumerate(chart.bars):
        x, y = 0, BAR_ROW * row
        for size, colour in bar.parts:
            across = round(width / 2 * size / longest)
            drawn = max(0, across - 2)  # a gap tells neighbours apart
            parts.append(path(f"M{x} {y}h{drawn}v22h{-drawn}z", fill=colour))
            x += across
        parts.append(text(x + 14, y + 19, cut(bar.words, 60)))
    return parts


def _title(title):
    pieces = []
    for words, key in title:
        pieces += [Markup("&#160; ")] if pieces else []
        pieces += [element("tspan", "■ ", fill=key), words] if key else [words]
    return element("text", *pieces, y=-50, font_size=FONT)


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
