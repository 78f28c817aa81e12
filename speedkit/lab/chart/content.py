"""What the chart of a run shows, in words and numbers; ``svg`` and ``figure`` draw it.

It uses only :class:`~speedkit.run.Run`. A series is thinned to points that each stand for the same number of steps,
with their mean, lowest and highest value, so that a frame costs the same however long the run is.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple
from weakref import WeakKeyDictionary

import numpy as np

from speedkit.lab.axes import Scale, nice_step, scale, tick_text
from speedkit.lab.picture import COMPUTING, EARLIER_DASHES, INK, PART_COLOURS, RUN_COLOURS, VALIDATION, WAITING
from speedkit.recipe import Recipe
from speedkit.run import Run, labels
from speedkit.support.messages import N_, _, whole
from speedkit.support.units import number, percent, seconds, size
from speedkit.tasks import task_of

RAW_POINTS = 160  # up to this many steps of the current run, every step is a point
BANDED_POINTS = 80  # with more steps, at most this many points, with a band from the lowest to the highest value
EARLIER_POINTS = 60  # of an earlier run, means only
EPOCH_POINTS = (40, 60)  # the same two limits for points that are epochs: banded and raw
EARLIER_RUNS = len(EARLIER_DASHES)  # the newest ones are drawn, so that all differ even if one recipe made them
READINGS = 24  # places along an axis where the values can be read by pointing
RECENT = 32  # the last steps, from which current values are taken
PARTS = {  # of the memory of a step, from left to right
    "weights": N_("weights"),
    "optimizer": N_("optimizer state"),
    "gradients": N_("gradients"),
    "activations": N_("activations"),
    "temporary": N_("temporary"),
}
ENORMOUS = 1e100  # a value from here on counts as not available


class Line(NamedTuple):
    """A thinned step column: four float64 [points], nan if a value is not available.

    ``x`` is the middle of a point's steps, counted from 1; ``mean``, ``low`` and ``high`` are over these steps.
    """

    x: np.ndarray
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray

    def times(self, factor: float) -> "Line":
        return Line(self.x, self.mean * factor, self.low * factor, self.high * factor)

    def rate(self, amount: float) -> "Line":
        """``amount`` divided by this line's durations: the rates at the mean, the highest and the lowest one."""
        with np.errstate(divide="ignore", over="ignore"):
            rates = [amount / values for values in self[1:]]
        mean, low, high = (np.where(np.abs(rate) < ENORMOUS, rate, math.nan) for rate in rates)
        return Line(self.x, mean, high, low)


class Trace(NamedTuple):
    """What is shown of one run: its lines by column, its epochs, and its current values by name."""

    count: int
    over: bool  # the run has ended
    each: int  # steps that a point of a line stands for
    lines: dict[str, Line]
    epoch_ends: np.ndarray  # in steps
    accuracy: np.ndarray  # on the validation images, at these ends
    validation_loss: np.ndarray
    latest: dict[str, float]


class Mark(NamedTuple):
    """One thing to draw: a line along ``y`` or, if ``base`` is given, the area from ``base`` up to ``y``."""

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
    run: str = ""  # the label of the run whose values these are


class Plot(NamedTuple):
    """One of the four axes. ``title``: pieces of text with the colour of the key before them or None."""

    title: list[tuple[str, str | None]]
    marks: list[Mark]
    left: Scale
    right: Scale | None
    clipped: np.ndarray  # steps whose value is above the left axis
    clipped_words: str
    words: str  # what is missing
    shown: Callable[[float], str]  # a value of the left axis in words

    @property
    def empty(self) -> bool:
        return all(np.isnan(mark.y).all() for mark in self.marks)

    def readings(self, axis: Scale, unit: str) -> list[str]:
        """The values of all runs at :data:`READINGS` places along ``axis``, in words; "" where there are none."""
        edges = np.linspace(axis.low, axis.high, READINGS + 1)
        lines = [mark for mark in self.marks if mark.run and mark.base is None]
        words = []
        for low, high in itertools.pairwise(edges):
            values = [(mark, _mean_between(mark, low, high)) for mark in lines]
            said = [
                _("{name}: {value}", name=mark.run, value=percent(value / 100) if mark.right else self.shown(value))
                for mark, value in values
                if math.isfinite(value)
            ]
            here = tick_text((low + high) / 2, nice_step((axis.high - axis.low) / 100))
            words.append("\n".join([f"{here} {unit}", *said]) if said else "")
        return words


