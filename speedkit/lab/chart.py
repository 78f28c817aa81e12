"""The chart of a run beside earlier ones: live as SVG text, as words, and once as a figure when the run has ended.

Knows :class:`~speedkit.run.Run` only. A series is thinned to points that stand for equally many steps each and keep
their mean, lowest and highest value, so that a frame costs the same however long the run is.
"""

import html
import io
import math
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple
from weakref import WeakKeyDictionary

import numpy as np

from speedkit.run import Run, number, percent, seconds, size
from speedkit.words import grouped, language, retold, say, whole

RAW_POINTS = 160  # up to so many steps of the current run, every step is a point
BANDED_POINTS = 80  # above, at most so many points with a band from the lowest to the highest
EARLIER_POINTS = 60  # of an earlier run, means only
EPOCH_POINTS = (40, 60)  # the same two limits for points that are epochs: banded and raw
EARLIER_RUNS = 6  # the newest that are drawn: as many as there are pairs of colour and dashes
RECENT = 32  # steps behind a figure that is called current
ENORMOUS = 1e100  # from here on a value counts as not available

# Okabe and Ito's colours with a contrast of at least 3 on white and on #111, and a grey
INK, WAITING, COMPUTING = "currentColor", "#D55E00", "#0072B2"
EARLIER_COLOURS = ("#009E73", "#CC79A7", "#8C8C8C")
EARLIER_DASHES = ((8, 4), (3, 4), (10, 4, 2, 4), (16, 4), (5, 3), (1, 3))

FIGURE_INK = "#222222"  # what INK is on the figure's white

DRAWING = threading.RLock()  # held while matplotlib works: it may be used from one thread at a time only


class Line(NamedTuple):
    """A thinned step column: float64 [points] each, nan where a figure is not available.

    ``x``, the middle of the steps that a point stands for, counted from 1; ``mean``, ``low`` and ``high`` of them.
    """

    x: np.ndarray
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray

    def times(self, factor: float) -> "Line":
        return Line(self.x, self.mean * factor, self.low * factor, self.high * factor)

    def rate(self, amount: float) -> "Line":
        """``amount`` divided by this line, which is a duration: the rate of the mean, lowest and highest duration."""
        with np.errstate(divide="ignore", over="ignore"):
            rates = [amount / values for values in self[1:]]
        mean, low, high = (np.where(np.abs(rate) < ENORMOUS, rate, math.nan) for rate in rates)
        return Line(self.x, mean, high, low)


class Trace(NamedTuple):
    """What is drawn and said of one run: its lines by column, its epochs, its current figures by name."""

    count: int
    each: int  # steps that a point of a line stands for
    lines: dict[str, Line]
    epoch_ends: np.ndarray  # in steps
    accuracy: np.ndarray  # on the validation images at those ends
    figures: dict[str, float]


class Mark(NamedTuple):
    """One thing to draw: a line along ``y`` or, where ``base`` is given, the area from ``base`` up to ``y``."""

    name: str
    x: np.ndarray
    y: np.ndarray
    base: np.ndarray | None = None
    colour: str = INK
    width: float = 2.0
    opacity: float = 1.0
    dash: tuple = ()
    dots: bool = False
    right: bool = False


class Scale(NamedTuple):
    """Where an axis begins and ends, and its ticks: value -> text."""

    low: float
    high: float
    ticks: dict[float, str]

    def share(self, values: np.ndarray) -> np.ndarray:
        """Where values lie from 0 at the low end to 1 at the high end; beyond the ends they are moved to them."""
        return (np.clip(values, self.low, self.high) - self.low) / (self.high - self.low)


class Panel(NamedTuple):
    """One of the four axes. ``title``: pieces of text with the colour of the key before them or None."""

    title: list[tuple[str, str | None]]
    marks: list[Mark]
    left: Scale
    right: Scale | None
    clipped: np.ndarray  # step numbers whose value lies above the left axis
    clipped_words: str
    words: str  # on what is missing

    @property
    def empty(self) -> bool:
        return all(np.isnan(mark.y).all() for mark in self.marks)


