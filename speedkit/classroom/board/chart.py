"""The chart of a class board: for one technique and one metric, one row per result, coloured by hardware.

All texts come from other people: they are cut to a length, and escaped wherever they are shown.
"""

import math
import re
from collections import Counter
from typing import NamedTuple

from markupsafe import Markup

from speedkit.classroom.board.results import OTHER, Outcome, Result, in_order, latest
from speedkit.comparison.metrics import (
    CANNOT_TELL,
    CLAIMS,
    DID_NOT_HOLD,
    HELD,
    HIGHER,
    LOWER,
    METRICS,
    NO_DIFFERENCE,
    NOT_AVAILABLE,
    OPPOSITE,
    SAME,
    TOO_FEW,
    WITHOUT_VERDICT,
)
from speedkit.comparison.stats import beyond_chance, margin_of
from speedkit.lab import svg as draw
from speedkit.lab.axes import ratio_ticks, scale
from speedkit.lab.picture import COMPUTING, EARLIER_COLOURS, WAITING
from speedkit.recipe import TITLES
from speedkit.support.messages import N_, _, ngettext

MOST_ROWS = 60
FURTHEST, FURTHEST_POINTS = 100.0, 30.0  # an effect beyond that is drawn at the edge, as an arrow
ASIDE, ASIDE_POINTS = 1.5, 2.0  # how far the axis may reach beyond what was measured, to show a prediction
NARROWEST, NARROWEST_POINTS = 1.25, 2.0  # how far the axis reaches at least, so that noise does not look large
KINDS = {"cuda": N_("NVIDIA GPU"), "cpu": N_("CPU"), "mps": N_("Apple GPU")}
SMOKE_RUN = N_("smoke run")
DISTURBED_MARK = "⚠"
COLOURS = (COMPUTING, WAITING, *EARLIER_COLOURS)
KIND_COLOURS = {"cpu": COLOURS[0], "cuda": COLOURS[1], "mps": COLOURS[2]}
LESS_IS_BETTER = {name: metric.is_ratio for name, metric in METRICS.items()}  # all but accuracy


class BoardRow(NamedTuple):
    """One row of the chart. ``who`` is a nickname or a number."""

    who: str
    result: Result
    row: Outcome

    @property
    def hardware(self) -> str:
        return hardware(self.result)

    @property
    def mark(self) -> str:
        """What stands behind ``who``: a mark if the machine was busy."""
        return f" {DISTURBED_MARK}" if self.result.is_disturbed else ""

    @property
    def verdict(self) -> str:
        if self.row.verdict in WITHOUT_VERDICT:
            return SMOKE_RUN if self.result.smoke and self.row.effect is not None else self.row.verdict
        return self.row.verdict


def technique_title(technique: str) -> str:
    return _("Other changes") if technique == OTHER else _(TITLES[technique])


def first_metric(technique: str) -> str:
    """The metric to show first: the time that a claim about the technique is about, else its first metric."""
    claimed = [claim.metric for claim in CLAIMS.get(technique, ())]
    return next((metric for metric in claimed if METRICS[metric].unit == "s"), (*claimed, "step_s")[0])


def names(results: list[Result]) -> dict[tuple, str]:
    """What each learner is called: seat -> nickname or "learner 1", with a number if that is taken."""
    found, unnamed = {}, 0
    for result in in_order(results):
        if result.seat in found:
            continue
        if not result.nickname:
            unnamed += 1
        name = label = result.nickname or _("learner {number}", number=unnamed)
        copy = 2
        while label in found.values():
            label, copy = f"{name} ({copy})", copy + 1
        found[result.seat] = label
    return found


def hardware(result: Result) -> str:
    """The part of the machine that trains, in a few words."""
    machine = result.machine
    if machine.kind == "cpu" and machine.cores:
        return f"{chip(machine.name)}, {ngettext('{n} core', '{n} cores', machine.cores)}"
    return chip(machine.name)


def chip(name: str) -> str:
    """The name of a processor or GPU without the parts that all of them share."""
    name = re.sub(r"\((R|TM)\)|\bCPU\b|@.*|\bNVIDIA\b|\b\d+-Core Processor\b", "", name)
    name = " ".join(name.split()) or N_("unknown machine")
    return _(name)


def rows(results: list[Result], technique: str, metric: str) -> list[BoardRow]:
    """The rows of the chart, the smallest effect first and those without an effect last."""
    called = names(results)
    shown = [
        BoardRow(called[result.seat], result, row)
        for result in latest(results)
        if result.technique == technique and (row := result.row(metric)) is not None
    ]
    return sorted(shown, key=lambda seen: (seen.row.effect is None, seen.row.effect or 0))


