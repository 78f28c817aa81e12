"""What the lesson on precision draws, counts and times: formats, vanishing gradients, bytes, rungs and stored weights.

Sources: IEEE 754-2019 for the formats; Micikevicius et al. 2018, "Mixed Precision Training", for the gradients and the
scaler; PyTorch's ``torch.amp`` and ``torch.autograd.graph.saved_tensors_hooks``.
"""

import json
import math
import os
import platform
import subprocess
import sys
from contextlib import closing

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import nn

from speedkit.hardware import machine
from speedkit.lab.picture import Picture, drawn
from speedkit.lab.tables import CUT
from speedkit.lessons.precision.formats import COLOURS, FORMATS
from speedkit.lessons.precision.storage import STORED
from speedkit.lessons.shared import memory
from speedkit.recipe import Recipe
from speedkit.run import Run, Step
from speedkit.support.errors import CannotRun
from speedkit.support.settings import smoke
from speedkit.support.table import Table
from speedkit.support.units import seconds, size
from speedkit.techniques.precision import AUTOCAST, Precision, slowdown
from speedkit.train import first_batch, train

RUNGS = ("fp32", "tf32", "bf16", "fp16")


def task() -> Recipe:
    """The lesson's recipe, so large that a step is arithmetic in the main, and a run takes some seconds."""
    if machine().kind == "cpu":
        return Recipe(model="mlp", batch_size=512, epochs=2)
    return Recipe(model="wide", batch_size=512, epochs=2, channels_last=True)


