"""What the last lesson works out: ceilings, trials, what is kept of them, the race, and the article's table anew.

Source of the ceilings: Amdahl 1967, "Validity of the single processor approach to achieving large scale computing
capabilities".
"""

import math
import sys
import threading
from dataclasses import dataclass

from matplotlib.figure import Figure
from tqdm import tqdm

from speedkit import hardware
from speedkit.comparison.metrics import CANNOT_TELL, CLAIMS, HIGHER, LOWER, METRICS, NOT_AVAILABLE, Claim
from speedkit.comparison.result import Comparison
from speedkit.comparison.stats import HALF_A_POINT
from speedkit.lab.picture import COMPUTING, WAITING, Picture, drawn
from speedkit.lab.tables import CUT
from speedkit.recipe import Recipe
from speedkit.run import Run
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


def speedup(waiting: float, wait_factor: float, compute_factor: float) -> float:
    """How many times faster a step is when each part takes that many times less; Amdahl's law. 0 / 0 gives nan.

    waiting: share of the step, 0 to 1. The factors are above 0; ``math.inf`` makes a part vanish.
    """
    left = waiting / wait_factor + (1 - waiting) / compute_factor
    return 1 / left if left else math.inf


def ceilings(run: Run) -> Table:
    """What could be won at best on a run's step: rows of changes, with seconds a step and the factor."""
    step, waiting = _step_s(run), run.waiting_share
    best = {
        "as it is": (1, 1),
        "waiting takes half as long": (2, 1),
        "no waiting at all: the most that workers or a cache can give": (math.inf, 1),
        "computing takes half as long": (1, 2),
        "no computing at all: more than any cheaper step can give": (1, math.inf),
    }
    rows = []
    for what, factors in best.items():
        times = speedup(waiting, *factors)
        rows.append([what, seconds(step / times), f"× {times:.2f}" if math.isfinite(times) else NOT_AVAILABLE])
    caption = f"Worked out from one run: {percent(waiting)} of a step is waiting."
    return Table(["if", "a step would take", "times faster"], rows, f"{caption} {CUT}" if run.smoke else caption)


# Trials, one switch at a time


def options(recipe: Recipe) -> dict[str, dict]:
    """Changes that are meant to make a step cheaper on this machine: name -> fields of the recipe."""
    machine = hardware.machine(recipe.device)
    return {
        "cache": {"cache": "device"},
        "workers": {"workers": min(4, machine.cores)},
        "precision": {"precision": "bf16" if machine.bf16 or machine.kind == "cpu" else "fp16"},
        "channels_last": {"channels_last": True},
    }