class Bar(NamedTuple):
    """The memory of one training step of a run, counted: (bytes, colour) by part, and words beside the bar."""

    parts: list[tuple[float, str]]
    words: str

    @property
    def total(self) -> float:
        return sum(size for size, __ in self.parts)


class Chart(NamedTuple):
    """A whole chart, ready to draw. ``words``: the same in plain text."""

    count: int  # steps of the current run that are drawn
    over: bool  # the current run has ended
    words: str
    legend: list[tuple[str, Mark]]
    x: Scale
    x_title: str
    plots: list[Plot]
    bars_title: list[tuple[str, str | None]]  # as a plot's
    bars: list[Bar]
    caption: str


# Preparation, shared by the SVG and the figure


def thin(values: np.ndarray, points: int, raw: int = 0) -> Line:
    """A column [steps] as at most ``points`` + 1 points; up to ``raw`` steps, every step is one.

    The first step, a warm-up, is a point of its own. Every other point stands for the same number of steps, a power
    of two, so that points stay in place while a run grows.
    """
    count = len(values)
    each = _steps_per_point(count, points, raw)
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


def _steps_per_point(count, points, raw):
    each = 1
    while count > max(raw, points + 1) and math.ceil((count - 1) / each) > points:
        each *= 2
    return each


_traces: WeakKeyDictionary = WeakKeyDictionary()


def _trace(run: Run, points: int, raw: int = 0, in_seconds: bool = False) -> Trace:
    """The trace of a run; once a run has ended, its trace is cached for as long as the run exists."""
    over = run.status not in ("new", "running")
    key = (run.count, points, raw, in_seconds)
    cached = _traces.setdefault(run, {}) if over else {}
    if key not in cached:
        cached[key] = _new_trace(run, over, *key)
    return cached[key]


def _new_trace(run, over, count, points, raw, in_seconds):
    lines, latest = {}, {}
    for name in (*["t"] * in_seconds, "wait_s", "compute_s", "step_s", "memory", "loss"):
        values = run.column(name)[:count]
        if name == "memory" and run.memory_is_of_processes:  # most of it are libraries, the same in every run
            values = values - run.scalars.get("memory_at_start", 0.0)
        lines[name] = thin(values, points, raw)
        recent = values[-RECENT:] if name in ("memory", "loss") or not over else values
        recent = recent[1:] if len(recent) == count > 1 else recent
        recent = recent[np.abs(recent) < ENORMOUS]
        latest[name] = float(recent[-1] if name == "memory" else recent.mean()) if len(recent) else math.nan
    lines["images_per_s"] = lines["step_s"].rate(run.recipe.units_per_step)
    latest["images_per_s"] = run.recipe.units_per_step / latest["step_s"] if latest["step_s"] else math.nan
    ends, accuracy, loss = run.epoch_columns(
        "t" if in_seconds else "steps", "validation_accuracy", "validation_loss"
    ).values()
    accuracy = np.where((accuracy >= 0) & (accuracy <= 1), accuracy, math.nan)
    for name, values in {"validation_accuracy": accuracy, "validation_loss": loss}.items():
        latest[name] = float(values[-1]) if len(values) else math.nan
    ends, accuracy, loss = (
        thin(ends, *EPOCH_POINTS).high,
        *(thin(each, *EPOCH_POINTS).mean for each in (accuracy, loss)),
    )
    if in_seconds:
        when = lines["t"].mean
        lines = {name: line._replace(x=when) for name, line in lines.items()}
    return Trace(count, over, _steps_per_point(count, points, raw), lines, ends, accuracy, loss, latest)