def gradient_sizes(model: nn.Module, images, labels) -> torch.Tensor:
    """The sizes of the gradients that flow through ``model``, computed in fp32: float32 [N], without exact zeros.

    Those of every layer's output and of every parameter, on images uint8 [B, C, H, W] and labels int64 [B]. At most
    about a million of them, evenly chosen.
    """
    found = []

    def watch(module, inputs, output):
        if output.requires_grad:
            output.register_hook(lambda gradient: found.append(gradient.detach().flatten()))

    handles = [layer.register_forward_hook(watch) for layer in model]
    try:
        loss = nn.functional.cross_entropy(model(images), labels)
        found += [gradient.flatten() for gradient in torch.autograd.grad(loss, list(model.parameters()))]
    finally:
        for handle in handles:
            handle.remove()
    sizes = torch.cat(found).abs().cpu()
    sizes = sizes[sizes > 0]
    return sizes[:: max(1, len(sizes) // 1_000_000)]


def lost(sizes: torch.Tensor, dtype: torch.dtype, scale: float = 1.0) -> float:
    """Share of ``sizes``, none of them zero, that are zero in ``dtype`` after they were multiplied by ``scale``."""
    return float(((sizes * scale).to(dtype) == 0).float().mean())


def losses_to_rounding(sizes: torch.Tensor, scale: float = 2.0**16) -> Table:
    """Which share of gradients becomes zero or infinite in 16 bits, with and without a scale."""
    rows = []
    for name, factor in (("fp16", 1.0), ("fp16", scale), ("bf16", 1.0)):
        infinite = float(torch.isinf((sizes * factor).to(AUTOCAST[name])).float().mean())
        rows.append([name, f"{factor:g}", f"{lost(sizes, AUTOCAST[name], factor):.2%}", f"{infinite:.2%}"])
    return Table(["format", "multiplied by", "become zero", "become infinite"], rows)


@drawn("How large the gradients are, with and without a scale.")
def gradient_figure(sizes: torch.Tensor, scale: float = 2.0**16) -> Picture:
    """How large the gradients are, as powers of two, and where fp16 ends, with and without a scale."""
    figure = Figure(figsize=(8, 2.8), layout="constrained")
    axes = figure.subplots()
    powers, edges = np.log2(sizes.double().numpy()), np.arange(-50, 21)
    weights = np.full(len(powers), 100 / max(1, len(powers)))
    for factor, colour, label in ((1.0, COLOURS["fp16"], "as they are"), (scale, COLOURS["bf16"], "scaled")):
        shifted = np.clip(powers + math.log2(factor), edges[0], edges[-1])
        axes.hist(shifted, edges, weights=weights, color=colour, alpha=0.55, label=f"{label} (× {factor:g})")
    of = FORMATS["fp16"]
    low, normal, high = (math.log2(value) for value in (of.smallest / 2, of.smallest_normal, of.largest))
    axes.axvspan(edges[0], low, color="0.5", alpha=0.25, linewidth=0)
    axes.axvspan(low, normal, color="0.5", alpha=0.1, linewidth=0)
    axes.axvline(high, color="0.3", linewidth=1)
    axes.set_xlim(edges[0], edges[-1])
    axes.set_xticks(range(-50, 21, 10), [f"2^{power}" for power in range(-50, 21, 10)], fontsize=8)
    axes.set_xlabel("size of a gradient, a power of two a bar", fontsize=8)
    axes.set_ylabel("% of the gradients", fontsize=8)
    axes.set_title("grey: zero in fp16; pale grey: fewer digits; line: largest fp16 number", fontsize=9)
    axes.legend(fontsize=8, loc="upper left")
    return figure


def train_on_a_small_loss(name: str, scaler: bool, weight: float = 1e-6, steps: int = 30):
    """Trains on one batch with the loss times ``weight`` and the rate divided by it: the same updates, on paper.

    Returns the losses, without the weight, and the share of the last gradients that are zero.
    """
    images, labels, model = first_batch(Recipe(model="mlp", batch_size=64, subset=64))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05 / weight)
    precision = Precision(name, images.device.type)
    if not scaler:
        precision.scaler = torch.amp.GradScaler(enabled=False)
    losses = []
    with precision:
        for _ in range(2 if smoke() else steps):
            with precision.autocast():
                loss = nn.functional.cross_entropy(model(images), labels)
            precision.step(loss * weight, optimizer)
            losses.append(loss.item())
    gradients = torch.cat([p.grad.flatten() for p in model.parameters()])
    return losses, float((gradients == 0).float().mean())


def without_the_scaler(weight: float = 1e-6) -> Table:
    """The same small loss in fp32, in fp16 with the scaler, and in fp16 without it."""
    rows = []
    for title, name, scaler in (
        ("fp32", "fp32", False),
        ("fp16 with the scaler", "fp16", True),
        ("fp16 without it", "fp16", False),
    ):
        losses, zeros = train_on_a_small_loss(name, scaler, weight)
        rows.append([title, f"{losses[0]:.4f}", f"{losses[-1]:.4f}", f"{zeros:.1%}"])
    caption = f"One batch, the loss multiplied by {weight:g} and the learning rate divided by it."
    return Table(["", "loss before", "loss at the end", "gradients that are zero"], rows, caption)


# The ladder


def ladder(recipe: Recipe, steps: int = 40) -> Table:
    """A few steps of a recipe in each precision, one run each; where a rung is missing here, the reason."""
    runs, reasons = {}, {}
    for name in RUNGS:
        try:
            runs[name] = _first_steps(recipe.but(precision=name), steps)
        except CannotRun as reason:
            reasons[name] = str(reason)
    rows = []
    for name in RUNGS:
        if name in reasons:
            rows.append([name, "n/a", "n/a", reasons[name]])
            continue
        step_s, base_s = runs[name].median("step_s"), runs["fp32"].median("step_s")
        times = f"{step_s / base_s:.2f}" if base_s and math.isfinite(step_s / base_s) else "n/a"
        rows.append([name, seconds(step_s).replace(" ", "\N{NO-BREAK SPACE}"), times, " ".join(runs[name].notes)])
    caption = f"{recipe.model}, batch {recipe.batch_size}: medians over at most {steps} steps of one run each."
    if smoke():
        caption += f" {CUT}"
    return Table(["rung", "a step", "times fp32's", "remark"], rows, caption)


def _first_steps(recipe, steps):
    recipe = recipe.but(steps=min(steps, recipe.steps or steps))
    run = Run(recipe)
    with closing(train(recipe, run)) as records:
        for record in records:
            if isinstance(record, Step) and record.n + 1 >= steps:
                break  # the evaluation is of no interest here
    return run


HIDDEN = "AVX2"  # the newest instructions that oneDNN may then use: those of a processor of 2013
IN_ANOTHER_PROCESS = """
import json, sys
from speedkit.lab.lessons.precision import bf16_here
from speedkit.recipe import Recipe
print(json.dumps(bf16_here(Recipe.from_dict(json.loads(sys.argv[1])))))
"""


def bf16_here(recipe: Recipe) -> float:
    """How many times longer bf16 steps take than fp32 steps on the processor of this machine.

    The median over rounds in which both take a few steps, one after the other: what else the machine does in between
    shows in single rounds only.
    """
    images, labels, model = first_batch(recipe.but(device="cpu", precision="fp32"))
    rounds, steps = (1, 1) if smoke() else (9, 3)
    return float(np.median([slowdown("bf16", model, images, labels, steps=steps) for _ in range(rounds)]))


def with_and_without_hardware(recipe: Recipe) -> Table:
    """bf16 steps on this processor, and again in a process in which torch may not use its newer instructions.

    The second process gets ``ONEDNN_MAX_CPU_ISA=AVX2``: oneDNN, which computes torch's matrix products on x86
    processors, then takes this one for an older model.
    """
    here = machine("cpu")
    recipe = recipe.but(batch_size=min(recipe.batch_size, 64)) if smoke() else recipe
    rows = [[here.name, "in hardware" if here.bf16 else "emulated", f"{bf16_here(recipe):.2f}"]]
    title = f"the same, limited to {HIDDEN}"
    if here.bf16 and platform.machine() in ("x86_64", "AMD64"):
        done = subprocess.run(
            [sys.executable, "-c", IN_ANOTHER_PROCESS, json.dumps(recipe.to_dict())],
            env=os.environ | {"ONEDNN_MAX_CPU_ISA": HIDDEN},
            capture_output=True,
            text=True,
            timeout=300,
            check=True,
        )
        rows.append([title, "emulated", f"{json.loads(done.stdout):.2f}"])
    else:
        why = "no x86 processor" if here.bf16 else "there are no bf16 instructions to hide"
        rows.append([title, f"n/a: {why}", "n/a"])
    caption = f"{recipe.model}, batch {recipe.batch_size}: computing alone, a median over rounds of a few steps each."
    return Table(["processor", "bf16", "bf16 step, times fp32's"], rows, caption)


def memory_table(*recipes: Recipe) -> Table:
    """One column a recipe, one row a kind of tensor."""
    columns = [memory(recipe) for recipe in recipes]
    rows = [[name, *(size(column[name]) for column in columns)] for name in columns[0]]
    caption = "" if math.isfinite(columns[0]["peak on the device"]) else "The peak on the device is known on CUDA only."
    return Table(["", *(_title(recipe) for recipe in recipes)], rows, caption)


def _title(recipe):
    return f"{recipe.model}, batch {recipe.batch_size}, {recipe.precision}"


@drawn("The tensors of a training step by what they are for.")
def memory_figure(*recipes: Recipe) -> Picture:
    """Stacked bars of the same bytes, each pair of recipes as a share of its first one."""
    figure = Figure(figsize=(9, 0.9 + 0.42 * len(recipes)), layout="constrained")
    axes = figure.subplots()
    colours = ("#0072B2", "#56B4E9", "#CC79A7", "#D55E00", "#009E73")
    columns = [memory(recipe) for recipe in recipes]
    for i, column in enumerate(columns):
        left, whole = 0.0, columns[i - i % 2]["together"]
        for (name, value), colour in zip(list(column.items())[:5], colours, strict=True):
            share = 100 * value / whole
            axes.barh(-i - 0.25 * (i // 2), share, left=left, height=0.7, color=colour, label=name if i == 0 else None)
            left += share
        axes.text(left + 1, -i - 0.25 * (i // 2), size(column["together"]), va="center", fontsize=8)
    axes.set_yticks([-i - 0.25 * (i // 2) for i in range(len(recipes))], [_title(r) for r in recipes], fontsize=8)
    axes.set_xlim(0, max(axes.get_xlim()[1], 125))
    axes.set_xlabel("% of the fp32 step's tensors", fontsize=8)
    axes.tick_params(axis="x", labelsize=8)
    figure.legend(*axes.get_legend_handles_labels(), fontsize=8, ncols=5, loc="outside upper center", frameon=False)
    return figure


STORED |= {f"int{bits}": bits for bits in (8, 4, 3, 2)}
