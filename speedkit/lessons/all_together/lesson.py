"""The last lesson: what could be saved, trials and decisions, the race, and the article's table, measured here.

Source for what could be saved: Amdahl 1967, "Validity of the single processor approach to achieving large scale
computing capabilities".
"""

import math
import threading
from dataclasses import dataclass

from matplotlib.figure import Figure

from speedkit import hardware
from speedkit.comparison.metrics import CANNOT_TELL, CLAIMS, HIGHER, LOWER, METRICS, NOT_AVAILABLE, Claim
from speedkit.comparison.result import Comparison
from speedkit.comparison.stats import HALF_A_POINT
from speedkit.lab import live
from speedkit.lab.picture import COMPUTING, WAITING, Picture, drawn
from speedkit.lab.tables import CUT, MARK, marked, warning
from speedkit.lessons import sizes as sizes  # for the notebook: lesson.sizes
from speedkit.lessons.shared import check_price
from speedkit.recipe import Recipe
from speedkit.run import DISTURBED, Run
from speedkit.run_words import HOST_BOUND, is_host_bound
from speedkit.support.settings import smoke
from speedkit.support.table import Table
from speedkit.support.units import number, percent, seconds, size
from speedkit.train import fit

AS_IT_IS = "as it is"
NOT_YET = "not measured here yet"
LESSONS = {
    "precision": "01_precision",
    "early_stopping": "02_early_stopping",
    "augment": "03_augmentation",
    "batchnorm": "04_batchnorm",
    "workers": "05_workers",
    "cache": "06_caching",
}


# Where the time goes


def relative_time(waiting: float, wait_factor: float, compute_factor: float) -> float:
    """The new time of a step as a share of the old one, by Amdahl's law.

    waiting: its share of the old step, 0 to 1. The factors, above 0, say how many times shorter waiting and computing
    become; ``math.inf`` removes a part.
    """
    return waiting / wait_factor + (1 - waiting) / compute_factor


def ceilings(run: Run) -> Table:
    """The most that could be saved on a run's step: one row per change, with the new time and its ratio to the old."""
    step, waiting = _step_s(run), run.waiting_share
    best = {
        "as it is": (1, 1),
        "waiting takes half as long": (2, 1),
        "no waiting at all: the most that workers or a cache can save": (math.inf, 1),
        "computing takes half as long": (1, 2),
        "no computing at all: more than any cheaper step can save": (1, math.inf),
    }
    rows = []
    for what, factors in best.items():
        share = relative_time(waiting, *factors)
        rows.append([what, seconds(step * share), _relative(share)])
    caption = f"Calculated from one run: {percent(waiting)} of a step is waiting."
    if is_host_bound(run):
        caption += f" {HOST_BOUND}"
    caption = f"{caption} {CUT}" if run.smoke else caption
    return Table(["if", "a step would take", "relative time"], rows, caption, warning=warning(run))


def _relative(ratio):
    return f"× {ratio:.2f}" if math.isfinite(ratio) else NOT_AVAILABLE


# Trials, one switch at a time


def options(recipe: Recipe) -> dict[str, dict]:
    """Changes that might make a step cheaper on this machine: name -> the recipe's fields and their new values."""
    machine = hardware.machine(recipe.device)
    return {
        "cache": {"cache": "device"},
        "workers": {"workers": min(4, machine.cores)},
        "precision": {"precision": machine.half},
        "channels_last": {"channels_last": True},
    }


def table_of_options(recipe: Recipe, changes: dict[str, dict]) -> Table:
    """One row per option: the recipe's value and the one to try."""
    rows = [
        [name, *(", ".join(_word(values[field]) for field in change) for values in (recipe.to_dict(), change))]
        for name, change in changes.items()
    ]
    return Table(["option", "now", "to try"], rows)