class Chart(NamedTuple):
    count: int  # of the steps of the current run that are drawn
    words: str
    legend: list[tuple[str, Mark]]
    x: Scale
    panels: list[Panel]
    caption: str


# Preparation, shared by the SVG and the figure


def thin(values: np.ndarray, points: int, raw: int = 0) -> Line:
    """A column [steps] as at most ``points`` + 1 points; up to ``raw`` steps every step is one.

    The first step, a warm-up, is a point of its own. Every other point stands for the same number of steps, a power
    of two, so that points stay where they are while a run grows.
    """
    count = len(values)
    each = _steps_a_point(count, points, raw)
    starts = np.concatenate(([0], np.arange(1, count, each)))[:count]
    known = np.abs(values) < ENORMOUS
    with np.errstate(invalid="ignore", divide="ignore"):
        if each == 1:
            mean = low = high = np.where(known, values, math.nan)
        else:
            if not known.all():
                values = np.where(known, values, math.nan)
            low, high = (_bucketed(function, values, each) for function in (np.fmin, np.fmax))
            mean = _bucketed(np.add, np.where(known, values, 0.0), each) / _bucketed(np.add, known.astype(float), each)
    ends = np.append(starts[1:], count)
    return Line((starts + ends + 1) / 2, mean, low, high)


def _bucketed(function, values, each):
    whole = 1 + (count := len(values) - 1) // each * each
    parts = [values[:1], function.reduce(values[1:whole].reshape(-1, each), axis=1)]
    if whole <= count:
        parts.append(function.reduce(values[whole:], keepdims=True))
    return np.concatenate(parts)


def _steps_a_point(count, points, raw):
    each = 1
    while count > max(raw, points + 1) and math.ceil((count - 1) / each) > points:
        each *= 2
    return each


_traces: WeakKeyDictionary = WeakKeyDictionary()


def _trace(run: Run, points: int, raw: int = 0) -> Trace:
    """The trace of a run; that of a run which is over is made once and kept as long as the run."""
    over = run.status not in ("new", "running")
    key = (run.count, points, raw)
    kept = _traces.get(run, {}) if over else {}
    if key not in kept:
        trace = _new_trace(run, over, *key)
        if not over:
            return trace
        kept = _traces.setdefault(run, {})
        kept[key] = trace
    return kept[key]


def _new_trace(run, over, count, points, raw):
    lines, figures = {}, {}
    for name in ("wait_s", "compute_s", "step_s", "memory", "loss"):
        values = run.column(name)[:count]
        lines[name] = thin(values, points, raw)
        recent = values[-RECENT:] if name in ("memory", "loss") or not over else values
        recent = recent[1:] if len(recent) == count > 1 else recent
        recent = recent[np.abs(recent) < ENORMOUS]
        figures[name] = float(recent[-1] if name == "memory" else recent.mean()) if len(recent) else math.nan
    lines["images_per_s"] = lines["step_s"].rate(run.recipe.batch_size)
    figures["images_per_s"] = run.recipe.batch_size / figures["step_s"] if figures["step_s"] else math.nan
    ends, accuracy = run.epoch_columns("steps", "validation_accuracy").values()
    accuracy = np.where((accuracy >= 0) & (accuracy <= 1), accuracy, math.nan)
    figures["validation_accuracy"] = float(accuracy[-1]) if len(accuracy) else math.nan
    ends, accuracy = thin(ends, *EPOCH_POINTS).high, thin(accuracy, *EPOCH_POINTS).mean
    return Trace(count, _steps_a_point(count, points, raw), lines, ends, accuracy, figures)


