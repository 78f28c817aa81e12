"""What the lesson on precision draws, counts and times: formats, vanishing gradients, bytes, rungs and stored weights.

Sources: IEEE 754-2019 for the formats; Micikevicius et al. 2018, "Mixed Precision Training", for the gradients and the
scaler; PyTorch's ``torch.amp`` and ``torch.autograd.graph.saved_tensors_hooks``.
"""

import copy
import json
import math
import os
import platform
import subprocess
import sys
from contextlib import closing
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from speedkit.compare import NEEDED_PAIRS, TOO_FEW, interval, verdict
from speedkit.data import drain, load
from speedkit.hardware import CannotRun, machine
from speedkit.lab.tables import CUT, Table
from speedkit.recipe import Recipe, smoke
from speedkit.run import Run, Step, percent, seconds, size
from speedkit.techniques.precision import AUTOCAST, Precision, slowdown
from speedkit.train import first_batch, optimization, score, train

RUNGS = ("fp32", "tf32", "bf16", "fp16")
COLOURS = {"fp32": "#555555", "tf32": "#0072B2", "bf16": "#009E73", "fp16": "#D55E00"}


def task() -> Recipe:
    """The lesson's recipe, so large that a step is arithmetic in the main, and a run takes some seconds."""
    if machine().kind == "cpu":
        return Recipe(model="mlp", batch_size=512, epochs=2)
    return Recipe(model="wide", batch_size=512, epochs=2, channels_last=True)


# What a float is


class Format(NamedTuple):
    """A binary floating-point format: a sign, ``exponent`` bits, ``fraction`` bits, as IEEE 754 lays them out."""

    exponent: int
    fraction: int

    @property
    def bits(self) -> int:
        return 1 + self.exponent + self.fraction

    @property
    def largest(self) -> float:
        return (2 - 2.0**-self.fraction) * 2.0 ** (2 ** (self.exponent - 1) - 1)

    @property
    def smallest_normal(self) -> float:
        return 2.0 ** (2 - 2 ** (self.exponent - 1))

    @property
    def smallest(self) -> float:
        """The smallest number above zero, a subnormal one; half of it and less is rounded to zero."""
        return self.smallest_normal * 2.0**-self.fraction

    def spacing(self, value: float) -> float:
        """From the largest number of the format that is not above ``value`` > 0 to the next one."""
        return 2.0 ** (math.floor(math.log2(max(value, self.smallest_normal))) - self.fraction)


FORMATS = {"fp32": Format(8, 23), "tf32": Format(8, 10), "bf16": Format(8, 7), "fp16": Format(5, 10)}


def rounded(value: float, name: str) -> float:
    """``value`` as a format of :data:`FORMATS` holds it."""
    if name == "tf32":  # torch has no such type: fp32 with the last 13 bits rounded away, ties to even
        whole = torch.tensor(value, dtype=torch.float32).view(torch.int32).item()
        whole = (whole + 0xFFF + (whole >> 13 & 1)) & ~0x1FFF
        return torch.tensor(whole, dtype=torch.int32).view(torch.float32).item()
    return torch.tensor(value, dtype=AUTOCAST.get(name, torch.float32)).item()


def bits(value: float, name: str) -> tuple[str, str, str]:
    """(sign, exponent, fraction) of ``value`` in a format, as zeros and ones."""
    number, of = rounded(value, name), FORMATS[name]
    if name == "fp16":
        whole, width = torch.tensor(number, dtype=torch.float16).view(torch.int16).item() & 0xFFFF, 16
    else:  # tf32 and bf16 are fp32 with the end cut off
        whole, width = torch.tensor(number, dtype=torch.float32).view(torch.int32).item() & 0xFFFFFFFF, 32
    text = f"{whole:0{width}b}"
    return text[0], text[1 : 1 + of.exponent], text[1 + of.exponent : of.bits]


def formats(value: float) -> Table:
    """One number in the four formats: its bits, what is stored, and what that is off by."""
    rows = []
    for name, of in FORMATS.items():
        stored = rounded(value, name)
        off = f"{abs(stored - value) / abs(value):.1e}" if value and math.isfinite(stored) else "n/a"
        known = [f"{of.largest:.3g}", f"{of.spacing(1.0):.1e}"]
        rows.append([name, str(of.bits), *bits(value, name), f"{stored:.9g}", off, *known])
    heading = ["format", "bits", "sign", "exponent", "fraction", "stored", "off by (share)", "largest", "step above 1"]
    return Table(heading, rows)