def _all_traces(run, earlier, in_seconds=False):
    task = task_of(run.recipe)  # what another one counts and predicts does not belong on these axes
    earlier = [each for each in earlier if task_of(each.recipe) is task][-EARLIER_RUNS:]
    points = EARLIER_POINTS if len(earlier) <= 3 else EARLIER_POINTS // 2
    before = [_trace(each, points, 0, in_seconds) for each in earlier]
    return earlier, _trace(run, BANDED_POINTS, RAW_POINTS, in_seconds), before


class View:
    """How a panel or a cell draws its runs: along which axis, and in which colours and dashes.

    A recipe has one colour, and its runs keep it: solid while it is the current run, dashed among the earlier ones. Of
    the runs that are drawn together, no two look alike.
    """

    def __init__(self, in_seconds: bool = False):
        """in_seconds: along the time since the first step, so that a faster run arrives sooner, not along the steps."""
        self.in_seconds = in_seconds
        self._recipes: list[Recipe] = []  # in the order in which they came
        self._dashes: WeakKeyDictionary = WeakKeyDictionary()

    def style(self, run: Run) -> dict:
        """Of the current run."""
        return {"colour": RUN_COLOURS[self._place(run) % len(RUN_COLOURS)]}

    def styles(self, earlier: Sequence[Run]) -> list[dict]:
        """Of earlier runs, at most :data:`EARLIER_RUNS` of them."""
        looks: dict[Run, tuple] = {}
        for run in sorted(earlier, key=lambda run: run not in self._dashes):  # who has dashes already keeps them
            colour, place = self.style(run)["colour"], self._place(run) % len(EARLIER_DASHES)
            dashes = [*EARLIER_DASHES[place:], *EARLIER_DASHES[:place]]
            wanted = [self._dashes.get(run, dashes[0]), *dashes]
            looks[run] = next(look for dash in wanted if (look := (colour, dash)) not in looks.values())
            self._dashes[run] = looks[run][1]
        return [{"colour": looks[run][0], "width": 1.6, "dash": looks[run][1]} for run in earlier]

    def _place(self, run):
        if run.recipe not in self._recipes:
            self._recipes.append(run.recipe)
        return self._recipes.index(run.recipe)


def prepare(run: Run, earlier: Sequence[Run] = (), view: View | None = None) -> Chart:
    """Everything that is drawn of a run and of the newest earlier ones, in the units shown."""
    view = view or View()
    in_seconds = view.in_seconds
    earlier, now, before = _all_traces(run, earlier, in_seconds)
    names = labels([*earlier, run])
    styles = [style | {"run": name} for style, name in zip(view.styles(earlier), names, strict=False)]
    own = view.style(run) | {"run": names[-1]}
    nothing = np.empty(0)
    legend = [(_("this run: {name}", name=names[-1]), Mark("", nothing, nothing, **own))]
    legend += [(name, Mark("", nothing, nothing, **style)) for name, style in zip(names, styles, strict=False)]
    if run.status in ("new", "running"):
        caption = _("Times and rates in the titles are means over the last {steps} steps.", steps=RECENT)
    else:
        caption = _("Times and rates in the titles are means over the whole run.")
    if now.each > 1:
        band = _("Each point is the mean of {steps} steps; the band spans their range.", steps=whole(now.each))
        caption = f"{band} {caption}"
    return Chart(
        now.count,
        now.over,
        _words(run, now, before, names),
        legend,
        _seconds_scale(run, now, before) if in_seconds else _steps_scale(run, now, before),
        _("seconds") if in_seconds else _("steps"),
        [
            _time_plot(now, before, own, styles),
            _memory_plot(run, now, before, own, styles),
            _rate_plot(run, now, before, own, styles),
            _learning_plot(run, now, before, own, styles, in_seconds),
        ],
        *_step_memory([run, *reversed(earlier)], [names[-1], *reversed(names[:-1])]),
        caption,
    )