def labels(runs: Sequence[Run]) -> list[str]:
    """A label for each run that no other has: where they repeat, with the settings that differ, or a number."""
    found: list[str] = []
    first: dict[str, Run] = {}
    for run in runs:
        label = run.label
        if label in first:
            changed = list(first[label].recipe.differences(run.recipe).items())[:2]
            label += "".join(f", {name} {value}" for name, (_, value) in changed)
        first.setdefault(run.label, run)
        distinct, copy = label, 2
        while distinct in found:
            distinct, copy = f"{label} ({copy})", copy + 1
        found.append(distinct)
    return found


def _all_traces(run, earlier):
    earlier = list(earlier)[-EARLIER_RUNS:]
    points = EARLIER_POINTS if len(earlier) <= 3 else EARLIER_POINTS // 2
    return earlier, _trace(run, BANDED_POINTS, RAW_POINTS), [_trace(each, points) for each in earlier]


def prepare(run: Run, earlier: Sequence[Run] = ()) -> Chart:
    """Everything that is drawn of a run and of the newest earlier ones, in the units that are shown."""
    earlier, now, before = _all_traces(run, earlier)
    styles = [
        {
            "colour": EARLIER_COLOURS[i % len(EARLIER_COLOURS)],
            "width": 1.6,
            "dash": EARLIER_DASHES[i % len(EARLIER_DASHES)],
        }
        for i in range(len(earlier))
    ]
    names = labels([*earlier, run])
    nothing = np.empty(0)
    legend = [(say("this run: {name}", name=names[-1]), Mark("", nothing, nothing))]
    legend += [(name, Mark("", nothing, nothing, **style)) for name, style in zip(names, styles, strict=False)]
    if run.status in ("new", "running"):
        caption = say("Times and rates in the titles: means of the last {steps} steps.", steps=RECENT)
    else:
        caption = say("Times and rates in the titles: means of the whole run.")
    if now.each > 1:
        band = say("Line: mean of {steps} steps; band: lowest to highest of them.", steps=whole(now.each))
        caption = f"{band} {caption}"
    return Chart(
        now.count,
        _words(run, now, before, names),
        legend,
        _steps_scale(run, now, before),
        [
            _time_panel(now, before, styles),
            _memory_panel(run, now, before, styles),
            _rate_panel(now, before, styles),
            _learning_panel(now, before, styles),
        ],
        caption,
    )


def _time_panel(now, before, styles):
    wait, compute, total = (now.lines[name].times(1000) for name in ("wait_s", "compute_s", "step_s"))
    floor = np.zeros(len(compute.x))
    stacked = np.where(np.isnan(compute.mean), 0.0, compute.mean)
    marks = [
        Mark("compute_s", compute.x, compute.mean, floor, colour=COMPUTING, opacity=0.5),
        Mark("wait_s", wait.x, stacked + wait.mean, stacked, colour=WAITING, opacity=0.5),
        *_current("step_s", total._replace(low=total.mean), now.each),
        *(
            _mean("step_s", trace.lines["step_s"].times(1000), style)
            for trace, style in zip(before, styles, strict=True)
        ),
    ]
    title = [
        (say("time of a step:"), None),
        (say("waiting for data {time}", time=seconds(now.figures["wait_s"])), WAITING),
        (say("computing {time}", time=seconds(now.figures["compute_s"])), COMPUTING),
    ]
    return _panel(title, marks, "ms", 2, now, lambda value: seconds(value / 1000), ("wait_s", "compute_s"))


def _memory_panel(run, now, before, styles):
    lines = [trace.lines["memory"] for trace in (now, *before)]
    largest = max((float(line.high[known].max()) for line in lines if (known := ~np.isnan(line.high)).any()), default=0)
    unit, factor = ("GiB", 2**30) if largest >= 2 * 2**30 else ("MiB", 2**20)
    first, *rest = (line.times(1 / factor) for line in lines)
    marks = [*_current("memory", first, now.each)]
    marks += [_mean("memory", line, style) for line, style in zip(rest, styles, strict=True)]
    title = [(_memory_words(run, now), None)]
    return _panel(title, marks, unit, 4, now, lambda value: size(value * factor), ("memory",))


