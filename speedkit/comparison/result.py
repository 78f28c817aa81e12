"""Two recipes compared on this machine: paired runs, an interval, a verdict, and claims judged by them.

Both runs of a pair have the same seed and, on a CPU, make their steps in turn (:mod:`speedkit.comparison.runs`), so
that what else the machine does slows both alike. What a comparison estimates is the ratio variant / baseline that such
a pair has on average; for accuracy, the difference in points. Everything shown is one kind of mean, the geometric
(Fleming and Wallace 1986, "How not to lie with statistics"): of the baseline's runs, of the variant's, and of their
ratios, so that a row divides. The 95 % interval is Student's t over the pairs, on the logarithms (Student 1908, "The
probable error of a mean").

The unit is the pair, not the block of steps. The blocks of a run depend on each other (they share its seed, its place
in memory and its epochs), so an interval over hundreds of them is narrower, but holds for those runs only. If there is
no difference, the two runs of a pair can be exchanged, since it is drawn which of them goes first. So their difference
is symmetric about zero whatever the load, and for symmetric differences t keeps its level or is cautious: a disturbed
pair widens the interval. With five pairs no exact distribution-free interval reaches 95 % (the smallest two-sided p of
a sign, rank or permutation test is 1/16). ``tests/benchmarks/null.py`` measures how often verdicts are wrong, also on a
busy machine and with the other estimators that were considered; ``tests/test_comparison.py`` checks by simulation.

Where the runs were made one after the other, load that lasts longer than a run can pass for a difference. A time is
then not judged if other programs took much of a run's processor time and could have made the difference by themselves.

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
    NOT_JUDGED,
    OPPOSITE,
    PROCESS_MEMORY,
    TOO_FEW,
    WITHOUT_VERDICT,
    Claim,
    Judgement,
    title_of,
)
from speedkit.comparison.stats import NEEDED_PAIRS, TENTH, interval, margin_of, verdict
from speedkit.recipe import Recipe
from speedkit.run import DISTURBED, Run, memory_is_of_processes
from speedkit.run_words import other_programs_note
from speedkit.support.files import ListOf, NanAsNull, StoredMessage, fields_of, reading, save_json
from speedkit.support.messages import N_, Message, _, message_of, template
from speedkit.support.output import printable
from speedkit.support.strict import Strict
from speedkit.support.table import Table
from speedkit.tasks import task_of

FORMAT = 2  # in format 1, notes and reason were plain English
MOST_PAIRS = 1000
BY_HAND = N_("stopped by hand")
DROWNED = N_("it differs by less than a tenth, as it does by chance")
BUSY = N_("this machine was busy: close other programs and compare again")
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

    ``baseline`` and ``variant`` are geometric means over the runs (accuracy: means), so that variant / baseline is the
    effect. Without a verdict there is no interval: nan. Of an exact figure ``effect``, ``low`` and ``high`` are equal.
    ``title``, ``verdict`` and ``why`` are English, for code to compare and for the class board.
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
        effect, low, high = (self._words(metric, value) for value in (self.effect, self.low, self.high))
        between = low if low == high else _("{low} to {high}", low=low, high=high)
        between = _("exact") if metric.exact and math.isfinite(self.low) else between
        return *metric.texts(self.baseline, self.variant), effect, between

    def _words(self, metric, value):
        if metric.unit != "images" or math.isnan(value) or (self.baseline and self.variant):
            return _effect(metric, value)
        if not self.baseline:
            return _("only in the variant") if self.variant else _("none in both")
        return _("never")


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
    new, running, finished, stopped or failed. ``in_turns``: whether both runs of a pair were open at once and made
    their steps in turn. ``now``, ``current`` and ``latest`` say what is being run, and are not saved; ``current`` is
    the run whose turn it is, and None while the comparison waits for its own turn on the machine; ``latest`` is each
    recipe's newest run, "baseline" or "variant" -> run.

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
    in_turns: bool = False
    loops: ListOf[str] = Field(default_factory=list)  # the names of two loops of one's own, compared instead of recipes
    status: str = "new"
    reason: StoredMessage = ""
    started: str = ""
    machine: dict = Field(default_factory=dict)
    notes: ListOf[StoredMessage] = Field(default_factory=list)
    measured: ListOf[RunResult] = Field(default_factory=list)
    now: str = Field("", exclude=True)
    current: Run | None = Field(None, exclude=True, repr=False)
    latest: dict[str, Run] = Field(default_factory=dict, exclude=True, repr=False)
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
            self.latest.clear()

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
    def names(self) -> list[str]:
        """What the two are called: by their switches, or the names of the functions."""
        return self.loops or [self.baseline.label, self.variant.label]

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

        If one of the counts is zero, half an image is added to each of them, so that zero has a ratio, too.
        """
        values = self.values(metric)
        if not METRICS[metric].is_ratio:
            return (values[:, 1] - values[:, 0]) * 100
        if METRICS[metric].unit == "images" and not values.all():
            values = values + 0.5
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
        effects, title = self.effects(metric), title_of(metric, self.baseline)
        if metric == "target_s" and self.target is not None:
            share = f"{self.target:.1%}"[:-1]
            title = Message(task_of(self.baseline).target, share=share)
        if metric == "peak_memory" and self.reads_processes:
            title = N_("peak memory of the processes, libraries included")
        known = np.isfinite(effects)
        baseline, variant = self._means(metric)
        if not known.all():  # leaving those pairs out would favour the recipe that fails more often
            why = N_("not measured here")
            if metric in PROCESS_MEMORY and self.in_turns:
                why = N_("both runs of a pair are in the process at once")
            elif known.any():
                why = Message("known in {known} of {pairs} pairs", known=known.sum(), pairs=len(known))
            if metric == "target_s":
                why = N_("no target set")
                if self.target:
                    first, second = np.isfinite(self.values(metric)).sum(axis=0)
                    counts = {"first": first, "second": second, "runs": len(known)}
                    why = Message("reached in {first} and {second} of {runs} runs", **counts)
            return Row(metric, title, baseline, variant, math.nan, math.nan, math.nan, NOT_AVAILABLE, why)
        back = _ratio if METRICS[metric].is_ratio else float
        if METRICS[metric].exact and not self.smoke and len(set(effects)) == 1:  # no further pair can change it
            effect = back(effects[0])
            return Row(metric, title, baseline, variant, effect, effect, effect, verdict(effects[0], effects[0]), "")
        if self.too_few:
            effect = back(effects.mean()) if len(effects) else math.nan
            return Row(metric, title, baseline, variant, effect, math.nan, math.nan, TOO_FEW, self.too_few)
        low, middle, high = interval(effects)
        if METRICS[metric].unit == "s" and not self.in_turns and _could_be_load(low, high, self.others_share):
            return Row(metric, title, baseline, variant, back(middle), math.nan, math.nan, NOT_JUDGED, BUSY)
        if metric in PROCESS_MEMORY and self.reads_processes and TENTH.contains(back(middle), back(middle)):
            return Row(metric, title, baseline, variant, back(middle), math.nan, math.nan, NOT_JUDGED, DROWNED)
        return Row(metric, title, baseline, variant, back(middle), back(low), back(high), verdict(low, high), "")

    def _means(self, metric):
        """(baseline, variant): geometric means over the pairs in which a run has the metric; accuracies: means."""
        return [_mean(column, METRICS[metric]) for column in self.values(metric).T]

    @property
    def rows(self) -> list[Row]:
        """All metrics over the pairs that are done; on a CPU, peak and final memory of the processes are one."""
        return [self.row(metric) for metric in METRICS if metric != "host_memory" or not self.reads_processes]

    def judge(self, claim: Claim) -> Judgement:
        """Whether a claim held in these runs.

        A difference in the claimed direction: held here; in the other: the opposite. If the whole interval is within
        a tenth (accuracy: half a point), the reason calls the difference small. No difference detected: did not hold
        here, if the interval excludes an effect of that size in the claimed direction; otherwise the runs scatter too
        much to tell. No verdict, or a variant without the technique: cannot tell. (Memory that is read from whole
        processes, libraries and allocator included, has no verdict if it differs by less than a tenth.)
        """
        before, after = (getattr(recipe, claim.technique) for recipe in (self.baseline, self.variant))
        if before == after or after == getattr(Recipe(), claim.technique):
            arms = {"technique": claim.technique, "before": repr(before), "after": repr(after)}
            why = _("{technique}: {before} in the baseline, {after} in the variant", **arms)
            return Judgement(claim, CANNOT_TELL, why)
        row, metric = self.row(claim.metric), METRICS[claim.metric]
        if row.verdict in WITHOUT_VERDICT:
            why = _("{title}: {verdict}, {why}", title=_(row.title), verdict=_(row.verdict), why=_(row.why))
            return Judgement(claim, CANNOT_TELL, why)
        __, __, effect, between = row.texts()
        why = _("{title}: {effect}, 95 % interval {between}", title=_(row.title), effect=effect, between=between)
        if metric.exact:
            why = _("{title}: {effect}, exact", title=_(row.title), effect=effect)
        margin = margin_of(metric.is_ratio)
        small = margin.contains(row.low, row.high)
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
        """The largest share of a counted run's processor time that other programs took; nan: unknown."""
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
        changes = " → ".join(self.loops) if self.loops else changes
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
                    "Baseline, variant and effect: geometric means over the pairs (accuracy: means and their "
                    "difference). Interval: 95 %, Student's t over the pairs. Each row is judged by itself: of twenty "
                    "rows without any difference, one on average shows one."
                )
            )
        if self.reads_processes and max(self.baseline.workers, self.variant.workers):
            lines.append(_("The memory of all processes is added up: what they share is counted for each of them."))
        if math.isfinite(self.others_share) and not self.disturbance:  # it says so, and what to do
            share = f"{100 * self.others_share:.0f}"
            lines.append(
                _("Other programs took at most {share}% of the processor time that a run needed.", share=share)
            )
        return [*lines, *(_(note) for note in self.notes if note != other_programs_note(self.notes))]

    @property
    def disturbance(self) -> str:
        """What to read before the figures, in the current language: that other programs were in the way; or ""."""
        shares = [run.others_share for run in list(self.measured)]
        busy = sum(share > DISTURBED for share in shares)
        if not busy:
            note = other_programs_note(self.notes)  # of a file that has no shares
            return _(note)
        return _(
            "Other programs competed for the cores in {busy} of {runs} runs, for up to {share}% of the processor time "
            "that a run needed: close them and compare again before you trust the times.",
            busy=busy,
            runs=len(shares),
            share=f"{100 * self.others_share:.0f}",
        )

    def _tables(self):
        """The table of the claimed rows, and that of the others or None; rows that are known in no run are left out."""
        heading = ["", _("baseline"), _("variant"), _("effect"), _("95 % interval"), _("verdict")]
        known = [row for row in self.rows if math.isfinite(row.baseline) or math.isfinite(row.variant)]
        claimed = [row for row in known if row.metric in {claim.metric for claim in self.claims}] or known
        parts = claimed, [row for row in known if row not in claimed]
        tables = [Table(heading, [[_(row.title), *row.texts(), _outcome(row)] for row in part]) for part in parts]
        return tables[0], tables[1] if parts[1] else None

    def __repr__(self):
        table, others = self._tables()
        lines = [self._headline(), *([self.disturbance] if self.disturbance else []), repr(table)]
        for sentence, judgements in self._judged():
            lines.append(_("Claimed: {sentence}", sentence=_(sentence)))
            lines += [f"  {_(judged.outcome)} ({judged.why})" for judged in judgements]
        return printable("\n".join([*lines, *([repr(others)] if others else []), *self._footnotes()]))

    def _judged(self):
        """Each claimed sentence with its judgements, one per metric."""
        return [(key, list(some)) for key, some in groupby(self.judgements, lambda judged: judged.claim.sentence)]

    def _repr_html_(self):
        table, others = self._tables()
        parts = [Markup("<p><b>{}</b></p>").format(self._headline())]
        parts += [Markup("<p>{}</p>").format(self.disturbance)] if self.disturbance else []
        parts.append(Markup(table._repr_html_()))
        for sentence, judgements in self._judged():
            items = (Markup("<li><b>{}</b> ({})</li>").format(_(each.outcome), each.why) for each in judgements)
            claimed = _("Claimed: {sentence}", sentence="{}")
            claimed = Markup.escape(claimed).format(Markup("<i>{}</i>").format(_(sentence)))
            parts.append(Markup("<p>{}</p><ul>{}</ul>").format(claimed, Markup("").join(items)))
        if others:
            summary = Markup("<summary>{}</summary>").format(_("Everything else that was measured"))
            parts.append(Markup("<details>{}{}</details>").format(summary, Markup(others._repr_html_())))
        return str(Markup("").join([*parts, *(Markup("<p>{}</p>").format(line) for line in self._footnotes())]))


def _outcome(row):
    verdict = _(row.verdict)
    said = row.verdict in (NOT_AVAILABLE, NOT_JUDGED)
    return _("{what}: {text}", what=verdict, text=_(row.why)) if said else verdict


def _could_be_load(low, high, share):
    """Whether an interval of log ratios reaches a difference that other programs could have made by themselves.

    A run of which they took ``share`` of the processor time that it needed may have lasted 1 / (1 - share) as long.
    """
    longer = -math.log1p(-min(share, 0.99))
    return share > DISTURBED and low < longer and high > -longer


def _ratio(log):
    with np.errstate(over="ignore"):
        return float(np.exp(log))


def _mean(values, metric):
    values = values[np.isfinite(values)]
    if not len(values):
        return math.nan
    if not metric.is_ratio or (values == values[0]).all():  # else rounding could change what is equal
        return float(values.mean())
    half = 0.5 if metric.unit == "images" and not values.all() else 0.0
    with np.errstate(divide="ignore"):
        return float(np.exp(np.log(values + half).mean())) - half