def _step_memory(runs, names):
    """The title and the bars of the memory of a step: the current run's, and those of earlier ones that differ."""
    found = {}
    for run, name in zip(runs, names, strict=True):
        sizes = tuple(run.scalars.get(f"step_memory_{part}", math.nan) for part in PARTS)
        if all(0 <= size < ENORMOUS for size in sizes):
            found.setdefault(sizes, name)
    bars = [
        Bar(list(zip(sizes, PART_COLOURS, strict=True)), f"{size(sum(sizes))}, {name}") for sizes, name in found.items()
    ]
    title = [(_("memory of one training step, counted:"), None)]
    title += [(_(words), colour) for words, colour in zip(PARTS.values(), PART_COLOURS, strict=True)]
    return (title, bars) if bars else ([], [])


def _time_plot(now, before, own, styles):
    wait, compute, total = (now.lines[name].times(1000) for name in ("wait_s", "compute_s", "step_s"))
    floor = np.zeros(len(compute.x))
    stacked = np.where(np.isnan(compute.mean), 0.0, compute.mean)
    marks = [
        Mark("compute_s", compute.x, compute.mean, floor, colour=COMPUTING, opacity=0.5),
        Mark("wait_s", wait.x, stacked + wait.mean, stacked, colour=WAITING, opacity=0.5),
        *_current("step_s", total._replace(low=total.mean), now.each, own),
        *(
            _mean("step_s", trace.lines["step_s"].times(1000), style)
            for trace, style in zip(before, styles, strict=True)
        ),
    ]
    title = [
        (_("time per step:"), None),
        (_("waiting for data {time}", time=seconds(now.latest["wait_s"])), WAITING),
        (_("computing {time}", time=seconds(now.latest["compute_s"])), COMPUTING),
    ]
    return _plot(title, marks, "ms", 2, now, lambda value: seconds(value / 1000), ("wait_s", "compute_s"))


def _memory_plot(run, now, before, own, styles):
    lines = [trace.lines["memory"] for trace in (now, *before)]
    largest = max((float(line.high[known].max()) for line in lines if (known := ~np.isnan(line.high)).any()), default=0)
    unit, factor = ("GiB", 2**30) if largest >= 2 * 2**30 else ("MiB", 2**20)
    first, *rest = (line.times(1 / factor) for line in lines)
    marks = [*_current("memory", first, now.each, own)]
    marks += [_mean("memory", line, style) for line, style in zip(rest, styles, strict=True)]
    title = [(_memory_words(run, now), None)]
    return _plot(title, marks, unit, 4, now, lambda value: size(value * factor), ("memory",))


def _memory_words(run, now):
    memory = now.latest["memory"]
    if not run.memory_is_of_processes:
        return _("memory on the device: {amount}", amount=size(memory))
    sign = "+" if memory > 0 else "-" if memory < 0 else ""
    return _("memory of the processes since the start: {amount}", amount=f"{sign}{size(abs(memory))}")


def _rate_words(run, now):
    return _(task_of(run.recipe).rate, rate=number(now.latest["images_per_s"]))


def _rate_plot(run, now, before, own, styles):
    marks = [*_current("images_per_s", now.lines["images_per_s"], now.each, own)]
    marks += [
        _mean("images_per_s", trace.lines["images_per_s"], style) for trace, style in zip(before, styles, strict=True)
    ]
    title = [(_rate_words(run, now), None)]
    return _plot(title, marks, "/s", 2, now, lambda value: f"{number(value)}/s", ("images_per_s",))


