"""The lesson on early stopping: loss curves, a replay of patience, and test scores that were used to choose the epoch.

Sources: Prechelt 1998, "Early Stopping - But When?"; Cawley and Talbot 2010, "On Over-fitting in Model Selection and
Subsequent Selection Bias in Performance Evaluation", for scores that were used to choose what they report.
"""

import math
import sys
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import nn

from speedkit.comparison.result import Comparison
from speedkit.comparison.stats import judge_points
from speedkit.lab.live import progress
from speedkit.lab.picture import Picture, drawn
from speedkit.lab.tables import CUT
from speedkit.lessons import sizes as sizes  # for the notebook: lesson.sizes
from speedkit.lessons.shared import check_price
from speedkit.loading import drain
from speedkit.recipe import Recipe
from speedkit.run import Epoch, Run
from speedkit.support.errors import NotFinite
from speedkit.support.settings import smoke
from speedkit.support.table import Table
from speedkit.tasks.images import load
from speedkit.techniques.early_stopping import EarlyStopping
from speedkit.techniques.precision import Precision
from speedkit.train import train

__all__ = [
    "by_hand",
    "curves",
    "noise",
    "optimism_figure",
    "optimism_table",
    "patience_table",
    "savings",
    "scored_runs",
    "sketch",
    "what_if",
]

SEEDS = 8
PATIENCES = (1, 2, 3, 5, 10)
SIZES = (50, 100, 200, 500, 1000, 2000)  # images in a small test set
VALIDATION_COLOUR, TRAINING_COLOUR, BEST_COLOUR = "#D55E00", "#0072B2", "#009E73"


# The technique by itself


class StopEpoch(NamedTuple):
    """Where early stopping would have ended a run. Epochs count from 1; ``best`` is None if no loss was a number."""

    ended: int
    best: int | None
    ran_out: bool  # whether patience ran out; otherwise the run came to its planned end


def replay(losses, patience: int, min_delta: float = 0.0) -> StopEpoch:
    """Feeds validation losses [epochs >= 1] to the technique itself.

    This is exact: until early stopping ends a run, it changes nothing in it.
    """
    stopper, weightless = EarlyStopping(patience, min_delta), nn.Identity()
    ran_out = False
    for loss in losses:
        ran_out = stopper.should_stop(float(loss), weightless)
        if ran_out:
            break
    return StopEpoch(stopper.epoch, None if stopper.best_epoch is None else stopper.best_epoch + 1, ran_out)


def by_hand(losses, patience: int, min_delta: float = 0.0) -> Table:
    """One row per epoch: the state of early stopping after it, up to the stop."""
    stopper, weightless = EarlyStopping(patience, min_delta), nn.Identity()
    rows = []
    for epoch, loss in enumerate(losses, start=1):
        stop = stopper.should_stop(float(loss), weightless)
        rows.append(
            [str(epoch), f"{loss:.3f}", f"{stopper.best:.3f}", str(stopper.waited), "stop" if stop else "continue"]
        )
        if stop:
            break
    heading = ["epoch", "validation loss", "best that counted", "epochs waited", "decision"]
    best = "none" if stopper.best_epoch is None else f"those of epoch {stopper.best_epoch + 1}"
    return Table(heading, rows, f"Patience {patience}, min_delta {min_delta:g}. Best weights: {best}.")


def what_if(run: Run, patiences=PATIENCES, min_deltas=(0.0, 0.02)) -> Table:
    """What each patience and min_delta would have done to a run that continued to its planned end."""
    losses = run.epoch_column("validation_loss")
    rows = []
    for min_delta in min_deltas:
        for patience in patiences:
            stop = replay(losses, patience, min_delta)
            loss = "n/a" if stop.best is None else f"{losses[stop.best - 1]:.3f}"
            ended = str(stop.ended) if stop.ran_out else f"{stop.ended}, the end"
            saved = 1 - stop.ended / len(losses)
            rows.append([str(patience), f"{min_delta:g}", ended, f"{saved:.0%}", str(stop.best or "none"), loss])
    heading = [
        "patience",
        "min_delta",
        "ends after epoch",
        "epochs saved",
        "best weights from epoch",
        "their validation loss",
    ]
    lowest = f"The lowest loss of all {len(losses)} epochs: {np.nanmin(losses):.3f}."
    return Table(heading, rows, f"{lowest} {CUT}" if run.smoke else lowest)


