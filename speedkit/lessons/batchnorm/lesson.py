"""What the lesson on batch normalisation draws and measures: rates swept, one batch in two modes, a forgotten eval().

Sources: Ioffe and Szegedy 2015, "Batch Normalization"; Bjorck et al. 2018, "Understanding Batch Normalization", for the
learning rate; Wu and He 2018, "Group Normalization", for small batches.
"""

import copy
import math
import sys
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from tqdm import tqdm

from speedkit.lab.picture import Picture, drawn
from speedkit.lab.tables import CUT
from speedkit.lessons.shared import memory
from speedkit.loading import drain
from speedkit.recipe import Recipe
from speedkit.run import Run
from speedkit.support.errors import NotFinite
from speedkit.support.settings import smoke
from speedkit.support.table import Table
from speedkit.support.units import percent, size
from speedkit.tasks.images import load
from speedkit.train import train

NAMES = {False: "without", True: "with batch norm"}
COLOURS = {False: "#D55E00", True: "#0072B2"}
LOOKED_AT = 1000  # validation images on which a forgotten eval() is shown


# What it does to one batch


def norms(model: nn.Module) -> list[nn.Module]:
    """The batch normalisations in a network, in order."""
    return [module for module in model.modules() if isinstance(module, _BatchNorm)]


@drawn("Values of four channels, into the norm and out of it.")
def channels(model: nn.Module, images: torch.Tensor, shown: int = 4) -> Picture:
    """The values of some channels of one batch, into the first norm and out of it, in training mode.

    images: uint8 [B, C, H, W]. The model is left as it was.
    """
    model = copy.deepcopy(model).train()
    seen = {}
    norms(model)[0].register_forward_hook(lambda module, inputs, output: seen.update(into=inputs[0], out=output))
    with torch.no_grad():
        model(images)
    figure = Figure(figsize=(9, 2.8), layout="constrained")
    many = figure.subplots(1, 2)
    many[0].set_ylabel("how often", fontsize=9)
    for axes, (name, values) in zip(many, seen.items(), strict=True):
        axes.set_xlabel("value", fontsize=9)
        values = values.transpose(0, 1).flatten(1)[:shown].float().cpu().numpy()
        for channel, some in enumerate(values):
            said = f"channel {channel}: mean {some.mean():+.2f}, std {some.std():.2f}"
            axes.hist(some, bins=60, density=True, histtype="step", label=said)
        axes.set_title({"into": "into the norm", "out": "out of the norm"}[name], fontsize=10)
        axes.set_yticks([])
        axes.legend(fontsize=7)
    return figure


def neighbours(model: nn.Module, images: torch.Tensor) -> Table:
    """How much the answer for image 0 changes when all others in its batch are exchanged, in both modes.

    images: uint8 [B >= 3, C, H, W]: the first half of the others against the second. The model is left as it was.
    """
    half = (len(images) - 1) // 2
    one, other = images[: 1 + half], torch.cat([images[:1], images[1 + half : 1 + 2 * half]])
    rows = []
    for mode in ("train", "eval"):
        answers = []
        for batch in (one, other):
            tried = copy.deepcopy(model).train(mode == "train")
            with torch.no_grad():
                answers.append(tried(batch)[0].float().cpu())
        change = float((answers[0] - answers[1]).abs().max())
        rows.append([f"model.{mode}()", *(f"{float(answer.max()):+.4f}" for answer in answers), f"{change:.4f}"])
    heading = ["mode", "highest output, these neighbours", "other neighbours", "largest change of an output"]
    return Table(heading, rows, f"The same image 0, in two batches of {1 + half}.")


# What it keeps


def memory_table(recipe: Recipe) -> Table:
    """The tensors of one training step, counted with and without batch norm."""
    without, with_norm = (memory(recipe.but(batchnorm=on)) for on in (False, True))
    rows = []
    for name, value in without.items():
        ratio = with_norm[name] / value if value else math.nan
        rows.append([name, size(value), size(with_norm[name]), f"× {ratio:.2f}" if math.isfinite(ratio) else "n/a"])
    caption = "Counted at the tensors of one step, not read from the process. The peak is known on CUDA only."
    return Table(["", NAMES[False], NAMES[True], "ratio"], rows, f"{caption} {CUT}" if smoke() else caption)


# Rates swept


