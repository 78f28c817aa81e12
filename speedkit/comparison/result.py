"""Two recipes compared on this machine: paired runs, an interval, a verdict, and claims judged by them.

A comparison estimates the typical (median) ratio variant / baseline of two runs with the same seed; for accuracy, the
typical difference in points. It shows the median over the pairs and a 95 % interval by Student's t over the pairs, on
logarithms for ratios (Student 1908, "The probable error of a mean"; on averaging ratios by their logarithms, Fleming
and Wallace 1986, "How not to lie with statistics"). Median and interval describe the same quantity if the logarithms
scatter symmetrically about it, as the differences of two runs with similar distributions do. With five pairs no exact
distribution-free interval reaches 95 % (the smallest two-sided p of a sign, rank or permutation test is 1/16), and a
percentile bootstrap is too narrow. A disturbed run widens the t interval: differences are missed, not invented.
``tests/test_comparison.py`` checks all this by simulation.

Each row is judged by itself: of twenty rows without any difference, one on average will show one. So name the metric
before the comparison, as a :class:`Claim` does.
"""

import math
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from markupsafe import Markup
from pydantic import BeforeValidator, ConfigDict, FailFast, Field, model_validator

from speedkit.comparison.metrics import (
    CANNOT_TELL,
    DID_NOT_HOLD,
    HELD,
    LOWER,
    METRICS,
    NO_DIFFERENCE,
    NOT_AVAILABLE,
    OPPOSITE,
    TOO_FEW,
    Claim,
    Judgement,
)
from speedkit.comparison.stats import NEEDED_PAIRS, interval, margin_of, verdict
from speedkit.meter import other_programs_note
from speedkit.recipe import Recipe
from speedkit.run import Run, memory_is_of_processes
from speedkit.support.files import ListOf, NanAsNull, StoredMessage, fields_of, reading, save_json
from speedkit.support.messages import N_, Message, _, message_of, template
from speedkit.support.strict import Strict
from speedkit.support.table import Table

FORMAT = 2  # in format 1, notes and reason were plain English
MOST_PAIRS = 1000
BY_HAND = N_("stopped by hand")
ARMS = (N_("baseline"), N_("variant"))


class RunResult(Strict, frozen=False):
    """One counted run: its pair (from 0), "baseline" or "variant", and each metric (nan: not available)."""

    pair: int
    arm: Literal[ARMS]
    seed: int
    values: dict[Literal[tuple(METRICS)], NanAsNull]
    others_share: NanAsNull = math.nan  # of the processor time that it needed, taken by other programs


@dataclass(frozen=True)
class Row:
    """One metric over the pairs. ``effect``, ``low``, ``high``: ratios variant / baseline, or differences in points.

    ``baseline`` and ``variant`` are medians over the runs. Without a verdict there is no interval: nan. ``title``,
    ``verdict`` and ``why`` are English, for code to compare and for the class board.
    """

    metric: str
    title: str
    baseline: float
    variant: float
    effect: float
    low: float
    high: float
    verdict: str
    why: str  # why there is no verdict, else ""

    def texts(self) -> tuple[str, str, str, str]:
        """(baseline, variant, effect, interval) in words of the current language."""
        metric = METRICS[self.metric]
        effect, low, high = (_effect(metric, self._exact(value)) for value in (self.effect, self.low, self.high))
        between = _("{low} to {high}", low=low, high=high) if math.isfinite(self.low) else _(NOT_AVAILABLE)
        return metric.text(self.baseline), metric.text(self.variant), effect, between

    def _exact(self, ratio):
        """A ratio of counts without the half image that :meth:`Comparison.effects` adds; other effects unchanged."""
        if METRICS[self.metric].unit != "images" or not self.baseline or math.isnan(ratio):
            return ratio
        return max(0.0, round(ratio * (self.baseline + 0.5) - 0.5, 6)) / self.baseline


def _effect(metric, value):
    if math.isnan(value):
        return _(NOT_AVAILABLE)
    if not metric.is_ratio:
        return _("{difference} points", difference=f"{value:+.2f}")
    return f"× {value:.3f}" if 0.1 <= value < 10 else f"× {value:.3g}"


def _as_tuple(claims):
    if not isinstance(claims, Claim | tuple | list):
        raise ValueError(N_("give Claim objects, as in CLAIMS['cache']."))
    return (claims,) if isinstance(claims, Claim) else tuple(claims)


