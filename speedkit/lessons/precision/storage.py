"""Weights stored in fewer bits."""

import copy

import numpy as np
import torch
from torch import nn

from speedkit.comparison.stats import NEEDED_PAIRS, judge_points
from speedkit.lessons.shared import accuracy, trained
from speedkit.loading import drain
from speedkit.recipe import Recipe
from speedkit.support.settings import smoke
from speedkit.support.table import Table
from speedkit.support.units import percent, size
from speedkit.tasks.images import load

# Quantisation: weights stored in fewer bits


def stored(model: nn.Module, how, quantise) -> tuple[nn.Module, float]:
    """A copy of ``model`` with the weights that come back after they were stored, and the bytes they took.

    how: a torch.dtype, or the bits of a whole number. quantise: (weight float [out, ...], bits) -> (int8 of the same
    shape, scale that it is multiplied by). Biases and norms stay in fp32 with whole numbers: they are few.
    """
    copied, total = copy.deepcopy(model), 0.0
    with torch.no_grad():
        for p in copied.parameters():
            if isinstance(how, torch.dtype):
                total += p.numel() * how.itemsize
                p.copy_(p.to(how))
            elif p.ndim > 1:
                whole, scale = quantise(p.detach(), how)
                total += whole.numel() * how / 8 + scale.numel() * scale.dtype.itemsize
                p.copy_(whole * scale)
            else:
                total += p.nbytes
    return copied, total


STORED = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def stored_table(recipe: Recipe, quantise, seeds: int = NEEDED_PAIRS) -> Table:
    """Trains once a seed, stores the weights in ever fewer bits, and compares the validation accuracy, in pairs."""
    seeds = 2 if smoke() else seeds
    validation = drain(load(recipe.effective())).validation
    accuracies, taken = {name: [] for name in STORED}, {}
    for seed in range(recipe.seed, recipe.seed + seeds):
        model = trained(recipe.but(seed=seed))
        for name, how in STORED.items():
            shrunk, taken[name] = stored(model, how, quantise)
            accuracies[name].append(accuracy(shrunk, *validation))
    rows = []
    for name in STORED:
        points = (np.array(accuracies[name]) - np.array(accuracies["fp32"])) * 100
        rows.append(
            [name, size(taken[name]), f"{taken[name] / taken['fp32']:.2f}", percent(float(np.median(accuracies[name])))]
            + (["", ""] if name == "fp32" else list(judge_points(points)))
        )
    heading = ["stored as", "bytes", "of fp32's", "accuracy (median)", "difference in points", "verdict"]
    caption = f"{seeds} trainings, {len(validation[1]):,} validation images; 95 % interval over the trainings."
    caption += " int4 to int2 are counted as if packed."
    return Table(heading, rows, caption)
