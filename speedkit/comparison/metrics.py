"""Metrics, claims, and the words of verdicts and judgements."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from speedkit.recipe import SWITCHES
from speedkit.support.messages import N_, _
from speedkit.support.strict import Strict
from speedkit.support.units import number, percent, seconds, size
from speedkit.tasks import task_of

# Stored and compared, so English in rows, judgements and boards; translated where they are shown.
LOWER, HIGHER, NO_DIFFERENCE = N_("lower"), N_("higher"), N_("no difference detected")
SAME = N_("same")
DIRECTIONS = (LOWER, SAME, HIGHER)
TOO_FEW, NOT_AVAILABLE, NOT_JUDGED = N_("too few pairs to judge"), N_("n/a"), N_("not judged")
WITHOUT_VERDICT = (TOO_FEW, NOT_AVAILABLE, NOT_JUDGED)
HELD, DID_NOT_HOLD = N_("held here"), N_("did not hold here")
OPPOSITE, CANNOT_TELL = N_("the opposite"), N_("cannot tell")


# Metrics


@dataclass(frozen=True)
class Metric:
    """One figure of a run. ``read``: (run, target accuracy or None) -> the figure, nan if it is not available.

    ``exact``: the recipe alone decides it, so that it is the same in each pair, and needs no interval.
    """

    name: str
    title: str  # in English
    unit: str  # "s", "bytes", "images", "J", or "share", which is compared by a difference in points, not a ratio
    read: Callable[..., float]
    exact: bool = False

    @property
    def is_ratio(self) -> bool:
        return self.unit != "share"

    def texts(self, *values: float) -> list[str]:
        """Values in words, all in one unit unless they differ a thousandfold."""
        known = [value for value in values if math.isfinite(value)]
        like = max(known) if known and max(known) < 1000 * min(known) else None
        words = {
            "s": lambda value: seconds(value, like),
            "bytes": lambda value: size(value, like),
            "images": number,
            "J": lambda value: f"{value:.3g} J",
            "share": percent,
        }[self.unit]
        return [words(value) if math.isfinite(value) else _(NOT_AVAILABLE) for value in values]


def _mean_of_steps(column):
    # A mean, not a median: workers deliver in bursts, and a cache is slow in its first epoch and fast in the others.
    return lambda run, target: run.mean(column)


def _figure(name):
    return lambda run, target: run.scalars.get(name, math.nan)


def _preparation(run):
    prepare_s = run.scalars.get("prepare_s", math.nan)
    return prepare_s if math.isfinite(prepare_s) else 0.0


def _whole_run(run, target):
    return _preparation(run) + run.seconds if run.seconds else math.nan


def _time_to_target(run, target):
    if target is None:
        return math.nan
    reached = np.flatnonzero(run.epoch_column("validation_accuracy") >= target)
    return _preparation(run) + float(run.epoch_column("t")[reached[0]]) if len(reached) else math.nan


def _accuracy_of_final_weights(run, target):
    best = run.scalars.get("best_epoch", math.nan)  # early stopping restores the weights of that epoch
    values = run.epoch_column("validation_accuracy")
    return float(values[int(best)]) if 0 <= best < len(values) else run.last("validation_accuracy")


METRICS = {
    metric.name: metric
    for metric in (
        Metric("step_s", N_("time per step (mean)"), "s", _mean_of_steps("step_s")),
        Metric("wait_s", N_("waiting for data per step (mean)"), "s", _mean_of_steps("wait_s")),
        Metric("seconds", N_("time of the whole run, preparation included"), "s", _whole_run),
        Metric("target_s", N_("time to the target accuracy, preparation included"), "s", _time_to_target),
        Metric("step_memory", N_("memory of one training step, counted"), "bytes", _figure("step_memory"), exact=True),
        Metric("peak_memory", N_("peak memory on the device"), "bytes", _figure("peak_memory")),
        Metric("host_memory", N_("main memory of the processes at the end"), "bytes", _figure("host_memory")),
        Metric("reads", N_("images read from the source while training"), "images", _figure("reads")),
        Metric("energy_j", N_("energy of the GPU"), "J", _figure("energy_j")),
        Metric("validation_accuracy", N_("validation accuracy"), "share", _accuracy_of_final_weights),
    )
}


def title_of(metric: str, recipe) -> str:
    """The English title of a metric for the task of a recipe."""
    task = task_of(recipe)
    return {"reads": task.reads, "validation_accuracy": task.accuracy}.get(metric, METRICS[metric].title)


PROCESS_MEMORY = ("peak_memory", "host_memory")  # cannot be told apart while two runs take turns on a CPU

# Claims


class Claim(Strict):
    """A sentence about a technique, and the metric and direction by which it is judged.

    Raises:
        ValueError: technique, metric or direction is unknown; the message says what is allowed.
    """

    technique: Literal[SWITCHES]
    sentence: str
    metric: Literal[tuple(METRICS)]
    direction: Literal[LOWER, HIGHER]


def _claims(technique, sentence, **directions):
    return tuple(Claim(technique, sentence, metric, direction) for metric, direction in directions.items())


# The article's six. "Stabilises" is judged by the final accuracy at one learning rate; compare at a large one, too.
CLAIMS = {
    "precision": _claims(
        "precision", N_("Reduced precision cuts memory and speeds up processing."), step_memory=LOWER, step_s=LOWER
    ),
    "early_stopping": _claims(
        "early_stopping", N_("Early stopping saves time and resources."), seconds=LOWER, energy_j=LOWER
    ),
    "augment": _claims(
        "augment", N_("Augmentation on the fly reduces the memory needed in training."), step_memory=LOWER
    ),
    "batchnorm": _claims(
        "batchnorm",
        N_("Batch normalisation stabilises and speeds up convergence and makes better use of memory."),
        validation_accuracy=HIGHER,
        target_s=LOWER,
        step_memory=LOWER,
    ),
    "workers": _claims("workers", N_("Preparing data in parallel reduces waiting."), wait_s=LOWER),
    "cache": _claims(
        "cache", N_("Caching avoids frequent calls to the database and speeds up training."), reads=LOWER, seconds=LOWER
    ),
}


@dataclass(frozen=True)
class Judgement:
    """What a comparison says about a claim; ``outcome``: held here, did not hold here, the opposite, or cannot tell.

    ``outcome`` is English, for code to compare; ``why`` is in the language that was current when it was judged.
    """

    claim: Claim
    outcome: str
    why: str

    def __str__(self):
        said = {"sentence": _(self.claim.sentence), "why": self.why, "outcome": _(self.outcome)}
        return _("{sentence} [{why}]: {outcome}", **said)
