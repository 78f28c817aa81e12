"""Pictures and tables of the lesson on batch normalisation: two modes, a sweep of learning rates, a forgotten eval().

Sources: Ioffe and Szegedy 2015, "Batch Normalization"; Bjorck et al. 2018, "Understanding Batch Normalization", for the
learning rate; Wu and He 2018, "Group Normalization", for small batches.
"""

import copy
import math
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from speedkit.lab.live import progress
from speedkit.lab.picture import Picture, drawn
from speedkit.lab.tables import CUT
from speedkit.lessons import sizes as sizes  # for the notebook, as the next three
from speedkit.lessons.shared import memory_figure as memory_figure
from speedkit.lessons.shared import memory_table as memory_table
from speedkit.lessons.shared import trained as trained
from speedkit.loading import drain
from speedkit.recipe import Recipe
from speedkit.support.errors import NotFinite
from speedkit.support.settings import smoke
from speedkit.support.table import Table
from speedkit.support.units import percent
from speedkit.tasks.images import load
from speedkit.techniques.precision import Precision
from speedkit.train import fit

NAMES = {False: "without", True: "with batch norm"}
COLOURS = {False: "#8C8C8C", True: "#009E73"}  # not the panel's orange and blue: waiting and computing
EVALUATED = 1000  # validation images in the table of the forgotten eval()


# One batch, two modes


def norms(model: nn.Module) -> list[nn.Module]:
    """The batch norm layers of a network, in order."""
    return [module for module in model.modules() if isinstance(module, _BatchNorm)]


@drawn("Histograms of the values in a few channels, before the norm and after it.")
def channels(model: nn.Module, images: torch.Tensor, shown: int = 4) -> Picture:
    """The values in the first ``shown`` channels of one batch, before the first norm and after it, in training mode.

    images: uint8 [B, C, H, W]. The model is left unchanged.
    """
    model = copy.deepcopy(model).train()
    seen = {}
    norms(model)[0].register_forward_hook(lambda module, inputs, output: seen.update(before=inputs[0], after=output))
    with torch.no_grad():
        model(images)
    figure = Figure(figsize=(9, 2.8), layout="constrained")
    both = figure.subplots(1, 2)
    both[0].set_ylabel("frequency", fontsize=9)
    for axes, (name, values) in zip(both, seen.items(), strict=True):
        axes.set_xlabel("value", fontsize=9)
        values = values.transpose(0, 1).flatten(1)[:shown].float().cpu().numpy()
        for channel, some in enumerate(values):
            label = f"channel {channel}: mean {some.mean():+.2f}, std {some.std():.2f}"
            axes.hist(some, bins=60, density=True, histtype="step", label=label)
        axes.set_title(f"{name} the norm", fontsize=10)
        axes.set_yticks([])
        axes.legend(fontsize=7)
    return figure


def neighbours(model: nn.Module, images: torch.Tensor) -> Table:
    """How much the output for image 0 changes when the other images in its batch are replaced, in both modes.

    images: uint8 [B >= 3, C, H, W]. Image 0 is put in a batch with the first half of the others, then with the second
    half. The model is left unchanged.
    """
    half = (len(images) - 1) // 2
    one, other = images[: 1 + half], torch.cat([images[:1], images[1 + half : 1 + 2 * half]])
    rows = []
    for mode in ("train", "eval"):
        outputs = []
        for batch in (one, other):
            tried = copy.deepcopy(model).train(mode == "train")
            with torch.no_grad():
                outputs.append(tried(batch)[0].float().cpu())
        change = float((outputs[0] - outputs[1]).abs().max())
        rows.append([f"model.{mode}()", *(f"{float(output.max()):+.4f}" for output in outputs), f"{change:.4f}"])
    heading = ["mode", "highest output in batch 1", "highest output in batch 2", "largest change of any output"]
    return Table(heading, rows, f"The same image in two batches of {1 + half}, with different neighbours.")


# Learning rates swept