def _learning_plot(run, now, before, own, styles, in_seconds):
    marks = [*_current("loss", _joined(now.lines["loss"]), now.each, own)]
    marks += [_mean("loss", _joined(trace.lines["loss"]), style) for trace, style in zip(before, styles, strict=True)]
    if not np.isnan(now.validation_loss).all():
        look = {"colour": VALIDATION, "width": 1, "dots": True, "run": _("validation")}
        marks.append(Mark("validation_loss", now.epoch_ends, now.validation_loss, **look))
    for trace, style in zip((*before, now), (*styles, own), strict=True):  # the current run's dots are on top
        if not np.isnan(trace.accuracy).all():
            look = style | {"width": 1, "dots": True, "right": True}
            marks.append(Mark("validation_accuracy", trace.epoch_ends, trace.accuracy * 100, **look))
    trivial = 100 * run.scalars.get("trivial_accuracy", math.nan)
    if math.isfinite(trivial) and len(now.accuracy):
        ends = np.array([0.0, now.epoch_ends[-1]])
        marks.append(Mark("trivial_accuracy", ends, np.full(2, trivial), width=1, dash=(1, 4), right=True))
    title = [(_("loss {loss}", loss=_plain(now.latest["loss"])), None)]
    ended = _("not yet")
    if len(now.accuracy):
        title.append((_("validation {loss}", loss=_plain(now.latest["validation_loss"])), VALIDATION))
        ended = percent(now.latest["validation_accuracy"])
    what = _(task_of(run.recipe).right)
    title.append((_("● {what} {accuracy} (right)", what=what, accuracy=ended), None))
    plot = _plot(title, marks, "", 5, now, _plain, ("loss",))
    best, ends = run.scalars.get("best_epoch", math.nan), run.epoch_column("t" if in_seconds else "steps")
    if not 0 <= best < len(ends):
        return plot
    where = np.full(2, ends[int(best)])
    plot.marks.append(Mark("best_epoch", where, np.array([plot.left.low, plot.left.high]), width=1, dash=(4, 3)))
    return plot._replace(words=plot.words or _("the weights of epoch {n} were kept", n=int(best) + 1))


def _current(name, line, each, style):
    if each > 1:
        yield Mark(f"{name} band", line.x, line.high, line.low, opacity=0.2, colour=style["colour"])
    yield Mark(name, line.x, line.mean, **style)


def _mean(name, line, style):
    return Mark(name, line.x, line.mean, **style)


def _joined(line):
    """The line without its gaps: a loss is read from the device only now and then."""
    known = ~np.isnan(line.mean)
    return Line(*(values[known] for values in line))


def _plot(title, marks, unit, outlier, now, shown: Callable[[float], str], columns):
    left = [mark for mark in marks if not mark.right]
    low, high, highest = _limits(left, outlier)
    axis = scale(low, high, unit)
    clipped, words = np.empty(0), ""
    if highest > axis.high:
        clipped = np.unique(np.concatenate([mark.x[mark.y > axis.high] for mark in left]))
        at_start = any(len(mark.y) and mark.y[0] == highest for mark in left)
        words = _("first step {value}", value=shown(highest)) if at_start else _("up to {value}", value=shown(highest))
    missing = [name for name in columns if np.isnan(now.lines[name].mean).all()]
    if now.count == 0:
        nothing = _("no steps yet")
    elif missing == ["wait_s"] and (now.over or now.count >= RECENT):
        nothing = _("waiting: n/a on this machine")
    elif missing == ["compute_s"] and (now.over or now.count >= RECENT):
        nothing = _("computing: n/a on this machine")
    elif missing and now.count < RECENT and not now.over:
        nothing = _("not yet")  # a GPU's first steps are known when it has made them
    elif missing:
        nothing = _("n/a on this machine")
    else:
        nothing = ""
    return Plot(title, marks, axis, _right_scale(marks), clipped, words, nothing, shown)


def _mean_between(mark, low, high):
    """The mean of a line's points between two places; between its points, the value on the line; else nan."""
    known = ~np.isnan(mark.y)
    x, y = mark.x[known], mark.y[known]
    inside = (x >= low) & (x <= high)
    if inside.any():
        return float(y[inside].mean())
    return float(np.interp((low + high) / 2, x, y, math.nan, math.nan)) if len(x) else math.nan


