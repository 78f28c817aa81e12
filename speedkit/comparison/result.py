"""Two recipes compared on this machine: paired runs, an interval, a verdict, and claims judged by them.

What is estimated: the typical (median) ratio variant / baseline of two runs with the same seed; for accuracy, the
typical difference in points. Shown are the median over the pairs and a 95 % interval by Student's t over the pairs,
on logarithms for ratios (Student 1908, "The probable error of a mean"; on averaging ratios by their logarithms,
Fleming and Wallace 1986, "How not to lie with statistics"). Median and interval speak of the same quantity where the
logarithms scatter symmetrically about it, as differences of two like-distributed runs do. At five pairs no exact
distribution-free interval reaches 95 % (the smallest two-sided p of a sign, rank or permutation test is 1/16), and a
percentile bootstrap is too narrow. A disturbed run widens the t interval: differences are then missed, not invented.
``tests/test_comparison.py`` checks all this by simulation.

Each row is judged by itself: of twenty rows without any difference, one on average will show one. So name the metric
before the comparison, as a :class:`Claim` does.
"""

import json
import math
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from html import escape
from itertools import groupby
from pathlib import Path

import numpy as np

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
from speedkit.run import Run
from speedkit.support.files import reading, write_atomically
from speedkit.support.messages import N_, Message, _, message_of, template

FORMAT = 1
MOST_PAIRS = 1000
BY_HAND = N_("stopped by hand")
ARMS = (N_("baseline"), N_("variant"))


# A comparison


@dataclass
class RunResult:
    """One counted run: its pair (from 0), "baseline" or "variant", and each metric (nan: not available)."""

    pair: int
    arm: str
    seed: int
    values: dict[str, float]
    others_share: float = math.nan  # of the machine's cores, taken by other programs


@dataclass(frozen=True)
class Row:
    """One metric over the pairs. ``effect``, ``low``, ``high``: ratios variant / baseline, or differences in points.

    ``baseline`` and ``variant`` are medians over the runs. Without a verdict there is no interval: nan. ``title``,
    ``verdict`` and ``why`` are English, for code to compare and boards to keep.
    """

    metric: str
    title: str
    baseline: float
    variant: float
    effect: float
    low: float
    high: float
    verdict: str
    why: str  # a sentence where there is no verdict, else ""

    def texts(self) -> tuple[str, str, str, str]:
        """(baseline, variant, effect, interval) in words of the language in force."""
        metric = METRICS[self.metric]
        effect, low, high = (_effect(metric, self._exact(value)) for value in (self.effect, self.low, self.high))
        between = _("{low} to {high}", low=low, high=high) if math.isfinite(self.low) else _(NOT_AVAILABLE)
        return metric.text(self.baseline), metric.text(self.variant), effect, between

    def _exact(self, ratio):
        """A ratio of counts without the half image that gave "never" a ratio; any other effect as it is."""
        if METRICS[self.metric].unit != "images" or not self.baseline or math.isnan(ratio):
            return ratio
        return max(0.0, round(ratio * (self.baseline + 0.5) - 0.5, 6)) / self.baseline


def _effect(metric, value):
    if math.isnan(value):
        return _(NOT_AVAILABLE)
    if not metric.is_ratio:
        return _("{difference} points", difference=f"{value:+.2f}")
    return f"× {value:.3f}" if 0.1 <= value < 10 else f"× {value:.3g}"


