"""Quantisation: weights stored in fewer bits."""

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

STORED = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
STORED |= {f"int{bits}": bits for bits in (8, 4, 3, 2)}


def stored(model: nn.Module, how, quantise) -> tuple[nn.Module, float]:
    """A copy of ``model`` whose weights have been stored and read back, and the bytes that they took.

    how: a torch.dtype, or the number of bits of an integer. quantise: (weight float [out, ...], bits) -> (int8 of the
    same shape, scale to multiply it by). With integers, biases and norms stay in fp32: they are few.
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


def stored_table(recipe: Recipe, quantise, seeds: int = NEEDED_PAIRS) -> Table:
    """Trains one network per seed, stores its weights in fewer and fewer bits, and compares the validation accuracy."""
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
    heading = ["stored as", "size", "relative to fp32", "validation accuracy (median)"]
    heading += ["change in accuracy, points", "verdict"]
    caption = (
        f"{seeds} networks, one per seed; {len(validation[1]):,} validation images; 95 % interval over the networks. "
        "int4, int3 and int2 are counted as if packed into bytes."
    )
    return Table(heading, rows, caption)