@dataclass(repr=False)
class Trials:
    """One run of a recipe as it is, and one for each option on top of it. It shows itself as a sorted table."""

    recipe: Recipe
    changes: dict[str, dict]
    runs: dict[str, Run]
    rounds: int = 1

    def step_s(self, name: str) -> float:
        """Mean seconds per step, without the first step."""
        return _step_s(self.runs[name])

    @property
    def switch(self) -> str:
        """The name of the option with the shortest step.

        Raises:
            ValueError: no option was left to try.
        """
        if not self.changes:
            raise ValueError("No option was left to try on top of this recipe.")
        return min(self.changes, key=self.step_s)

    @property
    def best(self) -> Recipe:
        """The recipe with that option."""
        return self.recipe.but(**self.changes[self.switch])

    @property
    def claims(self) -> tuple[Claim, ...]:
        """The article's claims about that option, if there are any."""
        return CLAIMS.get(self.switch, ())

    def table(self) -> Table:
        """One row per run, the shortest step first: the time of its steps, and where it goes."""
        count = min(run.count for run in self.runs.values())
        reference, rows = self.step_s(AS_IT_IS), []
        for name in sorted(self.runs, key=self.step_s):
            run, step = self.runs[name], self.step_s(name)
            wait, changed = METRICS["wait_s"].read(run, None), self.changes.get(name, {})
            rows.append(
                [
                    marked(_in_words(changed) if len(changed) == 1 else name, run),
                    seconds(count * step),
                    _relative(step / reference),
                    percent(run.waiting_share),
                    seconds(wait),
                    seconds(step - wait),
                    seconds(run.scalars.get("prepare_s")),
                    size(run.scalars.get("step_memory")),
                ]
            )
        heading = ["one change", f"time of {number(count)} steps", "relative time", "waiting share"]
        heading += ["waiting per step", "computing per step", "before the first step", "memory of a step"]
        times = "One run each" if self.rounds == 1 else f"The fastest of {self.rounds} runs each"
        caption = f"{times}, on top of: {_label(self.recipe)}. Not compared in pairs: a hint of what to compare next."
        smoke = any(run.smoke for run in self.runs.values())
        return Table(heading, rows, f"{caption} {CUT}" if smoke else caption, warning=warning(*self.runs.values()))

    def __repr__(self):
        return repr(self.table())

    def _repr_html_(self):
        return self.table()._repr_html_()


def trials(
    recipe: Recipe,
    changes: dict[str, dict],
    rounds: int = 1,
    decided: tuple["Decision", ...] = (),
    progress: bool = True,
) -> Trials:
    """Runs a recipe as it is and with each change, ``rounds`` times in alternating order.

    For each change, the run with the shortest step counts. Changes that the recipe already has or that were
    ``decided`` on (kept or dropped) are left out, and so are workers if all images are on the device: they would have
    nothing to do.
    """
    done = [decision.changes.items() for decision in decided]
    left = {
        name: change
        for name, change in changes.items()
        if recipe.but(**change) != recipe and not any(change.items() <= tried for tried in done)
    }
    if recipe.cache == "device":
        left.pop("workers", None)
    found = Trials(recipe, left, {}, 1 if smoke() else rounds)
    names = [AS_IT_IS, *left]
    order = [name for i in range(found.rounds) for name in names[:: -1 if i % 2 else 1]]
    for name in live.progress(order, unit="run", wanted=progress):
        before, run = found.runs.get(name), fit(recipe.but(**left.get(name, {})))
        if before is None or _step_s(run) < _step_s(before):
            found.runs[name] = run
    return found


def _label(recipe):
    """The switches that are on, and channels_last, which is not one of the six."""
    return recipe.label + (" + channels_last" if recipe.channels_last else "")


def _in_words(changes):
    return ", ".join(f"{name} {_word(value)}" for name, value in changes.items())


def _word(value):
    return ("on" if value else "off") if isinstance(value, bool) or value is None else str(value)


def _step_s(run):
    return METRICS["step_s"].read(run, None)