def number_lines() -> Figure:
    """Left: from where to where each format reaches. Right: how far apart its numbers lie, as a share of them."""
    figure = Figure(figsize=(9.5, 3.1), layout="constrained")
    reach, step = figure.subplots(1, 2)
    for height, (name, of) in enumerate(reversed(FORMATS.items())):
        low, normal, high = (math.log10(value) for value in (of.smallest, of.smallest_normal, of.largest))
        reach.barh(height, high - normal, left=normal, height=0.5, color=COLOURS[name])
        reach.barh(height, normal - low, left=low, height=0.5, color=COLOURS[name], alpha=0.4)
        powers = np.arange(math.log2(of.smallest), math.log2(of.largest))  # of two: there the share is largest
        share = [math.log10(of.spacing(2.0**power) / 2.0**power) for power in powers]
        look = {"linewidth": 3 if name == "tf32" else 2}
        if name == "fp16":  # it coincides with tf32, and lies on top of it
            look |= {"dashes": (2, 1.5), "zorder": 3}
        step.plot(powers * math.log10(2), share, color=COLOURS[name], label=name, **look)
    reach.set_yticks(range(4), list(reversed(FORMATS)))
    reach.set_title("range (pale: fewer and fewer digits)", fontsize=9)
    step.set_title("step to the next number, as a share of the number", fontsize=9)
    step.set_ylim(-8, 0.3)
    step.set_yticks(range(-8, 1, 2), [f"1e{power}" for power in range(-8, 1, 2)], fontsize=8)
    step.legend(fontsize=8, loc="upper right", ncols=2)
    for axes in (reach, step):
        axes.set_xticks(range(-40, 41, 20), [f"1e{power}" for power in range(-40, 41, 20)], fontsize=8)
        axes.set_xlim(-48, 42)
        axes.set_xlabel("size of the number", fontsize=8)
        axes.grid(alpha=0.3)
    return figure


# Gradients that vanish


def trained(recipe: Recipe) -> nn.Module:
    """The network of a recipe, trained."""
    kept = []
    drain(train(recipe, keep=kept.append))
    return kept[0]


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


def gradient_figure(sizes: torch.Tensor, scale: float = 2.0**16) -> Figure:
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


# Memory


class Kept:
    """Counts what autograd keeps for the backward pass, each piece of memory once, the weights themselves left out."""

    def __init__(self, model: nn.Module):
        self.parameters = list(model.parameters())
        self.weights = {p.untyped_storage().data_ptr() for p in self.parameters}
        self.tensors = {}  # storage -> one tensor in it; held, so that no address is used twice

    def hooks(self):
        return torch.autograd.graph.saved_tensors_hooks(self._pack, lambda tensor: tensor)

    def _pack(self, tensor):
        where = tensor.untyped_storage().data_ptr()
        if where not in self.weights:
            self.tensors.setdefault(where, tensor)
        return tensor

    def _is_copy(self, tensor):
        for p in self.parameters:
            if tensor.dtype != p.dtype and tensor.numel() == p.numel():
                for turned in (p, p.t()) if p.ndim == 2 else (p,):
                    if turned.shape == tensor.shape and torch.equal(tensor, turned.detach().to(tensor.dtype)):
                        return True
        return False

    def count(self) -> tuple[int, int]:
        """Bytes of the 16-bit copies of weights that autocast made, and of everything else. Before the weights move."""
        sizes = {True: 0, False: 0}
        for tensor in self.tensors.values():
            sizes[self._is_copy(tensor)] += tensor.untyped_storage().nbytes()
        return sizes[True], sizes[False]


def memory(recipe: Recipe) -> dict[str, float]:
    """Bytes of the tensors of one training step, by what they are for; the first five add up to "together".

    "peak on the device" is the allocator's own figure on CUDA, nan elsewhere.
    """
    images, labels, model = first_batch(recipe.but(subset=recipe.batch_size))
    optimizer, _ = optimization(recipe, model, 1)
    kept, cuda = Kept(model), images.is_cuda
    if cuda:
        torch.cuda.reset_peak_memory_stats(images.device)
    with Precision(recipe.precision, images.device.type) as precision:
        with kept.hooks(), precision.autocast():
            loss = nn.functional.cross_entropy(model(images), labels)
        copies, activations = kept.count()
        precision.step(loss, optimizer)
    parameters = list(model.parameters())
    state = [value for p in parameters for value in optimizer.state[p].values() if torch.is_tensor(value)]
    found = {
        "weights": sum(p.nbytes for p in parameters),
        "gradients": sum(p.grad.nbytes for p in parameters),
        "optimizer state": sum(value.nbytes for value in state),
        "16-bit copies of weights": copies,
        "activations kept for backward": activations,
    }
    found["together"] = sum(found.values())
    return found | {"peak on the device": torch.cuda.max_memory_allocated(images.device) if cuda else math.nan}


