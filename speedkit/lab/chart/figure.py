"""The chart as a static figure, drawn once, when a run has ended."""

import io
import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from speedkit.lab.chart.content import View, prepare
from speedkit.lab.picture import INK, drawing
from speedkit.run import Run

FIGURE_INK = "#222222"  # what INK is on the figure's white
PLAIN = {"fontsize": 8.5, "parse_math": False, "color": FIGURE_INK}


def figure(run: Run, earlier: Sequence[Run] = (), view: View | None = None):
    """The chart as a ``matplotlib.figure.Figure`` without pyplot: 900 x 560 pixels, and more for the bars of memory."""
    with drawing():
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        chart = prepare(run, earlier, view)
        below = 0.3 + 0.18 * len(chart.bars) if chart.bars else 0.0  # inches
        height = 5.6 + below
        drawn = Figure(figsize=(9, height), dpi=100)
        FigureCanvasAgg(drawn)
        rows = _draw_legend(drawn, chart.legend)
        four = drawn.subplots(2, 2)
        for axes, plot in zip(four.flat, chart.plots, strict=True):
            _draw(axes, plot, chart.x, chart.x_title)
        if chart.bars:
            _draw_bars(drawn.add_axes((0.075, 0.28 / height, 0.865, (below - 0.3) / height)), chart)
        drawn.text(0.075, 0.07 / height, chart.caption, fontsize=7.5, color=FIGURE_INK, parse_math=False)
        ends = {"bottom": (0.56 + below) / height, "top": 1 - (0.45 + 0.2 * rows) / height}
        drawn.subplots_adjust(left=0.075, right=0.94, wspace=0.34, hspace=0.5, **ends)
        return drawn


def _draw_bars(axes, chart):
    longest = max(bar.total for bar in chart.bars)
    for row, bar in enumerate(chart.bars):
        left = 0.0
        for size, colour in bar.parts:
            axes.barh(-row, size, left=left, height=0.7, color=colour, edgecolor="white", linewidth=0.8)
            left += size
        words = {"va": "center", "fontsize": 7.5, "color": FIGURE_INK, "parse_math": False}
        axes.text(left + longest / 50, -row, bar.words, **words)
    axes.set(xlim=(0, 2 * longest), ylim=(0.5 - len(chart.bars), 0.5))
    axes.set_axis_off()
    _draw_title(axes, chart.bars_title, 1.1)


def _draw(axes, plot, steps, x_title):
    _draw_title(axes, plot.title, 1.09)
    _draw_scale(axes.xaxis, axes.set_xlim, steps)
    _draw_scale(axes.yaxis, axes.set_ylim, plot.left)
    axes.grid(axis="y", color=FIGURE_INK, alpha=0.15, linewidth=0.8)
    axes.text(1, -0.12, x_title, transform=axes.transAxes, ha="right", va="top", fontsize=7.5, color=FIGURE_INK)
    every = [axes]
    if plot.right:
        every.append(axes.twinx())
        _draw_scale(every[1].yaxis, every[1].set_ylim, plot.right)
    for each in every:
        each.tick_params(length=0, labelsize=7.5, labelcolor=FIGURE_INK)
        each.spines[:].set_visible(False)
    for mark in plot.marks:
        _draw_mark(every[1] if mark.right else axes, mark, plot.right if mark.right else plot.left)
    if len(plot.clipped):
        top = np.full(len(plot.clipped), plot.left.high)
        axes.plot(plot.clipped, top, marker=6, linestyle="", color=FIGURE_INK, markersize=5, clip_on=False)
        place = {"transform": axes.transAxes, "ha": "right", "va": "bottom"}
        axes.text(1, 1.02, f"▲ {plot.clipped_words}", **place, **PLAIN | {"fontsize": 7.5})
    if plot.words:
        x, y, across = (0.5, 0.55, "center") if plot.empty else (0, 1.02, "left")
        axes.text(x, y, plot.words, transform=axes.transAxes, ha=across, va="bottom", **PLAIN | {"fontsize": 7.5})


def _draw_title(axes, title, y):
    from matplotlib.offsetbox import AnchoredOffsetbox, HPacker, TextArea

    pieces = []
    for words, key in title:
        pieces += [TextArea("■", textprops={**PLAIN, "color": key})] if key else []
        pieces.append(TextArea(words, textprops=PLAIN))
    packed = HPacker(children=pieces, pad=0, sep=5, align="baseline")
    where = {"bbox_to_anchor": (0, y), "bbox_transform": axes.transAxes, "pad": 0, "borderpad": 0, "frameon": False}
    axes.add_artist(AnchoredOffsetbox("lower left", child=packed, **where))


def _draw_scale(axis, set_limits, ticks):
    set_limits(ticks.low, ticks.high)
    axis.set_ticks(list(ticks.ticks), list(ticks.ticks.values()), parse_math=False)


def _draw_mark(axes, mark, axis):
    y = np.clip(mark.y, axis.low, axis.high)
    colour = _figure_colour(mark)
    if mark.base is None:
        dots = {"marker": "o", "markersize": 4, "clip_on": False} if mark.dots or len(y) == 1 else {}
        axes.plot(mark.x, y, color=colour, linewidth=0.75 * mark.width, linestyle=_figure_dash(mark), **dots)
    else:
        base = np.clip(mark.base, axis.low, axis.high)
        axes.fill_between(mark.x, base, y, where=~np.isnan(y), color=colour, alpha=mark.opacity, linewidth=0)


def _draw_legend(drawn, legend):
    """Draws the keys of the runs at the top; returns how many rows they take."""
    from matplotlib.lines import Line2D

    keys = [
        Line2D([], [], color=_figure_colour(mark), linewidth=0.75 * mark.width, linestyle=_figure_dash(mark))
        for __, mark in legend
    ]
    lengths = [12 + len(label) for label, __ in legend]  # key and gaps are as wide as twelve characters
    columns = len(legend) if sum(lengths) < 130 else max(1, 130 // max(lengths))
    shown = drawn.legend(
        keys,
        [label for label, __ in legend],
        loc="upper left",
        bbox_to_anchor=(0.068, 0.995),
        ncols=columns,
        fontsize=8.5,
        frameon=False,
        handlelength=3,
        borderpad=0,
        borderaxespad=0.2,
    )
    for words in shown.get_texts():
        words.set_parse_math(False)
    return math.ceil(len(legend) / columns)


def _figure_colour(mark):
    return FIGURE_INK if mark.colour == INK else mark.colour


def _figure_dash(mark):
    return (0, tuple(length / mark.width for length in mark.dash)) if mark.dash else "-"


# matplotlib caches fonts per thread, so a new thread per run would leak a set of fonts each time.
_render_pool = ThreadPoolExecutor(1, "figures")


def png(run: Run, earlier: Sequence[Run] = (), view: View | None = None) -> bytes:
    """The static figure as a PNG image. May be called from any thread; it is always drawn in the same one."""
    return _render_pool.submit(_png, run, earlier, view).result()


def _png(run, earlier, view):
    with drawing():
        image = io.BytesIO()
        figure(run, earlier, view).savefig(image, format="png")
        return image.getvalue()