def before_and_after(first: Trials, second: Trials) -> Table:
    """What each change of the first trials did to the time per step, in the first trials and in the second."""
    rows = []
    for name in first.changes:
        factors = [
            _relative(each.step_s(name) / each.step_s(AS_IT_IS)) if name in each.changes else "not tried again"
            for each in (first, second)
        ]
        runs = [each.runs[which] for each in (first, second) for which in (name, AS_IT_IS) if which in each.runs]
        rows.append([marked(name, *runs), *factors])
    heading = ["the same change", *(f"on top of: {_label(each.recipe)}" for each in (first, second))]
    caption = "Time of a step with the change, relative to the step without it. Single trials, not compared in pairs."
    return Table(heading, rows, caption, warning=warning(*first.runs.values(), *second.runs.values()))


# Decisions


@dataclass(frozen=True, repr=False)
class Decision:
    """Whether a change is kept or dropped.

    recipe: the one to continue with. sentence: says why. changes: what was tried, field of the recipe -> new value.
    """

    recipe: Recipe
    kept: bool
    sentence: str
    changes: dict[str, object]

    def __repr__(self):
        return self.sentence


def decide(comparison: Comparison, metric: str = "step_s") -> Decision:
    """Keeps a comparison's change if a metric's verdict says that it pays; otherwise goes back to the baseline.

    A change pays if a time or a size is lower, or if accuracy is higher by more than a small difference (half a point).
    """
    row = comparison.row(metric)
    change = _change(comparison) or "no change"
    tried = {name: after for name, (_, after) in comparison.changes.items()}
    _, _, effect, between = row.texts()
    if comparison.too_few:
        sentence = f"{change}: dropped. Not judged: {comparison.too_few}."
        return Decision(comparison.baseline, False, sentence, tried)
    is_ratio = METRICS[metric].is_ratio
    small = not is_ratio and HALF_A_POINT.contains(row.low, row.high)
    pays = row.verdict == (LOWER if is_ratio else HIGHER) and not small
    recipe = comparison.variant if pays else comparison.baseline
    busy = f" {MARK} Other programs competed for the cores." if _mark(comparison) else ""
    verdict = f"{row.verdict}, {row.why}" if row.why else f"{row.verdict} ({effect}, interval {between})"
    return Decision(recipe, pays, f"{change}: {'kept' if pays else 'dropped'}. {row.title}: {verdict}.{busy}", tried)


def _change(comparison):
    return _in_words({name: after for name, (_, after) in comparison.changes.items()})