def colours(results: list[Result]) -> tuple[dict[tuple, str], bool]:
    """(kind, name) of the hardware -> colour, and whether colours stand for names; if there are many, for kinds."""
    found = list(dict.fromkeys((result.machine.kind, result.machine.name) for result in in_order(results)))
    if len(found) <= len(COLOURS):
        return dict(zip(found, COLOURS, strict=False)), True
    return {key: KIND_COLOURS.get(key[0], COLOURS[-1]) for key in found}, False


# Words


def headline(shown: list[BoardRow], technique: str) -> list[str]:
    """What the room found, in lines: counts of verdicts, and of the outcomes of a claim."""
    if not shown:
        return [_("No result for {technique} yet.", technique=technique_title(technique))]
    counts = Counter(seen.row.verdict for seen in shown)
    without = sum(counts[verdict] for verdict in WITHOUT_VERDICT)
    said = [
        (counts[LOWER], _("{n} lower", n=counts[LOWER])),
        (counts[HIGHER], _("{n} higher", n=counts[HIGHER])),
        (counts[NO_DIFFERENCE], _("{n} no difference detected", n=counts[NO_DIFFERENCE])),
        (without, _("{n} without a verdict", n=without)),
    ]
    parts = ", ".join(words for count, words in said if count)
    lines = [ngettext("{n} result: {parts}.", "{n} results: {parts}.", len(shown), parts=parts)]
    fewer, judged = min(counts[LOWER], counts[HIGHER]), len(shown) - without
    if fewer and setting(shown):  # else the task may be the difference
        found, chance = _("The same technique wins here and loses there."), _("So few may differ by chance.")
        lines[0] = " ".join([lines[0], found if beyond_chance(fewer, judged) else chance])
    claimed = Counter((seen.row.claimed, seen.row.outcome) for seen in shown if seen.row.claimed)
    for direction in (LOWER, HIGHER):
        counted = [(outcome, claimed[direction, outcome]) for outcome in (HELD, DID_NOT_HOLD, OPPOSITE, CANNOT_TELL)]
        outcomes = ", ".join(_("{what} {n}", what=_(what), n=n) for what, n in counted if n)
        if outcomes:
            claimed_words = {"direction": _(direction), "outcomes": outcomes.capitalize()}
            lines.append(_("Claimed: {direction}. {outcomes}.", **claimed_words))
    return lines


def setting(shown: list[BoardRow]) -> str:
    """What was compared, if it is the same in all rows; else ""."""
    found = {(seen.result.changes, seen.result.task) for seen in shown}
    return _changes_and_task(shown[0].result) if len(found) == 1 else ""


def _changes_and_task(result):
    return _("{changes} on {task}", changes=_(result.changes), task=_(result.task))


def amount(row: Outcome, value: float | None) -> str:
    """An effect in words: "× 0.512", "+0.40"."""
    if value is None:
        return _(NOT_AVAILABLE)
    if not row.is_ratio:
        return f"{value:+.2f}"
    return f"× {value:.3f}" if 0.1 <= value < 10 else f"× {value:.3g}"


def effect_words(row: Outcome) -> str:
    """An effect with its interval, if there is one."""
    if row.low is None:
        return amount(row, row.effect)
    if METRICS[row.metric].exact:
        return f"{amount(row, row.effect)} ({_('exact')})"
    low, high = (amount(row, end).removeprefix("× ") for end in (row.low, row.high))
    between = _("{low} to {high}", low=low, high=high)
    return f"{amount(row, row.effect)} ({between})"


def _has_interval(row):
    return row.low is not None and not METRICS[row.metric].exact


def predicted_words(row: Outcome) -> str:
    """What was predicted."""
    return _(row.predicted) + (f", {amount(row, row.predicted_size)}" if row.predicted_size is not None else "")


def text(results: list[Result], technique: str, metric: str) -> str:
    """The chart in plain words, one line per row."""
    shown = rows(results, technique, metric)
    lines = [_heading(shown, technique, metric), *headline(shown, technique)]
    together = setting(shown)
    lines += [together] if together else []
    for seen in shown:
        verdict = _(seen.verdict)
        if seen.row.effect is None and seen.row.why:
            verdict += f", {_(seen.row.why)}"
        words = f"{effect_words(seen.row)}, {verdict}"
        words = _("{what}: {text}", what=f"{seen.who}{seen.mark} ({seen.hardware})", text=words)
        words += _predicted(seen.row)
        lines.append(words if together else f"{words} [{_changes_and_task(seen.result)}]")
    return "\n".join([*lines, *_disturbed(shown)])