@dataclass
class Comparison:
    """Pairs of runs of two recipes, and what they say. It grows while :func:`comparing` runs.

    ``measured``: the counted runs in the order in which they were made. ``pairs``: how many are planned. ``status``:
    new, running, finished, stopped or failed. ``now`` and ``current`` say what is being run, and are not kept; while
    it waits for its turn on the machine, ``current`` is None.
    """

    baseline: Recipe
    variant: Recipe
    pairs: int = NEEDED_PAIRS
    target: float | None = None
    claims: tuple[Claim, ...] = ()
    smoke: bool = False
    status: str = "new"
    reason: str = ""
    started: str = ""
    machine: dict = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    measured: list[RunResult] = field(default_factory=list)
    now: str = field(default="", compare=False)
    current: Run | None = field(default=None, compare=False, repr=False)
    runs_done: int = field(default=0, compare=False)

    def __post_init__(self):
        if isinstance(self.pairs, bool) or not isinstance(self.pairs, int) or not 1 <= self.pairs <= MOST_PAIRS:
            raise ValueError(
                f"pairs={str(self.pairs)[:40]} is not allowed: give a whole number from 1 to {MOST_PAIRS}."
            )
        if self.target is not None:
            usable = isinstance(self.target, int | float) and not isinstance(self.target, bool)
            if not usable or not 0 < self.target <= 1:
                raise ValueError(
                    f"target={str(self.target)[:40]} is not allowed: give a validation accuracy above 0, at most 1."
                )
            self.target = float(self.target)
        self.claims = (self.claims,) if isinstance(self.claims, Claim) else tuple(self.claims)
        if not all(isinstance(claim, Claim) for claim in self.claims):
            raise ValueError("claims should be Claim objects, as in CLAIMS['cache'].")

    # Making, for whoever makes the runs

    @contextmanager
    def being_made(self):
        """Keeps ``status`` and ``reason`` true, however the making inside ends."""
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
        """Adds a sentence that the reader should know, once, also where only a figure in it differs from run to run."""
        if template(sentence) not in map(template, self.notes):
            self.notes.append(sentence)

    # Reading

    @property
    def total_runs(self) -> int:
        """The runs to make, the two warm-ups included."""
        return 2 + 2 * self.pairs

    @property
    def changes(self) -> dict:
        """The fields in which the variant differs, but the seed: name -> (baseline's value, variant's value)."""
        changed = self.baseline.differences(self.variant)
        changed.pop("seed", None)
        return changed

    @property
    def done(self) -> list[int]:
        """The pairs of which both runs are there."""
        arms = {}
        for run in list(self.measured):
            arms.setdefault(run.pair, set()).add(run.arm)
        return sorted(pair for pair, found in arms.items() if len(found) == 2)

    def values(self, metric: str) -> np.ndarray:
        """One metric of the pairs that are done: float64 [pairs, 2], baseline and variant, nan: not available."""
        found = {(run.pair, run.arm): run.values.get(metric, math.nan) for run in list(self.measured)}
        return np.array([[found[pair, arm] for arm in ARMS] for pair in self.done], dtype=float).reshape(-1, 2)

    def effects(self, metric: str) -> np.ndarray:
        """Each pair's log ratio variant / baseline, or difference in points: float64 [pairs], nan: there is none.

        Counts are taken half an image larger, so that "never" has a ratio, too.
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
        """Whether memory is that of the processes, as it is where the device is the CPU."""
        return str(self.machine.get("device", "")).startswith("cpu")

    @property
    def too_few(self) -> str:
        """Why there is no verdict yet, in a few English words; "" where there may be one."""
        count = len(self.done)
        if self.smoke:
            return N_("a smoke run never carries a verdict")
        if count < NEEDED_PAIRS:
            return Message("{done} of the {pairs} pairs that a verdict needs", done=count, pairs=NEEDED_PAIRS)
        if self.status == "running" and count < self.pairs:  # whoever may stop at the first difference finds too many
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
        if not known.all():  # leaving the others out would favour whichever recipe fails more often
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

        A difference in the claimed direction: held here; in the other: the opposite; where the whole interval lies
        within a tenth (accuracy: half a point), the reason calls the difference small. No difference detected: did not
        hold here, if the interval excludes an effect of that size in the claimed direction; else the runs scatter too
        much to tell. No verdict, or a variant without the technique: cannot tell. Nor can memory that is read from
        whole processes, libraries and allocator included, tell of less than a tenth of it.
        """
        before, after = (getattr(recipe, claim.technique) for recipe in (self.baseline, self.variant))
        if before == after or after == getattr(Recipe(), claim.technique):
            arms = {"technique": claim.technique, "before": repr(before), "after": repr(after)}
            why = _("{technique}: {before} in the baseline, {after} in the variant", **arms)
            return Judgement(claim, CANNOT_TELL, why)
        row, metric = self.row(claim.metric), METRICS[claim.metric]
        if row.verdict in (NOT_AVAILABLE, TOO_FEW):
            said = {"title": _(row.title), "verdict": _(row.verdict), "why": _(row.why)}
            return Judgement(claim, CANNOT_TELL, _("{title}: {verdict}, {why}", **said))
        __, __, effect, between = row.texts()
        said = {"title": _(row.title), "effect": effect, "between": between}
        why = _("{title}: {effect}, 95 % interval {between}", **said)
        margin = margin_of(metric.is_ratio)
        small = margin.contains(row.low, row.high)
        if small and self.reads_processes and metric.unit == "bytes":
            why = _("{why}: what differs is less than a tenth of the processes' memory", why=why)
            return Judgement(claim, CANNOT_TELL, why)
        if row.verdict != NO_DIFFERENCE:
            if small:
                why += (
                    _(", a small difference: less than a tenth")
                    if metric.is_ratio
                    else _(", a small difference: less than half a point")
                )
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
        """The largest share of the machine's cores that other programs took during a counted run; nan: not known."""
        shares = [run.others_share for run in list(self.measured) if math.isfinite(run.others_share)]
        return max(shares, default=math.nan)

    # Keeping

    def to_frame(self):
        """The rows as a pandas DataFrame, one row a metric."""
        import pandas

        return pandas.DataFrame([asdict(row) for row in self.rows], columns=[f.name for f in fields(Row)])

    def runs_to_frame(self):
        """The counted runs in the order in which they were made, as a pandas DataFrame."""
        import pandas

        columns = ["pair", "arm", "seed", "others_share", *METRICS]
        rows = [{**asdict(run), **run.values} for run in self.measured]
        return pandas.DataFrame(rows, columns=columns)

    def save(self, path) -> Path:
        """Writes the comparison as JSON: the whole file or, where that fails, none."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        kept = {"format": FORMAT, "kind": "comparison"}
        kept |= {"baseline": self.baseline.to_dict(), "variant": self.variant.to_dict()}
        kept |= {name: getattr(self, name) for name in ("pairs", "target", *_PLAIN)}
        kept["claims"] = [asdict(claim) for claim in self.claims]
        kept["measured"] = [asdict(run) for run in self.measured]
        for run in kept["measured"]:
            run["others_share"] = _nullable(run["others_share"])
            run["values"] = {name: _nullable(value) for name, value in run["values"].items()}
        write_atomically(path, json.dumps(kept, allow_nan=False))
        return path

    @classmethod
    def load(cls, path) -> "Comparison":
        """The comparison that :meth:`save` wrote.

        Raises:
            ValueError: the file is not such a comparison; the message names the file and what is wrong.
            OSError: the file cannot be read.
        """
        with reading(path, "a comparison"):
            return cls._from_dict(json.loads(Path(path).read_text(encoding="utf-8")))

    @classmethod
    def _from_dict(cls, kept):
        _expect(kept, dict, "the file's content")
        if kept.get("format") != FORMAT or kept.get("kind") != "comparison":
            raise ValueError(f"it says format {str(kept.get('format'))[:40]!r}, kind {str(kept.get('kind'))[:40]!r}.")
        recipes = [Recipe.from_dict(_expect(kept[arm], dict, arm)) for arm in ARMS]
        claims = tuple(Claim(**_expect(claim, dict, "a claim")) for claim in _expect(kept["claims"], list, "claims"))
        comparison = cls(*recipes, pairs=kept["pairs"], target=kept["target"], claims=claims)
        for name, kind in _PLAIN.items():
            setattr(comparison, name, _expect(kept[name], kind, name))
        for note in comparison.notes:
            _expect(note, str, "a note")
        comparison.measured = [_run_result(run, comparison) for run in _expect(kept["measured"], list, "measured")]
        if len({(run.pair, run.arm) for run in comparison.measured}) < len(comparison.measured):
            raise ValueError("a run is there twice.")
        return comparison

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
                    "Baseline and variant: medians over the runs. Effect: median of the pairs' own ratios (accuracy: "
                    "differences), so it need not be variant / baseline. Interval: 95 %, Student's t around their "
                    "mean. Each row is judged by itself: of twenty rows without any difference, one on average shows "
                    "one."
                )
            )
        if self.reads_processes and max(self.baseline.workers, self.variant.workers):
            lines.append(_("Memory of several processes is added up: what they share counts once for each."))
        if math.isfinite(self.others_share) and not other_programs_note(self.notes):  # which says it, and what to do
            share = f"{100 * self.others_share:.0f}"
            lines.append(_("Other programs used at most {share}% of this machine's cores during a run.", share=share))
        return [*lines, *map(_, self.notes)]

    def __repr__(self):
        table = [("", *_heading())]
        table += [(_(row.title), *row.texts(), _outcome(row)) for row in self.rows]
        widths = [max(len(line[i]) for line in table) for i in range(5)]
        lines = [
            "  ".join([*(cell.ljust(w) for cell, w in zip(line, widths, strict=False)), line[5]]) for line in table
        ]
        for sentence, judgements in self._judged():
            lines.append(_("Claimed: {sentence}", sentence=_(sentence)))
            lines += [f"  {_(judged.outcome)} ({judged.why})" for judged in judgements]
        return "\n".join([self._headline(), *lines, *self._footnotes()])

    def _judged(self):
        """Each claimed sentence with what was said to it, a judgement a metric."""
        return [(key, list(some)) for key, some in groupby(self.judgements, lambda judged: judged.claim.sentence)]

    def _repr_html_(self):
        *names, last = _heading()
        head = "".join(f"<th>{escape(name)}</th>" for name in ("", *names))
        head += f"<th style='text-align:left'>{escape(last)}</th>"
        body = "".join(
            f"<tr><th style='text-align:left'>{escape(_(row.title))}</th>"
            + "".join(f"<td>{escape(text)}</td>" for text in row.texts())
            + f"<td style='text-align:left'>{escape(_outcome(row))}</td></tr>"
            for row in self.rows
        )
        judged = "".join(
            f"<p>{escape(_('Claimed:'))} <i>{escape(_(sentence))}</i></p><ul>"
            + "".join(f"<li><b>{escape(_(each.outcome))}</b> ({escape(each.why)})</li>" for each in judgements)
            + "</ul>"
            for sentence, judgements in self._judged()
        )
        notes = "".join(f"<p>{escape(line)}</p>" for line in self._footnotes())
        return (
            f"<p><b>{escape(self._headline())}</b></p><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
            + judged
            + notes
        )


_PLAIN = {"smoke": bool, "status": str, "reason": str, "started": str, "machine": dict, "notes": list}


def _heading():
    return _("baseline"), _("variant"), _("effect"), _("95 % interval"), _("verdict")


def _outcome(row):
    verdict = _(row.verdict)
    return _("{what}: {text}", what=verdict, text=_(row.why)) if row.verdict == NOT_AVAILABLE else verdict


def _ratio(log):
    with np.errstate(over="ignore"):
        return float(np.exp(log))


def _median(values):
    values = values[np.isfinite(values)]
    return float(np.median(values)) if len(values) else math.nan


def _nullable(value):
    return value if math.isfinite(value) else None


def _expect(value, kind, what):
    if not isinstance(value, kind):
        raise ValueError(f"{what} should be {kind.__name__}, not {type(value).__name__}.")
    return value


def _run_result(kept, comparison):
    _expect(kept, dict, "a run")
    pair, arm, seed = kept["pair"], kept["arm"], kept["seed"]
    if type(pair) is not int or not 0 <= pair < comparison.pairs or arm not in ARMS or type(seed) is not int:
        raise ValueError(f"there is no run {str(arm)[:40]!r} with seed {str(seed)[:40]} in pair {str(pair)[:40]}.")
    values = _expect(kept["values"], dict, "values")
    if unknown := sorted(set(values) - set(METRICS)):
        raise ValueError(f"there is no metric {unknown[0][:40]!r}.")
    return RunResult(pair, arm, seed, {name: _real(values.get(name)) for name in METRICS}, _real(kept["others_share"]))


def _real(value):
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= float(value) < math.inf:
        raise ValueError(f"{str(value)[:40]!r} is not a figure of a run.")
    return float(value)