def _memory_words(run, now):
    amount = size(now.figures["memory"])
    if str(run.machine.get("device", "")).startswith("cuda"):
        return say("memory on the device: {amount}", amount=amount)
    return say("memory of the processes (resident): {amount}", amount=amount)


def _rate_words(now):
    return say("images per second: {rate}", rate=number(now.figures["images_per_s"]))


def _rate_panel(now, before, styles):
    marks = [*_current("images_per_s", now.lines["images_per_s"], now.each)]
    marks += [
        _mean("images_per_s", trace.lines["images_per_s"], style) for trace, style in zip(before, styles, strict=True)
    ]
    title = [(_rate_words(now), None)]
    return _panel(title, marks, "/s", 2, now, lambda value: f"{number(value)}/s", ("images_per_s",))


def _learning_panel(now, before, styles):
    marks = [*_current("loss", _joined(now.lines["loss"]), now.each)]
    marks += [_mean("loss", _joined(trace.lines["loss"]), style) for trace, style in zip(before, styles, strict=True)]
    for trace, style in zip((*before, now), (*styles, {}), strict=True):  # the current run's dots lie on top
        if not np.isnan(trace.accuracy).all():
            look = style | {"width": 1, "dots": True, "right": True}
            marks.append(Mark("validation_accuracy", trace.epoch_ends, trace.accuracy * 100, **look))
    ended = percent(now.figures["validation_accuracy"]) if len(now.accuracy) else say("not yet")
    title = [
        (say("training loss (left) {loss}", loss=_plain(now.figures["loss"])), None),
        (say("● validation accuracy (right) {accuracy}", accuracy=ended), None),
    ]
    return _panel(title, marks, "", 5, now, _plain, ("loss",))


def _current(name, line, each):
    if each > 1:
        yield Mark(f"{name} band", line.x, line.high, line.low, opacity=0.2)
    yield Mark(name, line.x, line.mean)


def _mean(name, line, style):
    return Mark(name, line.x, line.mean, **style)


def _joined(line):
    """The line without its gaps: a loss is fetched from a device only now and then."""
    known = ~np.isnan(line.mean)
    return Line(*(values[known] for values in line))


def _panel(title, marks, unit, outlier, now, shown: Callable[[float], str], columns):
    left = [mark for mark in marks if not mark.right]
    low, high, highest = _limits(left, outlier)
    axis = scale(low, high, unit)
    clipped, words = np.empty(0), ""
    if highest > axis.high:
        clipped = np.unique(np.concatenate([mark.x[mark.y > axis.high] for mark in left]))
        at_start = any(len(mark.y) and mark.y[0] == highest for mark in left)
        words = (
            say("first step {value}", value=shown(highest)) if at_start else say("up to {value}", value=shown(highest))
        )
    missing = [name for name in columns if np.isnan(now.lines[name].mean).all()]
    if now.count == 0:
        nothing = say("no step yet")
    elif missing == ["wait_s"]:
        nothing = say("waiting: n/a on this machine")
    elif missing == ["compute_s"]:
        nothing = say("computing: n/a on this machine")
    elif missing:
        nothing = say("n/a on this machine")
    else:
        nothing = ""
    return Panel(title, marks, axis, _right_scale(marks), clipped, words, nothing)


def _limits(marks, outlier):
    """The low and high end of what an axis has to show, and the highest value of all.

    Each mark is seen whole up to its 95th percentile without the first step; single values above ``outlier`` times
    that do not squash the rest, and nor does a band above three times its line.
    """
    lowest, usual, highest, banded = 0.0, 0.0, 0.0, 0.0
    for mark in marks:
        known = ~np.isnan(mark.y)
        if not known.any():
            continue
        highest, lowest = max(highest, float(mark.y[known].max())), min(lowest, float(mark.y[known].min()))
        ordered = np.sort(mark.y[1:][known[1:]] if known[1:].any() else mark.y[known])
        most = float(ordered[int(0.95 * (len(ordered) - 1))])
        if mark.name.endswith("band"):
            banded = most
        else:
            usual = max(usual, most)
    usual = max(usual, min(banded, 3 * usual))
    high = highest if highest <= outlier * usual else 1.1 * usual
    return lowest, high if high - lowest > 1e-9 else lowest + 1, highest


