"""The live chart: SVG text, in units of half a pixel: whole numbers are then fine enough, and short."""

import html
from collections.abc import Sequence

import numpy as np

from speedkit.lab.chart.content import known_pieces, prepare
from speedkit.run import Run
from speedkit.support.messages import _, language

# SVG, in units of half a pixel: whole numbers are then fine enough, and short

LEFT, RIGHT, ABOVE, BELOW, HEIGHT = 116, 84, 80, 66, 300  # around and of the plotting area
FONT, SMALL, LEGEND_ROW, CHARACTER = 25, 22, 36, 13.5


def svg(run: Run, earlier: Sequence[Run] = (), width: int = 900) -> str:
    """The chart as one SVG element, ``width`` pixels wide before it is fitted to its column."""
    chart = prepare(run, earlier)
    whole = 2 * width
    parts, top = _svg_legend(chart.legend, whole)
    for i, panel in enumerate(chart.panels):
        x, y = (i % 2) * whole // 2, top + (i // 2) * (ABOVE + HEIGHT + BELOW)
        parts.append(f'<g transform="translate({x + LEFT} {y + ABOVE})">')
        parts += _svg_plot(panel, chart.x, whole // 2 - LEFT - RIGHT)
        parts.append("</g>")
    height = top + 2 * (ABOVE + HEIGHT + BELOW) + 36
    parts.append(svg_text(LEFT, height - 12, chart.caption))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" lang="{language()}" class="sk-chart" role="img" '
        f'data-n="{chart.count}" '
        f'aria-label="{html.escape(chart.words)}" viewBox="0 0 {whole} {height}" width="100%" '
        f'fill="currentColor" font-size="{SMALL}" stroke-linejoin="round" stroke-linecap="round">{"".join(parts)}</svg>'
    )


def _svg_legend(legend, whole):
    """The keys of the runs, as many a row as fit; and the height that they take."""
    parts, x, row = [], LEFT, 0
    for label, mark in legend:
        shown = label if len(label) <= 110 else f"{label[:109]}…"
        needed = 70 + len(shown) * CHARACTER
        if x > LEFT and x + needed > whole:
            x, row = LEFT, row + 1
        y = LEGEND_ROW * row + 24
        parts.append(f'<path d="M{x} {y - 8}h56" {_svg_stroke(mark)}/>')
        parts.append(svg_text(x + 70, y, shown, font=FONT))
        x += needed + 30
    return parts, LEGEND_ROW * (row + 1)


def _svg_plot(panel, steps, width):
    def place(x, shares):
        """Units right and down in the plotting area: int64 [points, 2]; nan shares are the caller's to leave out."""
        return np.rint(np.column_stack((steps.share(x) * width, (1 - shares) * HEIGHT))).astype(int)

    parts = [_svg_title(panel.title)]
    heights = {tick: round((1 - panel.left.share(tick)) * HEIGHT) for tick in panel.left.ticks}
    grid = "".join(f"M0 {y}h{width}" for y in heights.values())
    parts.append(f'<path d="{grid}" stroke="currentColor" stroke-opacity=".15" stroke-width="2"/>')
    parts += [svg_text(-10, heights[tick] + 8, words, "end") for tick, words in panel.left.ticks.items()]
    if panel.right:
        for tick, words in panel.right.ticks.items():
            parts.append(svg_text(width + 10, round((1 - panel.right.share(tick)) * HEIGHT) + 8, words))
    for tick, words in steps.ticks.items():
        x = round(steps.share(tick) * width)
        parts.append(svg_text(x, HEIGHT + 28, words, "end" if x > width - 40 else "middle"))
    parts.append(svg_text(width, HEIGHT + 54, _("steps"), "end"))
    for mark in panel.marks:
        parts.append(_svg_mark(mark, panel.right if mark.right else panel.left, place))
    if len(panel.clipped):
        across = np.rint(steps.share(panel.clipped) * width).astype(int).tolist()
        outline = "".join(f"M{x}-16l-8 14h16z" for x in across)
        parts.append(f'<path class="sk-clipped" d="{outline}" fill="currentColor"/>')
        parts.append(svg_text(width, -22, f"▲ {panel.clipped_words}", "end"))
    if panel.words and panel.empty:
        parts.append(svg_text(width // 2, HEIGHT // 2 - 14, panel.words, "middle", FONT))
    elif panel.words:
        parts.append(svg_text(0, -22, panel.words))
    return parts


def _svg_title(title):
    spans = []
    for words, key in title:
        square = f'<tspan fill="{key}">■ </tspan>' if key else ""
        spans.append(f"{square}{html.escape(words)}")
    return f'<text y="-50" font-size="{FONT}">{"&#160; ".join(spans)}</text>'


def _svg_mark(mark, axis, place):
    outline, dots = [], []
    for piece in known_pieces(mark):
        top = place(mark.x[piece], axis.share(mark.y[piece]))
        if mark.base is not None:
            bottom = place(mark.x[piece], axis.share(mark.base[piece]))
            outline.append(f"{_svg_points(np.concatenate((top, bottom[::-1])))}z")
        else:
            outline.append(_svg_points(top))
        if mark.dots or len(top) == 1:
            dots += [f"M{x} {y}h0" for x, y in top.tolist()]
    if not outline:
        return ""
    look = f'fill="{mark.colour}" fill-opacity="{mark.opacity}"' if mark.base is not None else _svg_stroke(mark)
    drawn = f'<path data-series="{mark.name}" d="{"".join(outline)}" {look}/>'
    return drawn + (f'<path d="{"".join(dots)}" stroke="{mark.colour}" stroke-width="13"/>' if dots else "")


def _svg_points(points):
    """A path along int64 [points, 2]: the first absolute, the others relative to the one before, which is shorter."""
    steps = np.diff(points, axis=0, prepend=points[:1])
    steps[0] = points[0]
    numbers = list(map(str, steps.ravel().tolist()))
    return f"M{' '.join(numbers[:2])}" + (f"l{' '.join(numbers[2:])}".replace(" -", "-") if len(numbers) > 2 else "")


def _svg_stroke(mark):
    dash = f' stroke-dasharray="{" ".join(str(2 * length) for length in mark.dash)}"' if mark.dash else ""
    return f'fill="none" stroke="{mark.colour}" stroke-width="{2 * mark.width:g}"{dash}'


def svg_text(x, y, words, anchor="", font=SMALL):
    look = (f' text-anchor="{anchor}"' if anchor else "") + (f' font-size="{font}"' if font != SMALL else "")
    return f'<text x="{x:g}" y="{y:g}"{look}>{html.escape(words)}</text>'