class Comparison(Strict, frozen=False):
    """Pairs of runs of two recipes, and what they show. It grows while :func:`comparing` runs.

    ``measured``: the counted runs in the order in which they were made. ``pairs``: how many are planned. ``status``:
    new, running, finished, stopped or failed. ``now`` and ``current`` say what is being run, and are not saved; while
    the comparison waits for its turn on the machine, ``current`` is None.

    Raises:
        ValueError: pairs, target or a claim is not allowed.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    baseline: Recipe
    variant: Recipe
    pairs: int = Field(NEEDED_PAIRS, ge=1, le=MOST_PAIRS)
    target: float | None = Field(None, ge=0.001, le=1)  # a validation accuracy
    claims: Annotated[tuple[Claim, ...], FailFast(), BeforeValidator(_as_tuple)] = ()
    smoke: bool = False
    status: str = "new"
    reason: StoredMessage = ""
    started: str = ""
    machine: dict = Field(default_factory=dict)
    notes: ListOf[StoredMessage] = Field(default_factory=list)
    measured: ListOf[RunResult] = Field(default_factory=list)
    now: str = Field("", exclude=True)
    current: Run | None = Field(None, exclude=True, repr=False)
    runs_done: int = Field(0, exclude=True)

    @model_validator(mode="after")
    def _runs_fit(self):
        places = {(run.pair, run.arm) for run in self.measured}
        if len(places) < len(self.measured) or not all(0 <= pair < self.pairs for pair, __ in places):
            raise ValueError(Message("the runs are not those of {pairs} pairs.", pairs=self.pairs))
        figures = (figure for run in self.measured for figure in (*run.values.values(), run.others_share))
        if not all(math.isnan(figure) or 0 <= figure < math.inf for figure in figures):
            raise ValueError(N_("a figure of a run is below zero or infinite."))
        return self

    # Making

    @contextmanager
    def being_made(self):
        """Keeps ``status`` and ``reason`` up to date, however the runs inside end."""
        self.status, self.started = "running", datetime.now(UTC).isoformat(timespec="seconds")
        try:
            yield self
        except (GeneratorExit, KeyboardInterrupt):
            if self.status == "running":
                self.status, self.reason = "stopped", BY_HAND
            raise
        except BaseException as error:
            self.status, self.reason = "failed", message_of(error)
            raise
        finally:
            self.now, self.current = "", None

    def note(self, sentence: str):
        """Adds a sentence for the reader, unless it is already there, even if with other figures."""
        if template(sentence) not in map(template, self.notes):
            self.notes.append(sentence)

    # Reading

    @property
    def total_runs(self) -> int:
        """The number of runs to make, with the two warm-ups."""
        return 2 + 2 * self.pairs

    @property
    def changes(self) -> dict:
        """The fields in which the variant differs, except the seed: name -> (baseline's value, variant's value)."""
        changed = self.baseline.differences(self.variant)
        changed.pop("seed", None)
        return changed

    @property
    def done(self) -> list[int]:
        """The pairs of which both runs are done."""
        arms = {}
        for run in list(self.measured):
            arms.setdefault(run.pair, set()).add(run.arm)
        return sorted(pair for pair, found in arms.items() if len(found) == 2)

    def values(self, metric: str) -> np.ndarray:
        """One metric of the pairs that are done: float64 [pairs, 2], baseline and variant; nan if not available."""
        found = {(run.pair, run.arm): run.values.get(metric, math.nan) for run in list(self.measured)}
        return np.array([[found[pair, arm] for arm in ARMS] for pair in self.done], dtype=float).reshape(-1, 2)

    def effects(self, metric: str) -> np.ndarray:
        """Each pair's log ratio variant / baseline, or difference in points: float64 [pairs]; nan if not known.

        Half an image is added to each count, so that a count of zero has a ratio, too.
        """
        values = self.values(metric)
        if not METRICS[metric].is_ratio:
            return (values[:, 1] - values[:, 0]) * 100
        values = values + 0.5 if METRICS[metric].unit == "images" else values
        with np.errstate(divide="ignore", invalid="ignore"):
            logs = np.log(values)
        logs[~np.isfinite(logs)] = math.nan
        return logs[:, 1] - logs[:, 0]

    @property
    def reads_processes(self) -> bool:
        """Whether memory is that of the processes; see :attr:`speedkit.Run.memory_is_of_processes`."""
        return memory_is_of_processes(self.machine)

    @property
    def too_few(self) -> str:
        """Why there is no verdict yet, in a few English words; "" if there may be one."""
        count = len(self.done)
        if self.smoke:
            return N_("a smoke run never carries a verdict")
        if count < NEEDED_PAIRS:
            return Message("{done} of the {pairs} pairs that a verdict needs", done=count, pairs=NEEDED_PAIRS)
        if self.status == "running" and count < self.pairs:  # stopping at the first difference would find too many
            return Message("{done} of the {pairs} pairs that are planned", done=count, pairs=self.pairs)
        return ""

    def row(self, metric: str) -> Row:
        """One metric over the pairs that are done."""
        effects, title = self.effects(metric), METRICS[metric].title
        if metric == "target_s" and self.target is not None:
            share = f"{self.target:.1%}"[:-1]
            title = Message("time to {share}% validation accuracy, preparation included", share=share)
        if metric == "peak_memory" and self.reads_processes:
            title = N_("peak memory of the processes, libraries included")
        known = np.isfinite(effects)
        if not known.all():  # leaving those pairs out would favour the recipe that fails more often
            baseline, variant = (_median(column) for column in self.values(metric).T)
            why = N_("not measured here")
            if known.any():
                why = Message("known in {known} of {pairs} pairs", known=known.sum(), pairs=len(known))
            if metric == "target_s":
                why = N_("no target set")
                if self.target:
                    first, second = np.isfinite(self.values(metric)).sum(axis=0)
                    counts = {"first": first, "second": second, "runs": len(known)}
                    why = Message("reached in {first} and {second} of {runs} runs", **counts)
            return Row(metric, title, baseline, variant, math.nan, math.nan, math.nan, NOT_AVAILABLE, why)
        baseline, variant = (_median(column) for column in self.values(metric).T)
        back = _ratio if METRICS[metric].is_ratio else float
        if self.too_few:
            effect = back(np.median(effects)) if len(effects) else math.nan
            return Row(metric, title, baseline, variant, effect, math.nan, math.nan, TOO_FEW, self.too_few)
        low, middle, high = interval(effects)
        return Row(metric, title, baseline, variant, back(middle), back(low), back(high), verdict(low, high), "")

    @property
    def rows(self) -> list[Row]:
        """All metrics over the pairs that are done."""
        return [self.row(metric) for metric in METRICS]

    def judge(self, claim: Claim) -> Judgement:
        """Whether a claim held in these runs.

        A difference in the claimed direction: held here; in the other: the opposite. If the whole interval is within
        a tenth (accuracy: half a point), the reason calls the difference small. No difference detected: did not hold
        here, if the interval excludes an effect of that size in the claimed direction; otherwise the runs scatter too
        much to tell. No verdict, or a variant without the technique: cannot tell. Nor can memory that is read from
        whole processes, libraries and allocator included, if the difference is less than a tenth of it.
        """
        before, after = (getattr(recipe, claim.technique) for recipe in (self.baseline, self.variant))
        if before == after or after == getattr(Recipe(), claim.technique):
            arms = {"technique": claim.technique, "before": repr(before), "after": repr(after)}
            why = _("{technique}: {before} in the baseline, {after} in the variant", **arms)
            return Judgement(claim, CANNOT_TELL, why)
        row, metric = self.row(claim.metric), METRICS[claim.metric]
        if row.verdict in (NOT_AVAILABLE, TOO_FEW):
            why = _("{title}: {verdict}, {why}", title=_(row.title), verdict=_(row.verdict), why=_(row.why))
            return Judgement(claim, CANNOT_TELL, why)
        __, __, effect, between = row.texts()
        why = _("{title}: {effect}, 95 % interval {between}", title=_(row.title), effect=effect, between=between)
        margin = margin_of(metric.is_ratio)
        small = margin.contains(row.low, row.high)
        if small and self.reads_processes and metric.unit == "bytes":
            why = _("{why}: the difference is less than a tenth of the processes' memory", why=why)
            return Judgement(claim, CANNOT_TELL, why)
        if row.verdict != NO_DIFFERENCE:
            if small and metric.is_ratio:
                why += _(", a small difference: less than a tenth")
            elif small:
                why += _(", a small difference: less than half a point")
            return Judgement(claim, HELD if row.verdict == claim.direction else OPPOSITE, why)
        if margin.excludes(row.low, row.high, claim.direction):
            return Judgement(claim, DID_NOT_HOLD, why)
        possible = _effect(metric, margin.low if claim.direction == LOWER else margin.high)
        return Judgement(claim, CANNOT_TELL, _("{why}, which leaves room for {effect}", why=why, effect=possible))

    @property
    def judgements(self) -> list[Judgement]:
        """The comparison's claims, judged."""
        return [self.judge(claim) for claim in self.claims]

    @property
    def others_share(self) -> float:
        """The largest share of the machine's cores that other programs took during a counted run; nan: unknown."""
        shares = [run.others_share for run in list(self.measured) if math.isfinite(run.others_share)]
        return max(shares, default=math.nan)

    # Saving

    def to_frame(self):
        """The rows as a pandas DataFrame, one row per metric."""
        import pandas

        return pandas.DataFrame([asdict(row) for row in self.rows], columns=[f.name for f in fields(Row)])

    def runs_to_frame(self):
        """The counted runs in the order in which they were made, as a pandas DataFrame."""
        import pandas

        columns = ["pair", "arm", "seed", "others_share", *METRICS]
        return pandas.DataFrame([dict(run) | run.values for run in self.measured], columns=columns)

    def save(self, path) -> Path:
        """Writes the comparison as JSON, the whole file or none, and returns the path."""
        return save_json(path, {"format": FORMAT, "kind": "comparison"} | self.model_dump())

    @classmethod
    def load(cls, path) -> "Comparison":
        """The comparison that :meth:`save` wrote, also in an earlier format.

        Raises:
            ValueError: the file does not hold a comparison; the message names the file and the fault.
            OSError: the file cannot be read.
        """
        with reading(path, "a comparison"):
            found, __ = fields_of(Path(path).read_bytes(), "comparison", FORMAT)
            return cls(**found | {"now": "", "current": None, "runs_done": 0})

    # Showing

    def _headline(self):
        changes = ", ".join(f"{name} {before} → {after}" for name, (before, after) in self.changes.items())
        reason = f" ({_(self.reason)})" if self.reason else ""
        return _(
            "{changes}: {done} of {pairs} pairs, {status}",
            changes=changes or _("two equal recipes"),
            done=len(self.done),
            pairs=self.pairs,
            status=f"{_(self.status)}{reason}",
        )

    def _footnotes(self):
        lines = []
        if self.too_few:
            lines.append(_("Too few pairs to judge: {why}.", why=_(self.too_few)))
        else:
            lines.append(
                _(
                    "Baseline and variant: medians over the runs. Effect: median of the ratios within pairs (accuracy: "
                    "differences), so it need not equal variant / baseline. Interval: 95 %, Student's t around their "
                    "mean. Each row is judged by itself: of twenty rows without any difference, one on average shows "
                    "one."
                )
            )
        if self.reads_processes and max(self.baseline.workers, self.variant.workers):
            lines.append(_("The memory of all processes is added up: what they share is counted for each of them."))
        if math.isfinite(self.others_share) and not other_programs_note(self.notes):  # it says so, and what to do
            share = f"{100 * self.others_share:.0f}"
            lines.append(
                _("Other programs took at most {share}% of the processor time that a run needed.", share=share)
            )
        return [*lines, *map(_, self.notes)]

    def _table(self):
        heading = ["", _("baseline"), _("variant"), _("effect"), _("95 % interval"), _("verdict")]
        return Table(heading, [[_(row.title), *row.texts(), _outcome(row)] for row in self.rows])

    def __repr__(self):
        lines = [self._headline(), repr(self._table())]
        for sentence, judgements in self._judged():
            lines.append(_("Claimed: {sentence}", sentence=_(sentence)))
            lines += [f"  {_(judged.outcome)} ({judged.why})" for judged in judgements]
        return "\n".join([*lines, *self._footnotes()])

    def _judged(self):
        """Each claimed sentence with its judgements, one per metric."""
        return [(key, list(some)) for key, some in groupby(self.judgements, lambda judged: judged.claim.sentence)]

    def _repr_html_(self):
        parts = [Markup("<p><b>{}</b></p>").format(self._headline()), Markup(self._table()._repr_html_())]
        for sentence, judgements in self._judged():
            items = (Markup("<li><b>{}</b> ({})</li>").format(_(each.outcome), each.why) for each in judgements)
            claimed = _("Claimed: {sentence}", sentence="{}")
            claimed = Markup.escape(claimed).format(Markup("<i>{}</i>").format(_(sentence)))
            parts.append(Markup("<p>{}</p><ul>{}</ul>").format(claimed, Markup("").join(items)))
        return str(Markup("").join([*parts, *(Markup("<p>{}</p>").format(line) for line in self._footnotes())]))


def _outcome(row):
    verdict = _(row.verdict)
    return _("{what}: {text}", what=verdict, text=_(row.why)) if row.verdict == NOT_AVAILABLE else verdict


def _ratio(log):
    with np.errstate(over="ignore"):
        return float(np.exp(log))


def _median(values):
    values = values[np.isfinite(values)]
    return float(np.median(values)) if len(values) else math.nan