def _right_scale(marks):
    values = [mark.y[~np.isnan(mark.y)] for mark in marks if mark.right]
    values = np.concatenate(values) if values else np.empty(0)
    if not len(values):
        return None
    low, high = float(values.min()), float(values.max())
    if high - low < 5:
        low, high = (low + high) / 2 - 2.5, (low + high) / 2 + 2.5
        low, high = (95.0, 100.0) if low + 5 > 100 >= high - 2.5 else (max(low, 0.0), high)
    return scale(low, high, say("{number}%", number=""))


def scale(low: float, high: float, unit: str = "") -> Scale:
    """A scale from ``low`` to ``high`` or a little further, with ticks at multiples of 1, 2 or 5 x 10^k.

    The highest tick names the unit.
    """
    step = nice_step((high - low) / 4)
    ticks = [step * i for i in range(math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9) + 1)]
    words = [_tick(tick, step) for tick in ticks]
    words[-1] += f" {unit}" if unit.isalpha() else unit
    return Scale(ticks[0], ticks[-1], dict(zip(ticks, words, strict=True)))


def nice_step(least: float) -> float:
    """The smallest of 1, 2 and 5 x 10^k that is not below ``least``."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= least * (1 - 1e-9))


def _tick(value, step):
    if value == 0:
        return "0"
    if abs(value) >= 1e7 or step < 1e-4:
        return f"{value:g}"
    return grouped(f"{value:,.{max(0, -math.floor(math.log10(step) + 1e-9))}f}")


def _steps_scale(run, now, before):
    most = max([now.count, *(trace.count for trace in before)])
    if run.status in ("new", "running"):
        step = nice_step(max(most, 10) / 10)
        most = math.ceil(max(most, 10) / step) * step
    most = max(most, 1)
    step = max(nice_step(most / 5), 1)
    ticks = [step * i for i in range(int(most / step) + 1)]
    return Scale(0, most, {tick: _tick(tick, step) for tick in ticks})


def _plain(value):
    return f"{value:.3g}" if math.isfinite(value) else say("n/a")


# Words


def text(run: Run, earlier: Sequence[Run] = ()) -> str:
    """The last figures of a run and of earlier ones in a few lines of plain text."""
    earlier, now, before = _all_traces(run, earlier)
    return _words(run, now, before, labels([*earlier, run]))


def _words(run, now, before, names):
    figures = now.figures
    if run.total_steps:
        steps = say("step {done} of {total}", done=whole(now.count), total=whole(run.total_steps))
    else:
        steps = say("step {done}", done=whole(now.count))
    lines = [
        say("{name} ({status}): {steps}", name=names[-1], status=retold(run.status), steps=steps),
        say(
            "time of a step: {waiting} waiting for data + {computing} computing",
            waiting=seconds(figures["wait_s"]),
            computing=seconds(figures["compute_s"]),
        ),
        _memory_words(run, now),
        _rate_words(now),
        say(
            "training loss {loss}, validation accuracy {accuracy}",
            loss=_plain(figures["loss"]),
            accuracy=percent(figures["validation_accuracy"]),
        ),
    ]
    for trace, name in zip(before, names, strict=False):
        figures = trace.figures
        lines.append(
            say(
                "earlier, {name}: {time} a step, {memory}, {rate} images/s, validation accuracy {accuracy}",
                name=name,
                time=seconds(figures["step_s"]),
                memory=size(figures["memory"]),
                rate=number(figures["images_per_s"]),
                accuracy=percent(figures["validation_accuracy"]),
            )
        )
    return "\n".join(lines)


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
        parts += _svg_panel(panel, chart.x, whole // 2 - LEFT - RIGHT)
        parts.append("</g>")
    height = top + 2 * (ABOVE + HEIGHT + BELOW) + 36
    parts.append(_svg_text(LEFT, height - 12, chart.caption))
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
        parts.append(_svg_text(x + 70, y, shown, font=FONT))
        x += needed + 30
    return parts, LEGEND_ROW * (row + 1)


def _svg_panel(panel, steps, width):
    def place(x, shares):
        """Units right and down in the plotting area: int64 [points, 2]; nan shares are the caller's to leave out."""
        return np.rint(np.column_stack((steps.share(x) * width, (1 - shares) * HEIGHT))).astype(int)

    parts = [_svg_title(panel.title)]
    heights = {tick: round((1 - panel.left.share(tick)) * HEIGHT) for tick in panel.left.ticks}
    grid = "".join(f"M0 {y}h{width}" for y in heights.values())
    parts.append(f'<path d="{grid}" stroke="currentColor" stroke-opacity=".15" stroke-width="2"/>')
    parts += [_svg_text(-10, heights[tick] + 8, words, "end") for tick, words in panel.left.ticks.items()]
    if panel.right:
        for tick, words in panel.right.ticks.items():
            parts.append(_svg_text(width + 10, round((1 - panel.right.share(tick)) * HEIGHT) + 8, words))
    for tick, words in steps.ticks.items():
        x = round(steps.share(tick) * width)
        parts.append(_svg_text(x, HEIGHT + 28, words, "end" if x > width - 40 else "middle"))
    parts.append(_svg_text(width, HEIGHT + 54, say("steps"), "end"))
    for mark in panel.marks:
        parts.append(_svg_mark(mark, panel.right if mark.right else panel.left, place))
    if len(panel.clipped):
        across = np.rint(steps.share(panel.clipped) * width).astype(int).tolist()
        outline = "".join(f"M{x}-16l-8 14h16z" for x in across)
        parts.append(f'<path class="sk-clipped" d="{outline}" fill="currentColor"/>')
        parts.append(_svg_text(width, -22, f"▲ {panel.clipped_words}", "end"))
    if panel.words and panel.empty:
        parts.append(_svg_text(width // 2, HEIGHT // 2 - 14, panel.words, "middle", FONT))
    elif panel.words:
        parts.append(_svg_text(0, -22, panel.words))
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


def _svg_text(x, y, words, anchor="", font=SMALL):
    look = (f' text-anchor="{anchor}"' if anchor else "") + (f' font-size="{font}"' if font != SMALL else "")
    return f'<text x="{x:g}" y="{y:g}"{look}>{html.escape(words)}</text>'


def known_pieces(mark: Mark) -> list[slice]:
    """The stretches of a mark between its gaps."""
    known = ~np.isnan(mark.y)
    edges = np.flatnonzero(np.diff(known, prepend=False, append=False))
    return [slice(begin, end) for begin, end in edges.reshape(-1, 2).tolist()]


# The static figure


def figure(run: Run, earlier: Sequence[Run] = ()):
    """The chart as a ``matplotlib.figure.Figure`` without pyplot, 900 pixels wide at 100 dots an inch."""
    with DRAWING:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        chart = prepare(run, earlier)
        drawn = Figure(figsize=(9, 5.6), dpi=100, facecolor="white")
        FigureCanvasAgg(drawn)
        rows = _draw_legend(drawn, chart.legend)
        four = drawn.subplots(2, 2)
        for axes, panel in zip(four.flat, chart.panels, strict=True):
            _draw(axes, panel, chart.x)
        drawn.text(0.075, 0.012, chart.caption, fontsize=7.5, color=FIGURE_INK, parse_math=False)
        drawn.subplots_adjust(left=0.075, right=0.94, bottom=0.1, top=0.92 - 0.036 * rows, wspace=0.34, hspace=0.5)
        return drawn


def _draw(axes, panel, steps):
    from matplotlib.offsetbox import AnchoredOffsetbox, HPacker, TextArea

    plain = {"fontsize": 8.5, "parse_math": False, "color": FIGURE_INK}
    pieces = []
    for words, key in panel.title:
        pieces += [TextArea("■", textprops={**plain, "color": key})] if key else []
        pieces.append(TextArea(words, textprops=plain))
    title = HPacker(children=pieces, pad=0, sep=5, align="baseline")
    where = {"bbox_to_anchor": (0, 1.09), "bbox_transform": axes.transAxes, "pad": 0, "borderpad": 0, "frameon": False}
    axes.add_artist(AnchoredOffsetbox("lower left", child=title, **where))
    _draw_scale(axes.xaxis, axes.set_xlim, steps)
    _draw_scale(axes.yaxis, axes.set_ylim, panel.left)
    axes.grid(axis="y", color=FIGURE_INK, alpha=0.15, linewidth=0.8)
    axes.text(1, -0.12, say("steps"), transform=axes.transAxes, ha="right", va="top", fontsize=7.5, color=FIGURE_INK)
    every = [axes]
    if panel.right:
        every.append(axes.twinx())
        _draw_scale(every[1].yaxis, every[1].set_ylim, panel.right)
    for each in every:
        each.tick_params(length=0, labelsize=7.5, labelcolor=FIGURE_INK)
        each.spines[:].set_visible(False)
    for mark in panel.marks:
        _draw_mark(every[1] if mark.right else axes, mark, panel.right if mark.right else panel.left)
    if len(panel.clipped):
        top = np.full(len(panel.clipped), panel.left.high)
        axes.plot(panel.clipped, top, marker=6, linestyle="", color=FIGURE_INK, markersize=5, clip_on=False)
        beside = {"transform": axes.transAxes, "ha": "right", "va": "bottom"}
        axes.text(1, 1.02, f"▲ {panel.clipped_words}", **beside, **plain | {"fontsize": 7.5})
    if panel.words:
        x, y, across = (0.5, 0.55, "center") if panel.empty else (0, 1.02, "left")
        axes.text(x, y, panel.words, transform=axes.transAxes, ha=across, va="bottom", **plain | {"fontsize": 7.5})


def _draw_scale(axis, set_limits, ticks):
    set_limits(ticks.low, ticks.high)
    axis.set_ticks(list(ticks.ticks), list(ticks.ticks.values()), parse_math=False)


def _draw_mark(axes, mark, axis):
    y = np.clip(mark.y, axis.low, axis.high)
    colour = _figure_colour(mark)
    if mark.base is None:
        dots = {"marker": "o", "markersize": 4} if mark.dots or len(y) == 1 else {}
        axes.plot(mark.x, y, color=colour, linewidth=0.75 * mark.width, linestyle=_figure_dash(mark), **dots)
    else:
        base = np.clip(mark.base, axis.low, axis.high)
        axes.fill_between(mark.x, base, y, where=~np.isnan(y), color=colour, alpha=mark.opacity, linewidth=0)


def _draw_legend(drawn, legend):
    """Draws the keys of the runs at the top; returns how many rows they take."""
    from matplotlib.lines import Line2D

    keys = [
        Line2D([], [], color=_figure_colour(mark), linewidth=0.75 * mark.width, linestyle=_figure_dash(mark))
        for _, mark in legend
    ]
    lengths = [12 + len(label) for label, _ in legend]  # the key and the gaps take as much as twelve characters
    columns = len(legend) if sum(lengths) < 130 else max(1, 130 // max(lengths))
    shown = drawn.legend(
        keys,
        [label for label, _ in legend],
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


# matplotlib keeps the fonts that it opened for each thread anew: of a new one a run there would be ever more.
_draughtsman = ThreadPoolExecutor(1, "figures")


def png(run: Run, earlier: Sequence[Run] = ()) -> bytes:
    """The static figure as a PNG image. May be called from any thread; it is always drawn in the same one."""
    return _draughtsman.submit(_png, run, earlier).result()


def _png(run, earlier):
    with DRAWING:
        image = io.BytesIO()
        figure(run, earlier).savefig(image, format="png")
        return image.getvalue()
