"""The lesson on precision: vanishing gradients, the time of each format, and where the memory goes.

Number formats, operators and stored weights have modules of their own; the notebook finds everything here.

Sources: IEEE 754-2019 for the formats; Micikevicius et al. 2018, "Mixed Precision Training", for the gradients and the
scaler; PyTorch's ``torch.amp``.
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
from speedkit.lessons import sizes
from speedkit.lessons.precision.formats import COLOURS, FORMATS, formats, number_lines
from speedkit.lessons.precision.operators import operators
from speedkit.lessons.precision.storage import stored_table
from speedkit.lessons.shared import memory_figure, memory_table, trained
from speedkit.recipe import Recipe
from speedkit.run import Run, Step
from speedkit.support.errors import CannotRun
from speedkit.support.settings import smoke
from speedkit.support.table import Table
from speedkit.support.units import seconds
from speedkit.techniques.precision import AUTOCAST, Precision, slowdown
from speedkit.train import first_batch, train

__all__ = [
    "formats",
    "gradient_figure",
    "gradient_sizes",
    "ladder",
    "losses_to_rounding",
    "memory_figure",
    "memory_table",
    "number_lines",
    "operators",
    "stored_table",
    "task",
    "trained",
    "with_and_without_hardware",
    "without_the_scaler",
]

LONGEST_S = 300  # seconds for the steps without hardware
RUNGS = ("fp32", "tf32", "bf16", "fp16")


def task(kind: str | None = None) -> Recipe:
    """The lesson's recipe: large enough that a step is mostly arithmetic and a run takes a few seconds.

    kind: "cpu" or "cuda"; default: this machine's.
    """
    return Recipe(epochs=2, **sizes.of("precision", kind))


# Gradients that vanish


def gradient_sizes(model: nn.Module, images, labels) -> torch.Tensor:
    """The absolute values of the gradients in ``model``, computed in fp32: float32 [N], without exact zeros.

    They are the gradients of every layer's output and of every parameter, on images uint8 [B, C, H, W] and labels int64
    [B]. If there are many more than a million, every k-th is taken.
    """
    found = []

    def record(module, inputs, output):
        if output.requires_grad:
            output.register_hook(lambda gradient: found.append(gradient.detach().flatten()))

    handles = [layer.register_forward_hook(record) for layer in model]
    try:
        with Precision("fp32", images.device.type):  # else a newer GPU would compute convolutions in TF32
            loss = nn.functional.cross_entropy(model(images), labels)
            found += [gradient.flatten() for gradient in torch.autograd.grad(loss, list(model.parameters()))]
    finally:
        for handle in handles:
            handle.remove()
    sizes = torch.cat(found).abs().cpu()
    sizes = sizes[sizes > 0]
    return sizes[:: max(1, len(sizes) // 1_000_000)]


def lost(sizes: torch.Tensor, dtype: torch.dtype, scale: float = 1.0) -> float:
    """Share of ``sizes`` (none is zero) that become zero when multiplied by ``scale`` and rounded to ``dtype``."""
    return float(((sizes * scale).to(dtype) == 0).float().mean())


def losses_to_rounding(sizes: torch.Tensor, scale: float = 2.0**16) -> Table:
    """The share of gradients that become zero or infinite in 16 bits, with and without a scale."""
    rows = []
    for name, factor in (("fp16", 1.0), ("fp16", scale), ("bf16", 1.0)):
        infinite = float(torch.isinf((sizes * factor).to(AUTOCAST[name])).float().mean())
        rows.append([name, f"{factor:g}", f"{lost(sizes, AUTOCAST[name], factor):.2%}", f"{infinite:.2%}"])
    return Table(["format", "multiplied by", "become zero", "become infinite"], rows, "Shares of the gradients.")


@drawn("How large the gradients are, with and without a scale.")
def gradient_figure(sizes: torch.Tensor, scale: float = 2.0**16) -> Picture:
    """A histogram of the sizes of the gradients, with and without a scale, and the limits of fp16."""
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
    axes.set_xlabel("size of the gradient (one bar per power of two)", fontsize=8)
    axes.set_ylabel("% of the gradients", fontsize=8)
    axes.set_title("grey: becomes zero in fp16; pale grey: loses digits; line: largest fp16 number", fontsize=9)
    axes.legend(fontsize=8, loc="upper left")
    return figure


def train_on_a_small_loss(name: str, scaler: bool, weight: float = 1e-6, steps: int = 30):
    """Trains on one batch with the loss times ``weight`` and the learning rate divided by it.

    On paper the updates do not depend on ``weight``. Returns the losses, without the weight, and the share of the last
    gradients that are zero.
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
        ("fp16 without the scaler", "fp16", False),
    ):
        losses, zeros = train_on_a_small_loss(name, scaler, weight)
        rows.append([title, f"{losses[0]:.4f}", f"{losses[-1]:.4f}", f"{zeros:.1%}"])
    caption = f"One batch. The loss is multiplied by {weight:g} and the learning rate divided by it."
    return Table(["", "loss at the start", "loss at the end", "gradients that are zero"], rows, caption)