@dataclass
class Sweep:
    """Validation accuracy at the end of a run for each learning rate, with and without batch norm.

    ``accuracies``: batchnorm -> float64 [rates, seeds]; nan where the loss became nan or infinite.
    """

    recipe: Recipe
    rates: tuple[float, ...]
    accuracies: dict[bool, np.ndarray]
    smoke: bool = False

    def best(self, batchnorm: bool) -> float:
        """The rate with the highest accuracy on average over the seeds; a run that broke counts as zero."""
        means = np.nan_to_num(self.accuracies[batchnorm]).mean(axis=1)
        return self.rates[int(means.argmax())]

    def table(self) -> Table:
        """One row a rate, and how far apart the best and the worst rate are."""
        rows = []
        for i, rate in enumerate(self.rates):
            cells = [self._cell(self.accuracies[on][i]) for on in (False, True)]
            rows.append([f"{rate:g}", *cells])
        spread = []
        for on in (False, True):
            means = np.nan_to_num(self.accuracies[on]).mean(axis=1)
            spread.append(f"{100 * (means.max() - means.min()):.1f} points")
        rows += [["best rate", *map(self._best_cell, (False, True))], ["best less worst rate", *spread]]
        seeds = self.accuracies[True].shape[1]
        caption = f"Validation accuracy, {seeds} seed{'s' if seeds > 1 else ''} a rate; a run that broke counts as 0."
        return Table(["learning rate", *NAMES.values()], rows, f"{caption} {CUT}" if self.smoke else caption)

    def _best_cell(self, on):
        best = self.best(on)
        edge = best in (min(self.rates), max(self.rates))
        return f"{best:g}, at the edge: try further out" if edge else f"{best:g}"

    @staticmethod
    def _cell(values):
        return ", ".join(percent(value) if math.isfinite(value) else "broke (nan)" for value in values)

    @drawn("Validation accuracy at each learning rate, with and without the norm.")
    def figure(self) -> Picture:
        """Accuracy over the learning rate, a dot a run, a line through the means; a cross where a run broke."""
        figure = Figure(figsize=(8, 3.4), layout="constrained")
        axes = figure.subplots()
        x = np.log10(self.rates)  # on a linear axis: logarithmic labels would need matplotlib's formula parser
        for on, values in self.accuracies.items():
            means = 100 * np.nan_to_num(values).mean(axis=1)
            axes.plot(x, means, color=COLOURS[on], label=NAMES[on])
            for column in values.T:
                axes.plot(x, 100 * column, "o", color=COLOURS[on], markersize=5, alpha=0.7)
                broke = ~np.isfinite(column)
                axes.plot(x[broke], np.zeros(broke.sum()), "x", color=COLOURS[on], markersize=8)
        axes.set_xticks(x, [f"{rate:g}" for rate in self.rates])
        axes.set_xlabel("learning rate (x: the loss became nan)", fontsize=9)
        axes.set_ylabel("validation accuracy, %", fontsize=9)
        axes.set_ylim(-3, 100)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=9, loc="lower left")
        return figure


def sweep(recipe: Recipe, rates: tuple[float, ...], seeds: int = 2) -> Sweep:
    """Trains with and without batch norm at each rate, once a seed."""
    if smoke():
        rates, seeds = rates[:2], 1
    accuracies = {on: np.full((len(rates), seeds), math.nan) for on in (False, True)}
    plan = [(on, i, j) for i in range(len(rates)) for j in range(seeds) for on in (False, True)]
    for on, i, j in tqdm(plan, unit="run", file=sys.stdout):
        run = Run(recipe.but(batchnorm=on, learning_rate=rates[i], seed=recipe.seed + j))
        try:
            drain(train(run.recipe, run))
        except NotFinite:
            continue
        accuracies[on][i, j] = run.last("validation_accuracy")
    return Sweep(recipe, tuple(rates), accuracies, smoke())


# A forgotten eval()


def trained(recipe: Recipe) -> nn.Module:
    """The network of a recipe, trained, and left in evaluation mode."""
    kept = []
    drain(train(recipe.effective(), on_model=kept.append))
    return kept[0].eval()


def forgotten_eval(model: nn.Module, recipe: Recipe, batches=(500, 50, 10, 2, 1)) -> Table:
    """Validation accuracy with ``eval()``, and without it at several batch sizes and with the images sorted by class.

    The model is left as it was; the last row says what the forgotten pass over sorted images leaves behind, and the
    caption how far it moved the running means.
    """
    images, labels = (part[:LOOKED_AT] for part in drain(load(recipe.effective())).validation)
    order = labels.argsort(stable=True)
    right = accuracy(copy.deepcopy(model).eval(), images, labels, batches[0])
    rows = [["eval(), as it should be", str(batches[0]), percent(right), ""]]

    def row(name, batch, value):
        rows.append([name, str(batch), percent(value), f"{100 * (value - right):+.1f}"])

    for batch in batches:
        row("eval() forgotten", batch, accuracy(copy.deepcopy(model).train(), images, labels, batch))
    spoilt = copy.deepcopy(model).train()
    row("eval() forgotten, images sorted by class", 50, accuracy(spoilt, images[order], labels[order], 50))
    row("eval() again, after that", batches[0], accuracy(spoilt.eval(), images, labels, batches[0]))
    caption = f"The same weights and the same {len(labels):,} validation images in every row. "
    caption += (
        f"The pass over the sorted ones moved the running means by {moved(model, spoilt):.2f} standard deviations."
    )
    heading = ["mode", "batch size", "accuracy", "difference in points"]
    return Table(heading, rows, f"{caption} {CUT}" if smoke() else caption)


def moved(model: nn.Module, later: nn.Module) -> float:
    """How far the running means of ``later`` lie from those of ``model``, in its standard deviations: their mean."""
    pairs = zip(norms(model), norms(later), strict=True)
    shares = [(b.running_mean - a.running_mean).abs() / (a.running_var + a.eps).sqrt() for a, b in pairs]
    return float(torch.cat(shares).mean())


def accuracy(model: nn.Module, images: torch.Tensor, labels: torch.Tensor, batch: int) -> float:
    """Share of images uint8 [N, C, H, W] that ``model`` gets right in the mode that it is in, ``batch`` at a time."""
    device = next(model.parameters()).device
    with torch.no_grad():
        answers = [model(some.to(device)).argmax(1).cpu() for some in images.split(batch)]
    return float((torch.cat(answers) == labels).float().mean())