def _limits(marks, outlier):
    """The low and high end of what an axis must show, and the highest value of all.

    Each mark is shown up to its 95th percentile without the first step. Single values above ``outlier`` times that are
    cut off, so that they do not squash the rest, and so is a band above three times its line.
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
    return scale(low, high, _("{number}%", number=""))


def _steps_scale(run, now, before):
    most = max([now.count, *(trace.count for trace in before)])
    if run.status in ("new", "running"):
        step = nice_step(max(most, 10) / 10)
        most = math.ceil(max(most, 10) / step) * step
    most = max(most, 1)
    step = max(nice_step(most / 5), 1)
    ticks = [step * i for i in range(int(most / step) + 1)]
    return Scale(0, most, {tick: tick_text(tick, step) for tick in ticks})


def _seconds_scale(run, now, before):
    most = max((float(ends.max()) for trace in (now, *before) if len(ends := _times(trace))), default=0.0)
    if run.status in ("new", "running"):
        step = nice_step(max(most, 1) / 10)
        most = math.ceil(max(most, 1) / step) * step
    most = max(most, 0.001)
    step = nice_step(most / 5)
    ticks = [step * i for i in range(int(most / step + 1e-9) + 1)]
    return Scale(0, most, {tick: tick_text(tick, step) for tick in ticks})


def _times(trace):
    times = np.concatenate((trace.lines["t"].mean, trace.epoch_ends))
    return times[np.isfinite(times)]


def _plain(value):
    return f"{value:.3g}" if math.isfinite(value) else _("n/a")


# Words


def text(run: Run, earlier: Sequence[Run] = ()) -> str:
    """The latest values of a run and of earlier ones, in a few lines of plain text."""
    earlier, now, before = _all_traces(run, earlier)
    return _words(run, now, before, labels([*earlier, run]))


def _words(run, now, before, names):
    latest = now.latest
    if run.total_steps:
        steps = _("step {done} of {total}", done=whole(now.count), total=whole(run.total_steps))
    else:
        steps = _("step {done}", done=whole(now.count))
    lines = [
        _("{name} ({status}): {steps}", name=names[-1], status=_(run.status), steps=steps),
        _(
            "time per step: {waiting} waiting for data + {computing} computing",
            waiting=seconds(latest["wait_s"]),
            computing=seconds(latest["compute_s"]),
        ),
        _memory_words(run, now),
        *_step_memory_words(run),
        _rate_words(run, now),
        _(
            "training loss {loss}, validation accuracy {accuracy}",
            loss=_plain(latest["loss"]),
            accuracy=percent(latest["validation_accuracy"]),
        ),
    ]
    for trace, name in zip(before, names, strict=False):
        latest = trace.latest
        lines.append(
            _(
                "earlier, {name}: {time} per step, {memory}, {rate} {unit}, validation accuracy {accuracy}",
                name=name,
                time=seconds(latest["step_s"]),
                memory=size(latest["memory"]),
                rate=number(latest["images_per_s"]),
                unit=_(task_of(run.recipe).unit),
                accuracy=percent(latest["validation_accuracy"]),
            )
        )
    return "\n".join(lines)


def _step_memory_words(run):
    parts = {part: run.scalars.get(f"step_memory_{part}", math.nan) for part in PARTS}
    if all(map(math.isfinite, parts.values())):
        words = ", ".join(f"{_(PARTS[part])} {size(value)}" for part, value in parts.items())
        yield _(
            "memory of one training step, counted: {amount} ({parts})", amount=size(sum(parts.values())), parts=words
        )


def known_pieces(mark: Mark) -> list[slice]:
    """The pieces of a mark between its gaps."""
    known = ~np.isnan(mark.y)
    if known.all():
        return [slice(0, len(known))] if len(known) else []
    edges = np.flatnonzero(np.diff(known, prepend=False, append=False))
    return [slice(begin, end) for begin, end in edges.reshape(-1, 2).tolist()]