@drawn("A sketch: the validation loss falls, then rises; later, patience runs out.")
def sketch() -> Picture:
    """The idea, drawn from an invented curve."""
    epochs = np.arange(1, 21)
    training = 0.15 + 0.85 * np.exp(-epochs / 5)
    validation = 0.42 + 0.6 * np.exp(-epochs / 2.5) + 0.018 * np.maximum(epochs - 7, 0)
    figure = Figure(figsize=(8, 2.8), layout="constrained")
    axes = figure.subplots()
    axes.plot(epochs, training, color=TRAINING_COLOUR, label="training loss")
    axes.plot(epochs[:13], validation[:13], color=VALIDATION_COLOUR, label="validation loss")
    axes.plot(epochs[12:], validation[12:], color=VALIDATION_COLOUR, linestyle=":", label="never computed")
    best = int(validation.argmin())
    axes.plot(epochs[best], validation[best], "o", color=BEST_COLOUR, label="best weights")
    axes.axvspan(epochs[best], 13, color="0.88")
    axes.text((epochs[best] + 13) / 2, 0.93, "patience", ha="center", fontsize=9)
    axes.axvline(13, color="0.4", linewidth=1)
    axes.text(13.2, 0.93, "stop", fontsize=9)
    axes.set_xlabel("epoch", fontsize=9)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_title("drawn, not measured", fontsize=8, color="0.4", loc="right")
    axes.legend(fontsize=8, loc="upper right")
    axes.set_ylim(0.1, 1.02)
    return figure


@drawn("Training and validation loss by epoch.")
def curves(*runs: Run) -> Picture:
    """Training and validation loss by epoch, one plot per run on equal axes. A dot marks the final weights."""
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    many = figure.subplots(1, len(runs), sharex=True, sharey=True, squeeze=False)[0]
    for axes, run in zip(many, runs, strict=True):
        columns = run.epoch_columns("train_loss", "validation_loss")
        epochs = np.arange(1, len(columns["validation_loss"]) + 1)
        axes.plot(epochs, columns["train_loss"], ".-", color=TRAINING_COLOUR, label="training", markersize=3)
        axes.plot(epochs, columns["validation_loss"], ".-", color=VALIDATION_COLOUR, label="validation", markersize=3)
        best = run.scalars.get("best_epoch", math.nan)
        final = int(best) if math.isfinite(best) else len(epochs) - 1
        axes.plot(epochs[final], columns["validation_loss"][final], "o", color=BEST_COLOUR, label="final weights")
        axes.axvline(len(epochs), color="0.6", linewidth=1)
        patience = run.recipe.early_stopping
        axes.set_title(f"early stopping, patience {patience}" if patience else "early stopping off", fontsize=10)
        axes.set_xlabel("epoch", fontsize=9)
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
    many[0].set_ylabel("loss", fontsize=9)
    many[0].legend(fontsize=8)
    return figure


def savings(comparison: Comparison, price_per_hour: float, runs: int = 1000) -> Table:
    """The hours and the cost of many runs with early stopping off and on, from the means of the pairs.

    Raises:
        ValueError: the price is negative or not a number, or ``runs`` is less than 1.
    """
    check_price(price_per_hour, runs)
    row, joules = comparison.row("seconds"), comparison.row("energy_j")
    hours = [value * runs / 3600 for value in (row.baseline, row.variant)]
    energy = [value * runs / 3.6e6 for value in (joules.baseline, joules.variant)]

    def cells(values, unit=""):
        values = (*values, values[0] - values[1])
        return [f"{value:,.2f}{unit}" if math.isfinite(value) else "n/a" for value in values]

    rows = [
        [f"hours for {runs:,} runs", *cells(hours)],
        [f"cost, at {price_per_hour:g} per hour", *cells([value * price_per_hour for value in hours])],
        ["energy of the GPU", *cells(energy, " kWh")],
    ]
    caption = f"Geometric means of {len(comparison.done)} pairs. Verdict on the time: {row.verdict}."
    caption = f"{caption} {CUT}" if comparison.smoke else caption
    return Table(["", "off", "on", "saved"], rows, caption, warning=comparison.disturbance)