def _heading(shown, technique, metric):
    titles = {seen.row.title for seen in shown}
    title = titles.pop() if len(titles) == 1 else METRICS[metric].title
    return _("{what}: {text}", what=technique_title(technique), text=_(title))


def _predicted(row):
    return _("; predicted {guess}", guess=predicted_words(row)) if row.predicted else ""


# The drawing

WIDTH, LEFT, PLOT, WORDS = 2100, 820, 740, 1580  # the whole width; where the plot begins, its width, where words begin
ROW, LOW_ROW, MORE_IN_A_ROW, FONT, SMALL, CHARACTER = 46, 38, 28, 27, 23, 14.5
LOW_ROWS = 20  # with more rows than this, each is lower
BOLD = 600


class Axis(NamedTuple):
    """Where effects are across the plot: ``low`` and ``high`` are logarithms of ratios, or points."""

    is_ratio: bool
    low: float
    high: float
    ticks: dict[float, str]

    def at(self, value: float) -> tuple[int, int]:
        """Where an effect is drawn, and whether it is inside (0) or beyond the left (-1) or right end (1)."""
        value = math.log(value) if self.is_ratio else value
        beyond = -1 if value < self.low else 1 if value > self.high else 0
        return self.across(min(max(value, self.low), self.high)), beyond

    def across(self, value: float) -> int:
        """Where a value of the axis is drawn."""
        return round(LEFT + PLOT * (value - self.low) / (self.high - self.low))

    @property
    def nothing(self) -> int:
        """Where "no effect" is drawn."""
        return self.at(1.0 if self.is_ratio else 0.0)[0]


def axis(shown: list[BoardRow], metric: str) -> Axis:
    """The axis that shows all effects, intervals and predicted sizes up to a limit."""
    is_ratio = METRICS[metric].is_ratio
    if is_ratio:
        back, reach, aside, furthest = math.log, math.log(NARROWEST), math.log(ASIDE), math.log(FURTHEST)
    else:
        back, reach, aside, furthest = float, NARROWEST_POINTS, ASIDE_POINTS, FURTHEST_POINTS
    found = [value for seen in shown for value in (seen.row.effect, seen.row.low, seen.row.high) if value is not None]
    low, high = _ends([back(value) for value in found], -reach, reach, furthest)
    guesses = [back(seen.row.predicted_size) for seen in shown if seen.row.predicted_size is not None]
    said_low, said_high = _ends(guesses, low, high, furthest)
    low, high = max(said_low, low - aside), min(said_high, high + aside)
    margin = 0.04 * (high - low)
    low, high = low - margin, high + margin
    if is_ratio:
        return Axis(True, low, high, {math.log(ratio): f"× {ratio:.4g}" for ratio in ratio_ticks(low, high)})
    ticks = {tick: f"{tick:+g}" if tick else "0" for tick in scale(low, high).ticks}
    return Axis(False, low, high, {tick: words for tick, words in ticks.items() if low <= tick <= high})


def _ends(values, low, high, furthest):
    """The smallest and largest of some values, but no nearer than ``low`` and ``high`` and not beyond ``furthest``."""
    values = [min(max(value, -furthest), furthest) for value in values]
    return min([low, *values]), max([high, *values])