# The ladder


def ladder(recipe: Recipe, steps: int = 40) -> Table:
    """A few steps of a recipe in each precision, one run each, or the reason why this machine cannot run it."""
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
    caption = f"{recipe.model}, batch {recipe.batch_size}: medians of at most {steps} steps, one run each."
    if smoke():
        caption += f" {CUT}"
    return Table(["precision", "time per step", "relative to fp32", "notes"], rows, caption)


def _first_steps(recipe, steps):
    recipe = recipe.but(steps=min(steps, recipe.steps or steps))
    run = Run(recipe)
    with closing(train(recipe, run)) as records:
        for record in records:
            if isinstance(record, Step) and record.n + 1 >= steps:
                break  # the evaluation is not needed
    return run


# A processor with and without bf16 instructions

LIMIT = "AVX2"  # the newest instructions that oneDNN may use in the other process: those of a processor from 2013
IN_ANOTHER_PROCESS = """
import json, sys
from speedkit.lessons.precision.lesson import bf16_here
from speedkit.recipe import Recipe
print(json.dumps(bf16_here(Recipe.from_dict(json.loads(sys.argv[1])))))
"""


def bf16_here(recipe: Recipe) -> float:
    """How many times as long a bf16 step takes as an fp32 step on this machine's processor.

    The median over rounds, each of a few steps in both formats, so that other programs disturb only single rounds.
    """
    images, labels, model = first_batch(recipe.but(device="cpu", precision="fp32"))
    rounds, steps = (1, 1) if smoke() else (9, 3)
    return float(np.median([slowdown("bf16", model, images, labels, steps=steps) for _ in range(rounds)]))


def with_and_without_hardware() -> Table:
    """bf16 steps on this processor, and in a second process that must not use its newer instructions.

    Even beside a GPU, the recipe is the lesson's for a CPU. The second process gets ``ONEDNN_MAX_CPU_ISA=AVX2``:
    oneDNN, which computes torch's matrix products on x86 processors, then treats this processor as an older model.
    """
    here, recipe = machine("cpu"), task("cpu")
    recipe = recipe.but(batch_size=64) if smoke() else recipe
    how = {True: "in hardware", False: "emulated", None: "not known here"}[here.bf16]
    rows = [[here.name, how, f"{bf16_here(recipe):.2f}"]]
    title = f"the same, limited to {LIMIT}"
    if here.bf16 and platform.machine() in ("x86_64", "AMD64"):
        try:
            done = subprocess.run(
                [sys.executable, "-c", IN_ANOTHER_PROCESS, json.dumps(recipe.to_dict())],
                env=os.environ | {"ONEDNN_MAX_CPU_ISA": LIMIT},
                capture_output=True,
                text=True,
                timeout=LONGEST_S,
                check=True,
            )
            rows.append([title, "emulated", f"{json.loads(done.stdout):.2f}"])
        except subprocess.TimeoutExpired:
            rows.append([title, "emulated", f"n/a: longer than {LONGEST_S // 60} minutes"])
    else:
        why = "not an x86 processor" if here.bf16 else "no bf16 instructions are known here, so none can be hidden"
        rows.append([title, f"n/a: {why}", "n/a"])
    caption = f"{recipe.model}, batch {recipe.batch_size}: computing only; median over rounds of a few steps."
    return Table(["processor", "bf16", "bf16 step, relative to fp32"], rows, caption)