@drawn("Bar chart: waiting and computing per step, before and after each comparison.")
def bottleneck(*comparisons: Comparison) -> Picture:
    """Bars of waiting and computing per step, a couple for each comparison: before and after; geometric means.

    Only the two bars of a couple were measured side by side. A dropped change is pale: the next comparison was made
    without it. Comparisons of which other programs took much of the processor time are marked.
    """
    bars = []
    for place, comparison in enumerate(comparisons, 1):
        outcome, strength = ("kept", 1.0) if decide(comparison).kept else ("dropped", 0.35)
        name = f"{place}. {_change(comparison)}{_mark(comparison)}"
        bars += [
            (f"{name}: before", comparison, "baseline", 1.0),
            (f"after: {outcome}", comparison, "variant", strength),
        ]
    heights = [-1.5 * (i // 2) - 0.62 * (i % 2) for i in range(len(bars))]  # the bars of a couple touch
    figure = Figure(figsize=(9, 0.9 + 0.62 * len(comparisons)), layout="constrained")
    axes = figure.subplots()
    for i, (height, (__, comparison, arm, strength)) in enumerate(zip(heights, bars, strict=True)):
        step, wait = (1000 * getattr(comparison.row(metric), arm) for metric in ("step_s", "wait_s"))
        look = {"height": 0.58, "alpha": strength}  # the first bar is never pale, so the legend is not pale either
        axes.barh(height, wait, color=WAITING, label="" if i else "waiting for data", **look)
        axes.barh(height, step - wait, left=wait, color=COMPUTING, label="" if i else "computing", **look)
    axes.set_yticks(heights, [bar[0] for bar in bars], fontsize=9, parse_math=False)
    busy = f"; {MARK}: other programs competed for the cores" if any(MARK in bar[0] for bar in bars) else ""
    axes.set_xlabel(f"milliseconds per step, geometric means (pale: dropped{busy})", fontsize=9)
    figure.legend(loc="outside upper right", ncols=2, fontsize=9, frameon=False)
    return figure


def _mark(comparison):
    return f" {MARK}" if comparison.others_share > DISTURBED else ""


# The race


@dataclass(frozen=True, repr=False)
class Race:
    """Runs by name, each trained towards a validation accuracy ``target`` (0 to 1)."""

    target: float
    runs: dict[str, Run]

    def time(self, name: str) -> float:
        """Seconds to the target, preparation included; nan if it was not reached."""
        return METRICS["target_s"].read(self.runs[name], self.target)

    def spent(self, name: str) -> float:
        """Seconds of the whole run, preparation included."""
        return METRICS["seconds"].read(self.runs[name], None)

    def _time(self, name):
        reached = math.isfinite(self.time(name))
        return seconds(self.time(name)) if reached else f"not reached in {seconds(self.spent(name))}"

    def table(self) -> Table:
        """One row per run: time to the target, and the accuracies."""
        rows = [
            [
                marked(name, run),
                self._time(name),
                f"{number(run.count)} in {seconds(self.spent(name))}",
                percent(run.last("validation_accuracy")),
                percent(run.scalars.get("test_accuracy")),
            ]
            for name, run in self.runs.items()
        ]
        heading = ["", f"time to {self.target:.0%} on validation images", "steps", "validation accuracy at the end"]
        caption = "One run each, preparation and evaluations included. The target is checked after each epoch."
        smoke = any(run.smoke for run in self.runs.values())
        caption = f"{caption} {CUT}" if smoke else caption
        return Table([*heading, "test accuracy, read once"], rows, caption, warning=warning(*self.runs.values()))

    @drawn("Line chart: validation accuracy over time for each run, and the target.")
    def figure(self) -> Picture:
        """Validation accuracy over the seconds, one line per run, and the target."""
        figure = Figure(figsize=(8, 3), layout="constrained")
        axes = figure.subplots()
        for colour, (name, run) in zip((COMPUTING, WAITING), self.runs.items(), strict=False):
            ends = run.epoch_column("t") + self.spent(name) - run.seconds
            axes.plot(ends, run.epoch_column("validation_accuracy"), "o-", color=colour, label=name)
            axes.axvline(self.spent(name), color=colour, linestyle=":", linewidth=1)
        axes.axhline(self.target, color="0.4", linewidth=1, label="target")
        axes.yaxis.set_major_formatter(lambda share, _: f"{share:.1%}")
        axes.set_xlim(0, None)
        axes.set_xlabel("seconds, preparation included (dotted: end of the run)", fontsize=9)
        axes.set_ylabel("validation accuracy", fontsize=9)
        axes.grid(alpha=0.3)
        figure.legend(loc="outside right upper", fontsize=9, frameon=False)
        return figure

    def bill(self, price_per_hour: float, runs: int = 1000) -> Table:
        """The cost of ``runs`` trainings that each run until the target is reached, at a price per hour.

        A run that did not reach it is billed for the time it had, marked "more than"; if that is your recipe's, no
        saving is shown. Energy is that of the GPU in the whole run; "n/a" if it is not known.

        Raises:
            ValueError: the price is negative or not a number, or ``runs`` is not at least 1.
        """
        check_price(price_per_hour, runs)
        spent = {}
        for name, run in self.runs.items():
            reached = math.isfinite(self.time(name))
            hours = (self.time(name) if reached else self.spent(name)) * runs / 3600
            kwh = run.scalars.get("energy_j", math.nan) * runs / 3.6e6
            spent[name] = reached, (hours, hours * price_per_hour, kwh)
        rows = [[marked(name, self.runs[name]), *_amounts(*values)] for name, values in spent.items()]
        (yours_reached, yours), (reached, newcomer) = spent.values()
        saved = tuple(b - a if yours_reached else math.nan for a, b in zip(yours, newcomer, strict=True))
        rows.append(["saved", *_amounts(reached, saved)])
        heading = ["", f"hours for {runs:,} trainings", f"price at {price_per_hour:g} per hour", "GPU energy, kWh"]
        caption = "Calculated from one run each, so rounded to two digits."
        caption = f"{caption} {CUT}" if any(run.smoke for run in self.runs.values()) else caption
        return Table(heading, rows, caption, warning=warning(*self.runs.values()))


def _amounts(exact, values):
    more = "" if exact else "more than "
    return [f"{more}{float(f'{value:.2g}'):,.10g}" if math.isfinite(value) else NOT_AVAILABLE for value in values]


def race(panel, newcomer: Recipe, yours: Recipe, *, target: float = 0.9, times: float = 3) -> Race:
    """Runs ``yours``, then ``newcomer``, on one panel; stops the second after ``times`` the time of the first.

    If a training fails, its error is raised, as by ``panel.run``.
    """
    first = panel.run(**yours.to_dict())
    over = threading.Event()

    def stop_in_time(limit):
        while not over.wait(limit):
            panel.stop()
            limit = 0.1  # once more: the run may not have begun yet

    limit = times * METRICS["seconds"].read(first, None)
    threading.Thread(target=stop_in_time, args=(limit,), name="speedkit bell", daemon=True).start()
    try:
        second = panel.run(**newcomer.to_dict())
    finally:
        over.set()
    if second.status == "stopped":
        second.reason = f"after {times:g} times the time of your recipe"
    return Race(target, {"your recipe": first, "newcomer": second})


# The article's table


def summary(saved, *here: Comparison) -> Table:
    """The article's claims, one row per metric with a link to the lesson, and what this machine measured.

    saved: what :func:`speedkit.saved_comparisons` returns. A lesson's own comparison counts first, then those of
    ``here`` about the same technique. One that was made on another machine is not shown; the caption says so.
    """
    machine = hardware.machine().to_dict()
    lessons, notes = {}, list(saved.notes)
    for technique, comparison in saved.comparisons.items():
        if all(comparison.machine.get(name) == machine[name] for name in ("name", "device", "cores")):
            lessons[technique] = comparison
        else:
            other = comparison.machine.get("name") or "an unknown machine"
            notes.append(f"{technique}: the comparison of its lesson was made on another machine ({other}).")
    rows, links = [], []
    for technique, claims in CLAIMS.items():
        found = [("its lesson", lessons[technique])] if technique in lessons else []
        found += [("this notebook", comparison) for comparison in here if technique in comparison.changes]
        for claim in claims:
            sentence = claim.sentence if claim is claims[0] else ""  # the same for all of a technique's claims
            rows.append([technique, sentence, *_measured(claim, found)])
            links.append(f"{LESSONS[technique]}.ipynb")
    heading = ["technique", "the article's claim", "as a metric", "measured here", "outcome", "measured in"]
    if any(comparison.smoke for comparison in here):
        notes.append(CUT)
    busy = f"{MARK} Other programs competed with these runs for the cores: measure again before you trust the times."
    caption = " ".join(["Geometric means over the pairs, with 95 % intervals.", *notes])
    return Table(heading, rows, caption, links, busy if any(MARK in row[-1] for row in rows) else "")


def _measured(claim, found):
    """(metric, effect with interval, outcome, where) of the first comparison that can tell, or else of the first."""
    judged = [(where, comparison, comparison.judge(claim)) for where, comparison in found]
    judged.sort(key=lambda each: each[2].outcome == CANNOT_TELL)
    if not judged:
        return [f"{METRICS[claim.metric].title}: {claim.direction}", NOT_YET, "", ""]
    where, comparison, judgement = judged[0]
    row = comparison.row(claim.metric)
    _, _, effect, between = row.texts()
    said = f"{effect} ({between})" if math.isfinite(row.low) else f"{row.verdict}: {row.why}"
    return [f"{row.title}: {claim.direction}", said, judgement.outcome, f"{where}{_mark(comparison)}"]