# Runs that are scored on the test images after every epoch, which the training loop never does


class ScoredRun(NamedTuple):
    """A run, and which test images it got right after each epoch: bool [epochs, images]."""

    run: Run
    right: np.ndarray


def scored_runs(recipe: Recipe, seeds: int = SEEDS) -> list[ScoredRun]:
    """Trains to the end, once per seed, and scores every epoch on the test images, to show what goes wrong.

    A run whose loss becomes nan or infinite is left out, and a line says so.

    Raises:
        NotFinite: no run is left.
    """
    seeds = min(seeds, 2) if smoke() else seeds
    images, labels = drain(drain(load(recipe)).read_test())
    if smoke():
        images, labels = images[:1000], labels[:1000]
    found, problem = [], None
    bar = progress(range(recipe.seed, recipe.seed + seeds), unit="run")
    for seed in bar:
        run, models, right = Run(recipe.but(seed=seed)), [], []
        try:
            for record in train(run.recipe, run, on_model=models.append):
                if isinstance(record, Epoch):
                    right.append(_right(*models, images, labels))
        except NotFinite as error:
            problem = error
            bar.write(f"Seed {seed} is left out: {error}", file=sys.stdout)
        else:
            found.append(ScoredRun(run, np.array(right)))
    if not found:
        raise problem
    return found


def _right(model, images, labels):
    device = next(model.parameters()).device
    with torch.no_grad(), Precision("fp32", device.type):
        answers = [model(some.to(device)).argmax(1).cpu() for some in images.split(1000)]
    return (torch.cat(answers) == labels).numpy()


def patience_lost(runs: list[ScoredRun], patience: int) -> np.ndarray:
    """Change in validation accuracy per run, in points: best weights up to the stop minus the whole run's best."""
    points = []
    for run, _ in runs:
        losses, accuracies = run.epoch_columns("validation_loss", "validation_accuracy").values()
        best = replay(losses, patience).best or 1
        points.append(100 * (accuracies[best - 1] - accuracies[int(np.nanargmin(losses))]))
    return np.array(points)


def patience_table(runs: list[ScoredRun], patiences=PATIENCES) -> Table:
    """What each patience would have saved and cost in these runs."""
    epochs = np.array([len(run.epoch_column("validation_loss")) for run, _ in runs])
    rows = []
    for patience in patiences:
        stops = [replay(run.epoch_column("validation_loss"), patience) for run, _ in runs]
        best = [int(np.nanargmin(run.epoch_column("validation_loss"))) + 1 for run, _ in runs]
        early = sum(stop.best != epoch for stop, epoch in zip(stops, best, strict=True))
        saved = float(np.mean(1 - np.array([stop.ended for stop in stops]) / epochs))
        ended = ", ".join(str(stop.ended) for stop in stops)
        said = judge_points(patience_lost(runs, patience), cut=runs[0].run.smoke)
        rows.append([str(patience), ended, f"{saved:.0%}", f"{early} of {len(runs)}", *said])
    heading = ["patience", "ends after epoch (each run)", "epochs saved", "missed the lowest loss"]
    heading += ["change in validation accuracy, points", "verdict"]
    caption = (
        f"{len(runs)} runs. The change is relative to the weights with the lowest validation loss of the whole run: "
        "mean over the runs, 95 % interval by Student's t."
    )
    return Table(heading, rows, f"{caption} {CUT}" if runs[0].run.smoke else caption)


@drawn("Validation loss by epoch, with the stop and the lowest loss of each run.")
def noise(runs: list[ScoredRun], patience: int = 1, shown: int = 3) -> Picture:
    """The validation loss of some of the runs. A cross marks the stop, a dot the lowest loss."""
    figure = Figure(figsize=(9, 3), layout="constrained")
    many = figure.subplots(1, min(shown, len(runs)), sharex=True, sharey=True, squeeze=False)[0]
    for axes, (run, _) in zip(many, runs, strict=False):
        losses = run.epoch_column("validation_loss")
        ended, best = replay(losses, patience).ended - 1, int(np.nanargmin(losses))
        axes.plot(np.arange(1, len(losses) + 1), losses, ".-", color=VALIDATION_COLOUR, markersize=3, linewidth=1)
        axes.plot(best + 1, losses[best], "o", color=BEST_COLOUR, label="lowest loss")
        axes.plot(ended + 1, losses[ended], "x", color="0.1", markersize=9, label=f"stop (patience {patience})")
        axes.set_title(f"seed {run.recipe.seed}", fontsize=9)
        axes.set_xlabel("epoch", fontsize=9)
        axes.grid(alpha=0.3)
    if len(many) < len(runs):
        figure.suptitle(f"the first {len(many)} of {len(runs)} runs", fontsize=9)
    many[0].set_ylabel("validation loss", fontsize=9)
    many[0].legend(fontsize=8)
    return figure