@dataclass
class Sweep:
    """Final validation accuracy at each learning rate, with and without batch norm.

    ``accuracies``: batchnorm -> float64 [rates, seeds]; nan if the loss became nan or infinite.
    """

    recipe: Recipe
    rates: tuple[float, ...]
    accuracies: dict[bool, np.ndarray]
    smoke: bool = False

    def best(self, batchnorm: bool) -> float:
        """The rate with the highest mean accuracy over the seeds; a run that diverged counts as zero."""
        means = np.nan_to_num(self.accuracies[batchnorm]).mean(axis=1)
        return self.rates[int(means.argmax())]

    def table(self) -> Table:
        """One row per rate, then the best rate, and how far apart the best and the worst are."""
        rows = []
        for i, rate in enumerate(self.rates):
            cells = [self._cell(self.accuracies[on][i]) for on in (False, True)]
            rows.append([f"{rate:g}", *cells])
        spread = []
        for on in (False, True):
            means = np.nan_to_num(self.accuracies[on]).mean(axis=1)
            spread.append(f"{100 * (means.max() - means.min()):.1f} points")
        rows += [["best rate", *map(self._best_cell, (False, True))], ["best minus worst", *spread]]
        seeds = self.accuracies[True].shape[1]
        caption = f"Validation accuracy, {seeds} seed{'s' if seeds > 1 else ''} per rate; a diverged run counts as 0."
        return Table(["learning rate", *NAMES.values()], rows, f"{caption} {CUT}" if self.smoke else caption)

    def _best_cell(self, on):
        best = self.best(on)
        edge = best in (min(self.rates), max(self.rates))
        return f"{best:g}, at the edge: try rates beyond it" if edge else f"{best:g}"

    @staticmethod
    def _cell(values):
        return ", ".join(percent(value) if math.isfinite(value) else "diverged" for value in values)

    @drawn("Validation accuracy at each learning rate, with and without batch norm.")
    def figure(self) -> Picture:
        """Accuracy over the learning rate: one dot per run, a line through the means, a cross if a run diverged."""
        figure = Figure(figsize=(8, 3.4), layout="constrained")
        axes = figure.subplots()
        x = np.log10(self.rates)  # on a linear axis: logarithmic labels would need matplotlib's formula parser
        for on, values in self.accuracies.items():
            means = 100 * np.nan_to_num(values).mean(axis=1)
            axes.plot(x, means, color=COLOURS[on], label=NAMES[on])
            for column in values.T:
                axes.plot(x, 100 * column, "o", color=COLOURS[on], markersize=5, alpha=0.7)
                diverged = ~np.isfinite(column)
                axes.plot(x[diverged], np.zeros(diverged.sum()), "x", color=COLOURS[on], markersize=8)
        axes.set_xticks(x, [f"{rate:g}" for rate in self.rates])
        axes.set_xlabel("learning rate (x: diverged, the loss became nan or infinite)", fontsize=9)
        axes.set_ylabel("validation accuracy, %", fontsize=9)
        axes.set_ylim(-3, 100)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=9, loc="lower left")
        return figure


def sweep(recipe: Recipe, rates: tuple[float, ...], seeds: int = 2) -> Sweep:
    """Trains with and without batch norm at each rate, once per seed."""
    if smoke():
        rates, seeds = rates[:2], 1
    accuracies = {on: np.full((len(rates), seeds), math.nan) for on in (False, True)}
    plan = [(on, i, j) for i in range(len(rates)) for j in range(seeds) for on in (False, True)]
    for on, i, j in progress(plan, unit="run"):
        try:
            run = fit(recipe.but(batchnorm=on, learning_rate=rates[i], seed=recipe.seed + j))
        except NotFinite:
            continue
        accuracies[on][i, j] = run.last("validation_accuracy")
    return Sweep(recipe, tuple(rates), accuracies, smoke())


# A forgotten eval()


def forgotten_eval(model: nn.Module, recipe: Recipe, batches=(500, 50, 10, 2, 1)) -> Table:
    """Validation accuracy with ``eval()``, and without it at several batch sizes and with the images sorted by class.

    The model is left unchanged. The last row is evaluated after the forgotten pass over the sorted images; the caption
    says how far that pass moved the running means.
    """
    images, labels = (part[:EVALUATED] for part in drain(load(recipe.effective())).validation)
    order = labels.argsort(stable=True)
    right = accuracy_as_set(copy.deepcopy(model).eval(), images, labels, batches[0])
    rows = [["eval(), as it should be", str(batches[0]), percent(right), ""]]

    def row(name, batch, value):
        rows.append([name, str(batch), percent(value), f"{100 * (value - right):+.1f}"])

    for batch in batches:
        row("eval() forgotten", batch, accuracy_as_set(copy.deepcopy(model).train(), images, labels, batch))
    spoilt = copy.deepcopy(model).train()
    row("eval() forgotten, images sorted by class", 50, accuracy_as_set(spoilt, images[order], labels[order], 50))
    row("eval() called after that pass", batches[0], accuracy_as_set(spoilt.eval(), images, labels, batches[0]))
    shift = f"{mean_shift(model, spoilt):.2f} standard deviations"
    caption = f"The same weights and the same {len(labels):,} validation images in every row. "
    caption += f"The pass over the sorted images moved the running means by {shift} on average."
    heading = ["mode", "batch size", "accuracy", "difference in points"]
    return Table(heading, rows, f"{caption} {CUT}" if smoke() else caption)


def mean_shift(model: nn.Module, later: nn.Module) -> float:
    """How far the running means of ``later`` are from those of ``model``, on average, in standard deviations."""
    pairs = zip(norms(model), norms(later), strict=True)
    shares = [(b.running_mean - a.running_mean).abs() / (a.running_var + a.eps).sqrt() for a, b in pairs]
    return float(torch.cat(shares).mean())


def accuracy_as_set(model: nn.Module, images: torch.Tensor, labels: torch.Tensor, batch: int) -> float:
    """Share of images uint8 [N, C, H, W] that ``model`` gets right in the mode it is set to, ``batch`` at a time.

    Unlike ``shared.accuracy``, it does not call ``eval()`` first: that is the mistake to show.
    """
    device = next(model.parameters()).device
    with torch.no_grad(), Precision("fp32", device.type):
        predicted = [model(some.to(device)).argmax(1).cpu() for some in images.split(batch)]
    return float((torch.cat(predicted) == labels).float().mean())