@dataclass(repr=False)
class Trials:
    """A run for each option on top of a recipe, and one of the recipe as it is. It shows itself as a sorted table."""

    recipe: Recipe
    changes: dict[str, dict]
    runs: dict[str, Run]
    rounds: int = 1

    def step_s(self, name: str) -> float:
        """Mean seconds of a step, the first one left out."""
        return _step_s(self.runs[name])

    @property
    def switch(self) -> str:
        """The name of the option whose step took the shortest time.

        Raises:
            ValueError: there was no option left to try.
        """
        if not self.changes:
            raise ValueError("There was no option left to try on top of this recipe.")
        return min(self.changes, key=self.step_s)

    @property
    def best(self) -> Recipe:
        """The recipe with that option."""
        return self.recipe.but(**self.changes[self.switch])

    @property
    def claims(self) -> tuple[Claim, ...]:
        """The article's claims about that option, if it makes any."""
        return CLAIMS.get(self.switch, ())

    def table(self) -> Table:
        """A row a run, the shortest first: seconds for its steps, and where they go."""
        count = min(run.count for run in self.runs.values())
        reference, rows = self.step_s(AS_IT_IS), []
        for name in sorted(self.runs, key=self.step_s):
            run, step = self.runs[name], self.step_s(name)
            changed = self.changes.get(name, {})
            rows.append(
                [
                    " ".join(map(str, *changed.items())) if len(changed) == 1 else name,
                    seconds(count * step),
                    f"× {step / reference:.2f}",
                    percent(run.waiting_share),
                    seconds(METRICS["wait_s"].read(run, None)),
                    seconds(step - METRICS["wait_s"].read(run, None)),
                    seconds(run.scalars.get("prepare_s")),
                    size(run.scalars.get("peak_memory")),
                ]
            )
        heading = ["one change", f"{number(count)} steps", "against as it is", "waiting share", "waiting", "the rest"]
        heading += ["before the first step", "peak memory"]
        times = "One run each" if self.rounds == 1 else f"The better of {self.rounds} rounds each"
        caption = f"{times}, on top of: {_label(self.recipe)}. Not compared in pairs: a hint of what to compare next."
        smoke = any(run.smoke for run in self.runs.values())
        return Table(heading, rows, f"{caption} {CUT}" if smoke else caption)

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
    """Runs a recipe as it is, and with each change that would change anything, so many times in turn.

    Of the runs with one change, the one with the shortest step is kept. Left out are the changes that were ``decided``
    on, kept or dropped, and workers where all images lie on the device: they would have nothing to do.
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
    order = [name for turn in range(found.rounds) for name in names[:: -1 if turn % 2 else 1]]
    for name in tqdm(order, unit="run", file=sys.stdout, disable=not progress):
        before, run = found.runs.get(name), fit(recipe.but(**left.get(name, {})))
        if before is None or _step_s(run) < _step_s(before):
            found.runs[name] = run
    return found


def _label(recipe):
    """The switches that are on, and the order of the pixels, which is no switch."""
    return recipe.label + (" + channels_last" if recipe.channels_last else "")


def _step_s(run):
    return METRICS["step_s"].read(run, None)


def before_and_after(first: Trials, second: Trials) -> Table:
    """The changes that were tried in both: what each did to a step the first time, and the second."""
    rows = []
    for name in first.changes:
        factors = [
            f"× {each.step_s(name) / each.step_s(AS_IT_IS):.2f}" if name in each.changes else "no longer an option"
            for each in (first, second)
        ]
        rows.append([name, *factors])
    heading = ["the same change", *(f"on top of: {_label(each.recipe)}" for each in (first, second))]
    return Table(heading, rows, "Time of a step against the recipe as it was; a few runs each, not compared in pairs.")


# What is kept


@dataclass(frozen=True, repr=False)
class Decision:
    """The recipe to go on with, the sentence that says why, and what was decided on: field of the recipe -> value."""

    recipe: Recipe
    kept: bool
    sentence: str
    changes: dict[str, object]

    def __repr__(self):
        return self.sentence


def decide(comparison: Comparison, metric: str = "step_s") -> Decision:
    """Keeps a comparison's change where a metric's verdict says that it pays, else goes back to the baseline.

    It pays where a time or a size is lower, or accuracy is higher by more than a small difference (half a point).
    """
    row = comparison.row(metric)
    change = _change(comparison) or "no change"
    tried = {name: after for name, (_, after) in comparison.changes.items()}
    _, _, effect, between = row.texts()
    if comparison.too_few:
        sentence = f"{change}: not judged, {comparison.too_few}. It is left out."
        return Decision(comparison.baseline, False, sentence, tried)
    is_ratio = METRICS[metric].is_ratio
    small = not is_ratio and HALF_A_POINT.contains(row.low, row.high)
    pays = row.verdict == (LOWER if is_ratio else HIGHER) and not small
    recipe = comparison.variant if pays else comparison.baseline
    verdict = f"{row.verdict}, {row.why}" if row.why else f"{row.verdict} ({effect}, interval {between})"
    return Decision(recipe, pays, f"{change}: {'kept' if pays else 'dropped'}. {row.title}: {verdict}.", tried)


def _change(comparison):
    return ", ".join(f"{name} {after}" for name, (_, after) in comparison.changes.items())


@drawn("Time of a step before and after each comparison: waiting, and the rest.")
def bottleneck(*comparisons: Comparison) -> Picture:
    """Bars of a step's waiting and of its rest: the first baseline, then each comparison's variant. Medians of runs.

    What was not kept is pale: the next comparison went on without it.
    """
    named = {f"the newcomer's: {each.baseline.label}": (each, "baseline", 1.0) for each in comparisons[:1]}
    for place, comparison in enumerate(comparisons, 1):
        outcome, strength = ("kept", 1.0) if decide(comparison).kept else ("not kept", 0.35)
        named[f"{place}. {_change(comparison)}: {outcome}"] = (comparison, "variant", strength)
    figure = Figure(figsize=(9, 0.9 + 0.5 * len(named)), layout="constrained")
    axes = figure.subplots()
    for height, (comparison, arm, strength) in enumerate(reversed(named.values())):
        step, wait = (1000 * getattr(comparison.row(metric), arm) for metric in ("step_s", "wait_s"))
        top = height == len(named) - 1  # it is not pale, so the legend is not either
        look = {"height": 0.65, "alpha": strength}
        axes.barh(height, wait, color=WAITING, label="waiting for data" if top else "", **look)
        axes.barh(height, step - wait, left=wait, color=COMPUTING, label="the rest" if top else "", **look)
    axes.set_yticks(range(len(named)), list(named)[::-1], fontsize=9, parse_math=False)
    axes.set_xlabel("milliseconds a step; pale: not kept", fontsize=9)
    figure.legend(loc="outside upper right", ncols=2, fontsize=9, frameon=False)
    return figure


# The race


@dataclass(frozen=True, repr=False)
class Race:
    """Runs by name, on the way to a validation accuracy (0 to 1). It shows itself as a table."""

    target: float
    runs: dict[str, Run]

    def time(self, name: str) -> float:
        """Seconds to the target, preparation included; nan: not there."""
        return METRICS["target_s"].read(self.runs[name], self.target)

    def spent(self, name: str) -> float:
        """Seconds of the whole run, preparation included."""
        return METRICS["seconds"].read(self.runs[name], None)

    def _time(self, name):
        there = math.isfinite(self.time(name))
        return seconds(self.time(name)) if there else f"not there after {seconds(self.spent(name))}"

    def table(self) -> Table:
        """A row a run: time to the target, and the accuracies."""
        rows = [
            [
                name,
                self._time(name),
                f"{number(run.count)} in {seconds(self.spent(name))}",
                percent(run.last("validation_accuracy")),
                percent(run.scalars.get("test_accuracy")),
            ]
            for name, run in self.runs.items()
        ]
        heading = ["", f"time to {self.target:.0%} on validation images", "steps", "validation accuracy at the end"]
        caption = "One run each, preparation and evaluations included; the target is looked for after each epoch."
        smoke = any(run.smoke for run in self.runs.values())
        return Table([*heading, "test accuracy, read once"], rows, f"{caption} {CUT}" if smoke else caption)

    @drawn("Validation accuracy over the seconds of both runs.")
    def figure(self) -> Picture:
        """Validation accuracy over the seconds, a line a run, and the target."""
        figure = Figure(figsize=(8, 3), layout="constrained")
        axes = figure.subplots()
        for colour, (name, run) in zip((COMPUTING, WAITING), self.runs.items(), strict=False):
            ends = run.epoch_column("t") + self.spent(name) - run.seconds
            axes.plot(ends, run.epoch_column("validation_accuracy"), "o-", color=colour, label=name)
            axes.axvline(self.spent(name), color=colour, linestyle=":", linewidth=1)
        axes.axhline(self.target, color="0.4", linewidth=1, label="where the race ends")
        axes.yaxis.set_major_formatter(lambda share, _: f"{share:.1%}")
        axes.set_xlim(0, None)
        axes.set_xlabel("seconds, preparation included; dotted: the run's end", fontsize=9)
        axes.set_ylabel("validation accuracy", fontsize=9)
        axes.grid(alpha=0.3)
        figure.legend(loc="outside right upper", fontsize=9, frameon=False)
        return figure

    def bill(self, price_per_hour: float, runs: int = 1000) -> Table:
        """What so many such trainings cost, each run until it reached the target, at a price per hour.

        A run that did not get there is billed for the time it had, marked "more than"; if it is the last recipe's,
        nothing is said to be saved. Energy is the GPU's, of the run as long as it was; "n/a" where it is not known.

        Raises:
            ValueError: the price is negative or not a number, or ``runs`` is not at least 1.
        """
        if not price_per_hour >= 0 or not math.isfinite(price_per_hour) or runs < 1:
            raise ValueError(
                f"price_per_hour={price_per_hour!r}, runs={runs!r}: give a price from 0 on, and at least 1 run."
            )
        spent = {}
        for name, run in self.runs.items():
            there = math.isfinite(self.time(name))
            hours = (self.time(name) if there else self.spent(name)) * runs / 3600
            kwh = run.scalars.get("energy_j", math.nan) * runs / 3.6e6
            spent[name] = there, (hours, hours * price_per_hour, kwh)
        rows = [[name, *_amounts(*values)] for name, values in spent.items()]
        (last_there, last), (there, newcomer) = spent.values()
        saved = tuple(b - a if last_there else math.nan for a, b in zip(last, newcomer, strict=True))
        rows.append(["saved", *_amounts(there, saved)])
        heading = [
            "",
            f"hours for {runs:,} trainings",
            f"price, at {price_per_hour:g} an hour",
            "energy of the GPU, kWh",
        ]
        return Table(heading, rows, CUT if any(run.smoke for run in self.runs.values()) else "")


def _amounts(exact, values):
    more = "" if exact else "more than "
    return [f"{more}{value:,.2f}" if math.isfinite(value) else NOT_AVAILABLE for value in values]


def race(panel, newcomer: Recipe, last: Recipe, *, target: float = 0.9, times: float = 3) -> Race:
    """Runs ``last``, then ``newcomer``, on one panel; the second is stopped after ``times`` as long as the first took.

    What makes a training fail is raised, as by ``panel.run``.
    """
    winner = panel.run(**last.to_dict())
    limit = threading.Timer(times * METRICS["seconds"].read(winner, None), panel.stop)
    limit.daemon = True
    limit.start()
    try:
        slower = panel.run(**newcomer.to_dict())
    finally:
        limit.cancel()
    if slower.status == "stopped":
        slower.reason = f"after {times:g} times the seconds of the last recipe's run"
    return Race(target, {"the last recipe": winner, "the newcomer's": slower})


# The article's table


def summary(kept, *here: Comparison) -> Table:
    """The article's claims, a row each with a link to its lesson, beside what this machine measured.

    A lesson's own comparison counts first, then those of ``here`` that are about the technique. One that was made on
    another machine is not shown as measured here; the caption says so.
    """
    machine = hardware.machine().to_dict()
    lessons, notes = {}, list(kept.notes)
    for technique, comparison in kept.comparisons.items():
        if all(comparison.machine.get(name) == machine[name] for name in ("name", "device", "cores")):
            lessons[technique] = comparison
        else:
            other = comparison.machine.get("name") or "an unknown machine"
            notes.append(f"{technique}: its lesson was measured on another machine ({other}).")
    rows, links = [], []
    for technique, claims in CLAIMS.items():
        found = [("its lesson", lessons[technique])] if technique in lessons else []
        found += [("this notebook", comparison) for comparison in here if technique in comparison.changes]
        for claim in claims:
            rows.append([technique, claim.sentence, *_measured(claim, found)])
            links.append(f"{LESSONS[technique]}.ipynb")
    heading = ["technique", "claimed", "that is", "measured here", "outcome", "measured in"]
    if any(comparison.smoke for comparison in here):
        notes.append(CUT)
    return Table(heading, rows, " ".join(["Medians over pairs, 95 % intervals.", *notes]), links)


def _measured(claim, found):
    """(metric, effect with its interval, outcome, where) of the first comparison that can tell, else of the first."""
    judged = [(where, comparison, comparison.judge(claim)) for where, comparison in found]
    judged.sort(key=lambda each: each[2].outcome == CANNOT_TELL)
    if not judged:
        return [f"{METRICS[claim.metric].title}: {claim.direction}", NOT_YET, "", ""]
    where, comparison, judgement = judged[0]
    row = comparison.row(claim.metric)
    _, _, effect, between = row.texts()
    said = f"{effect} ({between})" if math.isfinite(row.low) else f"{row.verdict}: {row.why}"
    return [f"{row.title}: {claim.direction}", said, judgement.outcome, where]