def memory_table(*recipes: Recipe) -> Table:
    """One column a recipe, one row a kind of tensor."""
    columns = [memory(recipe) for recipe in recipes]
    rows = [[name, *(size(column[name]) for column in columns)] for name in columns[0]]
    caption = "" if math.isfinite(columns[0]["peak on the device"]) else "The peak on the device is known on CUDA only."
    return Table(["", *(_title(recipe) for recipe in recipes)], rows, caption)


def _title(recipe):
    return f"{recipe.model}, batch {recipe.batch_size}, {recipe.precision}"


def memory_figure(*recipes: Recipe) -> Figure:
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


# Autocast, operator by operator

NO_ARITHMETIC = {"detach", "t", "view", "_unsafe_view", "transpose", "expand", "alias", "permute", "reshape", "slice"}
SHORT = {torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16"}


class _Watch(TorchDispatchMode):
    """Notes every operator that is really carried out, with the number formats that go in and come out."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        name = function.overloadpacket.__name__
        if name not in NO_ARITHMETIC:
            flat = [a for arg in args for a in (arg if isinstance(arg, list | tuple) else (arg,))]
            taken = [SHORT.get(a.dtype, str(a.dtype)[6:]) for a in flat if isinstance(a, torch.Tensor)]
            given = result[0] if isinstance(result, tuple) else result
            shape = " × ".join(map(str, given.shape)) or "one number"
            self.seen.append((name, ", ".join(taken), SHORT.get(given.dtype, str(given.dtype)[6:]), shape))
        return result


def operators(recipe: Recipe) -> Table:
    """The operators of one forward pass and its loss, as they are carried out, and the formats of their tensors."""
    images, labels, model = first_batch(recipe.but(batch_size=4, subset=4))
    watch = _Watch()
    with Precision(recipe.precision, images.device.type) as precision, watch, precision.autocast():
        nn.functional.cross_entropy(model(images), labels)
    rows = [["cast" if name == "_to_copy" else name, *formats] for name, *formats in watch.seen]
    return Table(["operator", "takes", "gives", "shape"], rows, "One forward pass of four images, and its loss.")


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
STORED |= {f"int{bits}": bits for bits in (8, 4, 3, 2)}


def stored_table(recipe: Recipe, quantise, seeds: int = NEEDED_PAIRS) -> Table:
    """Trains once a seed, stores the weights in ever fewer bits, and compares the validation accuracy, in pairs."""
    seeds = 2 if smoke() else seeds
    validation = drain(load(Run(recipe).recipe)).validation
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
            + (["", ""] if name == "fp32" else list(judged(points)))
        )
    heading = ["stored as", "bytes", "of fp32's", "accuracy (median)", "difference in points", "verdict"]
    caption = f"{seeds} trainings, {len(validation[1]):,} validation images; 95 % interval over the trainings."
    caption += " int4 to int2 are counted as if packed."
    return Table(heading, rows, caption)


def accuracy(model: nn.Module, images, labels) -> float:
    """Share of images uint8 [N, C, H, W] that ``model``, computing in fp32, gets right."""
    device = next(model.parameters()).device.type
    with Precision("fp32", device) as precision:
        return drain(score(model, images, labels, precision))[1]


def judged(points: np.ndarray) -> tuple[str, str]:
    """(median and interval, verdict) of differences in points [n], one a training; under half a point, none is claimed.

    Only an interval that lies beyond half a point altogether is called a difference.
    """
    middle = float(np.median(points))
    if smoke() or len(points) < NEEDED_PAIRS:
        return f"{middle:+.2f}", TOO_FEW
    low, middle, high = (float(value) for value in interval(points))
    said = f"{middle:+.2f} ({low:+.2f} to {high:+.2f})"
    if low > -0.5 and high < 0.5:
        return said, "less than half a point either way"
    if high <= -0.5 or low >= 0.5:
        return said, f"{verdict(low, high)}, by more than half a point"
    return said, "cannot tell whether it is half a point"