# Epochs chosen on a small test set


def scores(right: np.ndarray, size: int, epoch: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Scores reported by small test sets, and on fresh images, in per cent: two arrays [sets].

    right: bool [epochs, images]. The images are cut into as many sets of ``size`` as possible. Each set chooses the
    epoch with the best score and reports that score; if ``epoch`` (from 0) is given, that epoch is used instead. The
    fresh score is the same epoch's accuracy on all images outside the set. With an epoch given, the two agree on
    average over all sets, because each image is in exactly one set.
    """
    epochs, count = right.shape
    sets = count // size
    inside = right[:, : sets * size].reshape(epochs, sets, size).sum(axis=2)
    outside = right.sum(axis=1, keepdims=True) - inside
    chosen = inside.argmax(axis=0) if epoch is None else np.full(sets, epoch)
    each = np.arange(sets)
    return 100 * inside[chosen, each] / size, 100 * outside[chosen, each] / (count - size)


def optimism_table(runs: list[ScoredRun], sizes=SIZES) -> Table:
    """How much too high a test set's score is if that set chose the epoch, for several sizes."""
    rows = []
    for size in sizes:
        if 2 * size > runs[0].right.shape[1]:
            continue  # too few fresh images are left
        means = np.array([[part.mean() for part in scores(right, size)] for _, right in runs])  # [runs, 2]
        reported, fresh = (f"{value:.1f} %" for value in means.mean(axis=0))
        rows.append([f"{size:,}", reported, fresh, *judge_points(means[:, 0] - means[:, 1], cut=runs[0].run.smoke)])
    heading = ["images in the test set", "reported", "on fresh images", "reported minus fresh, points", "verdict"]
    caption = (
        f"{len(runs)} runs, each with as many small test sets as the test images allow. Mean over the runs, 95 % "
        "interval by Student's t."
    )
    return Table(heading, rows, f"{caption} {CUT}" if runs[0].run.smoke else caption)


@drawn("How far off the scores of small test sets are, as two histograms.")
def optimism_figure(runs: list[ScoredRun], size: int = 100) -> Picture:
    """How far off the scores of small test sets are if validation chose the epoch, and if the set itself did."""
    lowest = [int(np.nanargmin(run.epoch_column("validation_loss"))) for run, _ in runs]
    chosen = np.concatenate([np.subtract(*scores(right, size)) for _, right in runs])
    honest = np.concatenate(
        [np.subtract(*scores(right, size, epoch)) for (_, right), epoch in zip(runs, lowest, strict=True)]
    )
    edge = max(1.0, np.abs([*chosen, *honest]).max())
    bins = np.linspace(-edge, edge, 41)
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    for axes, values, colour, title in zip(
        figure.subplots(2, 1, sharex=True, sharey=True),
        (honest, chosen),
        (BEST_COLOUR, VALIDATION_COLOUR),
        (
            f"epoch chosen on the validation loss, then scored on {size} test images",
            f"epoch chosen on the same {size} test images",
        ),
        strict=True,
    ):
        axes.hist(values, bins, color=colour, alpha=0.7)
        axes.axvline(0, color="0.3", linewidth=1)
        axes.axvline(values.mean(), color=colour, linestyle="--", label=f"mean {values.mean():+z.1f}")
        axes.set_title(title, fontsize=9)
        axes.legend(fontsize=8)
        axes.set_yticks([])
        axes.set_ylabel("test sets", fontsize=9)
    axes.set_xlabel("reported score minus score on fresh images, in points (right: too good)", fontsize=9)
    return figure