def svg(results: list[Result], technique: str, metric: str) -> Markup:
    """The chart as one SVG element; ``data-n`` is the number of results that it is about."""
    every = rows(results, technique, metric)
    shown = every[:MOST_ROWS]
    together = setting(every)
    step = (LOW_ROW if len(shown) > LOW_ROWS else ROW) + (0 if together else MORE_IN_A_ROW * bool(shown))
    line = axis(shown, metric)
    painted, by_name = colours(results)
    parts, top = _head(every, technique, metric, together)
    keys, top = _legend(painted, by_name, every, top)
    parts += keys
    top += 92
    bottom = top + step * max(len(shown), 2)
    parts += _grid(line, metric, top, bottom)
    for i, seen in enumerate(shown):
        colour = painted[seen.result.machine.kind, seen.result.machine.name]
        parts.append(_row(seen, line, colour, top + step * i, step, i, together))
    if not shown:
        parts.append(draw.text(LEFT + PLOT // 2, top + 54, _("waiting for the first result"), "middle"))
    y = bottom + 74
    for words in _footnotes(every, shown):
        parts.append(draw.text(0, y, words, size=SMALL))
        y += 34
    look = {"preserveAspectRatio": "xMinYMin meet", "font_size": FONT}
    words = text(results, technique, metric)
    return draw.drawing(parts, WIDTH, y - 10, words, class_="sk-board-chart", data_n=len(every), **look)


def _head(shown, technique, metric, together):
    parts = [draw.text(0, 40, _heading(shown, technique, metric), size=40, weight=BOLD)]
    y = 92
    first, *more = headline(shown, technique)
    parts.append(draw.text(0, y, first, size=32))
    for words in [*more, *([together] if together else [])]:
        y += 36
        parts.append(draw.text(0, y, draw.cut(words, 150), size=SMALL))
    return parts, y + 20


def _legend(painted, by_name, shown, top):
    """The keys: what the colours and marks mean, in as many rows as they need; and where these rows end."""
    here = {(seen.result.machine.kind, seen.result.machine.name) for seen in shown}
    if by_name:
        keys = [
            (_mark(kind, 0, 0, painted[kind, name]), f"{draw.cut(chip(name), 32)} ({_kind(kind)})")
            for kind, name in painted
            if (kind, name) in here
        ]
    else:
        kinds = sorted({kind for kind, __ in here})
        keys = [(_mark(kind, 0, 0, KIND_COLOURS.get(kind, COLOURS[-1])), _kind(kind)) for kind in kinds]
    outcomes = [seen.row for seen in shown]
    if any(row.predicted_size is not None or row.predicted == SAME for row in outcomes):
        keys.append((_hollow(0, 0), _("predicted")))
    if any(row.predicted not in ("", SAME) and row.predicted_size is None for row in outcomes):
        keys.append((_arrow(0, 0, 1, hollow=True), _("predicted, direction only")))
    if any(map(_has_interval, outcomes)):
        bar = draw.path("M-20 0h40", stroke="currentColor", stroke_width=9, stroke_opacity=0.45)
        keys.append((bar, _("95 % interval")))
    parts, row = [], 0
    places = draw.in_rows([40 + CHARACTER * draw.wide(words) for __, words in keys], 16, WIDTH, 50)
    for (mark, words), (x, row) in zip(keys, places, strict=True):
        y = top + 34 + 40 * row
        parts += [draw.group(x + 10, y - 8, mark), draw.text(x + 42, y, words, size=SMALL + 2)]
    return parts, top + 34 + 40 * row if keys else top


def _kind(kind):
    return _(KINDS[kind]) if kind in KINDS else _("other hardware")


def _grid(line, metric, top, bottom):
    nothing = line.nothing
    (left, __), (right, __) = map(line.at, margin_of(line.is_ratio))
    if LESS_IS_BETTER[metric]:
        below, above = _("◀ lower: it wins"), _("higher: it loses ▶")
    else:
        below, above = _("◀ lower: it loses"), _("higher: it wins ▶")
    across = {line.across(tick): words for tick, words in line.ticks.items()}
    grid = "".join(f"M{x} {top}V{bottom}" for x in across)
    yield draw.element("rect", x=left, y=top, width=right - left, height=bottom - top, fill_opacity=0.09)
    yield draw.text(nothing - 16, top - 50, below, "end", SMALL + 2, BOLD)
    yield draw.text(nothing + 16, top - 50, above, None, SMALL + 2, BOLD)
    yield draw.path(grid, stroke="currentColor", stroke_opacity=0.15, stroke_width=2, fill="none")
    yield draw.path(f"M{nothing} {top}V{bottom}", stroke="currentColor", stroke_width=3, fill="none")
    for y in (top - 14, bottom + 32):  # above and below, because thirty rows may not fit on the screen
        for x, words in across.items():
            yield draw.text(x, y, words, "middle", SMALL)


def _row(seen, line, colour, y, step, i, together):
    row, result = seen.row, seen.result
    middle, kind = y + (step if together else step - MORE_IN_A_ROW) / 2, result.machine.kind
    parts = [draw.element("title", _tooltip(seen))]
    parts.append(draw.element("rect", x=0, y=y, width=WIDTH, height=step, fill_opacity=0 if i % 2 else 0.05))
    parts.append(_mark(kind, 16, middle, colour))
    parts.append(draw.text(42, middle + 9, _cut_name(seen.who, 17 - len(seen.mark)) + seen.mark, weight=BOLD))
    parts.append(draw.text(380, middle + 9, draw.cut(seen.hardware, 29), size=SMALL + 1))
    if not together:
        parts.append(draw.text(42, middle + 38, draw.cut(_changes_and_task(result), 56), size=SMALL - 2))
    parts += _prediction(row, line, middle)
    if row.effect is None:
        words = _(NOT_AVAILABLE)
        words = draw.cut(_("{what}: {text}", what=words, text=_(row.why)) if row.why else words, 38)
    else:
        parts += _effect(row, line, kind, colour, middle)
        short = {NO_DIFFERENCE: _("no difference"), TOO_FEW: _("too few pairs")}
        verdict = short.get(seen.verdict) or _(seen.verdict)
        words = draw.cut(f"{effect_words(row)}, {verdict}", 44)
    parts.append(draw.text(WORDS, middle + 9, words, size=SMALL + 1))
    return draw.element("g", *parts, class_="sk-board-row")


def _effect(row, line, kind, colour, y):
    if row.low is not None:
        (left, __), (right, __) = line.at(row.low), line.at(row.high)
        bar = f"M{left} {y:g}H{max(right, left + 2)}"
        yield draw.path(bar, stroke=colour, stroke_width=9, stroke_opacity=0.5, fill="none")
    x, beyond = line.at(row.effect)
    yield _arrow(x, y, beyond, colour=colour) if beyond else _mark(kind, x, y, colour)


def _prediction(row, line, y):
    if not row.predicted:
        return
    if row.predicted_size is None and row.predicted != SAME:
        side = -1 if row.predicted == LOWER else 1
        yield _arrow(line.nothing + 30 * side, y, side, hollow=True)
    else:
        x, beyond = (line.nothing, 0) if row.predicted_size is None else line.at(row.predicted_size)
        yield _arrow(x, y, beyond, hollow=True) if beyond else _hollow(x, y)


def _mark(kind, x, y, colour):
    """A disc for a CPU, a square for a CUDA GPU, a diamond for anything else."""
    if kind == "cpu":
        return draw.element("circle", cx=x, cy=y, r=10, fill=colour)
    return draw.path(
        f"M{x - 9.5:g} {y - 9.5:g}h19v19h-19z" if kind == "cuda" else f"M{x} {y - 13:g}l13 13l-13 13l-13-13z",
        fill=colour,
    )


def _hollow(x, y):
    return draw.element("circle", cx=x, cy=y, r=14, fill="none", stroke="currentColor", stroke_width=3)


def _arrow(x, y, side, colour="currentColor", hollow=False):
    look = {"fill": "none", "stroke": colour, "stroke_width": 3} if hollow else {"fill": colour}
    return draw.path(f"M{x - 9 * side} {y - 12:g}v24l{20 * side}-12z", **look)


def _tooltip(seen):
    result = seen.result
    versions = ", ".join(f"{name} {version}" for name, version in result.versions.items())
    who = _("{what}: {text}", what=seen.who + seen.mark, text=f"{seen.hardware} ({_kind(result.machine.kind)})")
    pairs = ngettext("{n} pair", "{n} pairs", result.pairs)
    return (
        f"{who}\n{_changes_and_task(result)}\n"
        f"{effect_words(seen.row)}, {_(seen.verdict)}, {pairs}{_predicted(seen.row)}\n{versions}"
    )


def _disturbed(shown):
    if any(seen.result.is_disturbed for seen in shown):
        yield _("{mark} Other programs competed with a run for the cores.", mark=DISTURBED_MARK)


def _footnotes(every, shown):
    notes = []
    if any(seen.row.low is not None for seen in shown):
        if shown[0].row.is_ratio:
            notes.append(_("Effect: with the technique / without it, on the same machine. Shaded: less than a tenth."))
        else:
            notes.append(
                _("Effect: with the technique - without it, on the same machine. Shaded: less than half a point.")
            )
    if any(_has_interval(seen.row) for seen in shown):
        notes.append(
            _("Each interval is for one machine. Of twenty machines with no real difference, one on average shows one.")
        )
    if any(seen.row.low is None and seen.row.effect is not None for seen in shown):
        notes.append(
            _("No bar: no verdict (too few pairs, a busy machine, or a smoke run, whose numbers mean nothing).")
        )
    notes += _disturbed(shown)
    if more := len(every) - len(shown):
        notes.append(
            ngettext(
                "{n} more result does not fit here. to_frame() and to_csv() have them all.",
                "{n} more results do not fit here. to_frame() and to_csv() have them all.",
                more,
            )
        )
    return notes


def _cut_name(who, longest):
    """A name that is cut, but not its number."""
    name, number = re.fullmatch(r"(.*?)( \(\d+\))?", who).groups(default="")
    return draw.cut(name, longest - len(number)) + number
