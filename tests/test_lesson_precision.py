"""The lesson on precision: what it counts and draws, checked against the formats and the shapes of the tensors."""

import inspect
import math
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from torch import nn

from speedkit.comparison.metrics import TOO_FEW
from speedkit.comparison.stats import judge_points
from speedkit.lab.picture import Picture
from speedkit.lessons import shared
from speedkit.lessons.precision import formats, lesson, operators, storage
from speedkit.recipe import Recipe
from speedkit.support.errors import CannotRun
from speedkit.support.units import size
from speedkit.techniques.precision import Precision

TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
SMALL = Recipe(model="small", batch_size=8, subset=8, device="cpu")
MLP = SMALL.but(model="mlp")


def quantise(weight, bits):
    largest = 2 ** (bits - 1) - 1
    scale = weight.abs().flatten(1).amax(1).view(-1, *[1] * (weight.ndim - 1)) / largest
    return (weight / scale).round().to(torch.int8), scale


# Number formats


@pytest.mark.parametrize("name", TYPES)
def test_the_formats_are_those_of_torch(name):
    of, torchs = formats.FORMATS[name], torch.finfo(TYPES[name])
    assert (of.bits, of.largest, of.smallest_normal) == (torchs.bits, torchs.max, torchs.tiny)
    assert (of.spacing(1.0), of.spacing(1.5)) == (torchs.eps, torchs.eps)
    assert of.spacing(2.0) == 2 * torchs.eps
    assert of.spacing(of.smallest) == of.smallest == torchs.smallest_normal * torchs.eps


@pytest.mark.parametrize("name", formats.FORMATS)
@pytest.mark.parametrize("value", [1.0, -1.0, 0.1, 3e4, 1e-7])
def test_the_bits_are_those_of_the_stored_number(name, value):
    sign, exponent, fraction = formats.bits(value, name)
    of = formats.FORMATS[name]
    assert (len(sign), len(exponent), len(fraction)) == (1, of.exponent, of.fraction)
    power, part = int(exponent, 2), int(fraction, 2) / 2**of.fraction
    size = (1 + part) * 2.0 ** (power - 2 ** (of.exponent - 1) + 1) if power else part * of.smallest_normal
    assert (-size if sign == "1" else size) == formats.rounded(value, name)
    assert abs(formats.rounded(value, name) - value) <= of.spacing(abs(value)) / 2


def test_tf32_keeps_ten_bits_and_rounds_ties_to_even():
    step = 2.0**-10
    assert formats.rounded(1 + step, "tf32") == 1 + step
    assert formats.rounded(1 + step / 2, "tf32") == 1
    assert formats.rounded(1 + 3 * step / 2, "tf32") == 1 + 2 * step


def test_the_table_of_formats_survives_numbers_that_do_not_fit():
    rows = {row[0]: row for row in formats.formats(1e6).rows}
    assert rows["fp16"][5:7] == ["inf", "n/a"]
    assert rows["fp32"][5:7] == ["1000000", "0.0e+00"]
    assert [row[6] for row in formats.formats(0.0).rows] == ["n/a"] * 4


def test_the_picture_of_the_formats_has_a_bar_and_a_line_for_each():
    picture = formats.number_lines()
    assert isinstance(picture, Picture)
    reach, gap = picture.figure.axes
    assert [label.get_text() for label in reach.get_yticklabels()] == ["fp16", "bf16", "tf32", "fp32"]
    assert {axes.get_xlabel() for axes in (reach, gap)} == {"size of the number"}
    assert max(gap.lines, key=lambda line: line.get_zorder()).get_label() == "fp16"  # dashed, on top of tf32's line
    lines = {line.get_label(): line.get_ydata()[-1] for line in gap.lines}
    assert lines == pytest.approx({name: math.log10(2.0**-of.fraction) for name, of in formats.FORMATS.items()})


# Gradients that vanish


def test_sizes_of_half_the_smallest_number_and_below_are_lost():
    sizes = torch.tensor([2.0**-24, 2.0**-25, 2.0**-26, 1.0])
    assert lesson.lost(sizes, torch.float16) == 0.5
    assert lesson.lost(sizes, torch.float16, scale=4.0) == 0
    assert lesson.lost(sizes, torch.bfloat16) == 0


def test_the_table_of_rounding_counts_sizes_that_become_infinite():
    rows = lesson.losses_to_rounding(torch.tensor([2.0**-26, 1.0]), scale=2.0**16).rows
    assert rows == [
        ["fp16", "1", "50.00%", "0.00%"],
        ["fp16", "65536", "0.00%", "50.00%"],
        ["bf16", "1", "0.00%", "0.00%"],
    ]


def test_gradients_of_every_output_and_parameter_are_found():
    """y = 2 * (3 x) with x = 1 and cross entropy of logits (y, 0) for class 1: the gradient of y is sigmoid(y)."""
    model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Linear(1, 2, bias=False))
    with torch.no_grad():
        model[0].weight.fill_(3.0)
        model[1].weight.copy_(torch.tensor([[2.0], [0.0]]))
    sizes = lesson.gradient_sizes(model, torch.ones(1, 1), torch.tensor([1]))
    g = 1 / (1 + math.exp(-6))
    assert sorted(sizes.tolist()) == pytest.approx(sorted([g, g, 2 * g, 2 * g, 3 * g, 3 * g]))
    assert all(p.grad is None for p in model.parameters())
    assert not model[0]._forward_hooks


def test_the_histogram_holds_every_gradient_even_those_beyond_its_ends():
    axes = lesson.gradient_figure(torch.tensor([1.0, 2.0**-10, 1e-45, 1e30])).figure.axes[0]
    heights = [bar.get_height() for container in axes.containers for bar in container]
    assert sum(heights) == pytest.approx(200)  # per cent: all gradients, once as they are and once scaled


def test_without_the_scaler_fp16_learns_nothing_from_a_small_loss():
    learnt, _ = lesson.train_on_a_small_loss("fp16", scaler=True, steps=3)
    still, zeros = lesson.train_on_a_small_loss("fp16", scaler=False, steps=3)
    assert learnt[-1] < learnt[0]
    assert still[-1] == still[0]
    assert zeros == 1.0


def test_on_paper_the_weight_of_the_loss_changes_nothing():
    small, _ = lesson.train_on_a_small_loss("fp32", scaler=False, weight=2.0**-20, steps=3)
    plain, _ = lesson.train_on_a_small_loss("fp32", scaler=False, weight=1.0, steps=3)
    assert small == pytest.approx(plain, rel=1e-4)


# The ladder


def test_the_ladder_says_why_a_precision_is_missing_and_stops_after_its_steps(monkeypatch, quick):
    asked = []
    real = lesson.train

    def train(recipe, run):
        asked.append(recipe)
        if recipe.precision in ("tf32", "fp16"):
            raise CannotRun(f"no {recipe.precision} here")
        return real(recipe, run)

    monkeypatch.setattr(lesson, "train", train)
    table = lesson.ladder(quick.but(epochs=10), steps=3)
    rows = {row[0]: row for row in table.rows}
    assert list(rows) == ["fp32", "tf32", "bf16", "fp16"]
    assert rows["tf32"] == ["tf32", "n/a", "n/a", "no tf32 here"]
    assert rows["fp32"][2] == "1.00"
    assert [recipe.steps for recipe in asked] == [3] * 4


def test_a_single_slow_round_does_not_count(monkeypatch):
    rounds = iter([100.0] + [0.5] * 99)
    monkeypatch.setattr(lesson, "slowdown", lambda *a, **k: next(rounds))
    assert lesson.bf16_here(MLP) == 0.5


def test_without_bf16_hardware_there_is_nothing_to_hide(monkeypatch):
    without = replace(lesson.machine("cpu"), bf16=False)
    monkeypatch.setattr(lesson, "machine", lambda device: without)
    monkeypatch.setattr(lesson, "bf16_here", lambda recipe: 7.0)
    monkeypatch.setattr(lesson.subprocess, "run", lambda *a, **k: pytest.fail("no second process is needed"))
    rows = lesson.with_and_without_hardware().rows
    assert rows[0][1:] == ["emulated", "7.00"]
    assert rows[1][1].startswith("n/a: no bf16")


def test_the_other_process_finds_the_function_that_it_calls():
    """Only a processor with bf16 instructions starts that process, so check its imports everywhere."""
    imports = [line for line in lesson.IN_ANOTHER_PROCESS.splitlines() if "import" in line]
    assert any("bf16_here" in line for line in imports)
    subprocess.run([sys.executable, "-c", "\n".join(imports)], check=True)


# Memory


def parameters(recipe):
    _, _, model = lesson.first_batch(recipe)
    return sum(p.numel() for p in model.parameters())


def test_the_table_and_the_figure_show_what_is_counted():
    found = shared.memory(MLP)
    assert found["total"] == sum(list(found.values())[:5])
    assert found["weights"] == 4 * parameters(MLP) + 8  # and the mean and the scale of the pixels
    table = lesson.memory_table(MLP, MLP.but(precision="bf16"))
    assert [row[0] for row in table.rows] == [
        "weights",
        "optimizer state",
        "gradients",
        "activations",
        "temporary",
        "total",
    ]
    assert table.rows[-1][1] == size(found["total"])


def test_the_bars_add_up_to_the_total():
    axes = lesson.memory_figure(MLP, MLP.but(precision="bf16")).figure.axes[0]
    widths = [[bar.get_width() for bar in container] for container in axes.containers]
    assert sum(width[0] for width in widths[:5]) == pytest.approx(100)


def test_the_table_has_one_column_per_recipe():
    table = lesson.memory_table(MLP, SMALL, SMALL.but(batchnorm=True))
    assert table.heading == ["", "mlp, batch 8, fp32", "small, batch 8, fp32", "small, batch 8, fp32, batch norm"]
    assert table.rows[-1][0] == "total"


# Autocast


def test_under_autocast_the_products_are_in_16_bits_and_the_loss_is_not():
    rows = [row[:3] for row in operators.operators(MLP.but(precision="bf16")).rows]
    assert rows.count(["addmm", "bf16, bf16, bf16", "bf16"]) == 3
    assert ["_log_softmax", "fp32", "fp32"] in rows
    assert ["cast", "fp32", "bf16"] in rows


def test_without_autocast_only_the_images_are_cast():
    casts = [row for row in operators.operators(MLP).rows if row[0] == "cast"]
    assert casts == [["cast", "uint8", "fp32", "4 × 1 × 28 × 28"]]


# Stored in fewer bits


def test_stored_weights_are_counted_and_the_model_is_left_as_it_was():
    model = nn.Linear(4, 2)
    before = model.weight.detach().clone()
    assert storage.stored(model, torch.float16, quantise)[1] == 10 * 2
    shrunk, taken = storage.stored(model, 8, quantise)
    assert taken == 8 * 1 + 2 * 4 + 2 * 4  # integers, one scale per row, biases
    assert storage.stored(model, 4, quantise)[1] == 8 / 2 + 2 * 4 + 2 * 4
    assert torch.equal(model.weight, before)
    assert torch.equal(shrunk.bias, model.bias)
    half_a_step = before.abs().amax(1, keepdim=True) / 127 / 2
    assert bool(((shrunk.weight - before).abs() <= half_a_step * 1.001).all())


def test_every_seed_is_trained_once_and_stored_in_every_way(quick):
    table = storage.stored_table(quick, quantise, seeds=2)
    assert [row[0] for row in table.rows] == list(storage.STORED)
    assert [row[2] for row in table.rows[:3]] == ["1.00", "0.50", "0.50"]
    assert all(row[-1] == TOO_FEW for row in table.rows[1:])


def test_stored_weights_are_judged_by_the_one_rule_in_points_of_accuracy(quick, monkeypatch):
    """Per seed: stored in fp32 right on 90 in 100 images, in any other way on one, two, ... fewer."""
    judged = []
    monkeypatch.setattr(storage, "judge_points", lambda points: judged.append(list(points)) or ("words", "verdict"))
    monkeypatch.setattr(storage, "trained", lambda recipe: recipe.seed)
    monkeypatch.setattr(storage, "stored", lambda model, how, quantise: ((model, how), 4.0))
    shares = {how: 0.90 - 0.01 * lower for lower, how in enumerate(storage.STORED.values())}
    monkeypatch.setattr(storage, "accuracy", lambda shrunk, *validation: shares[shrunk[1]])
    table = storage.stored_table(quick, quantise, seeds=3)
    assert judged == [pytest.approx([-lower] * 3) for lower in range(1, len(storage.STORED))]
    assert [row[-2:] for row in table.rows] == [["", ""]] + [["words", "verdict"]] * (len(storage.STORED) - 1)


def test_a_smoke_run_never_carries_a_verdict(quick, monkeypatch):
    monkeypatch.setenv("SPEEDKIT_SMOKE", "1")
    table = storage.stored_table(quick.but(model="mlp"), quantise, seeds=9)
    assert [row[-1] for row in table.rows] == ["", *[TOO_FEW] * (len(storage.STORED) - 1)]


def test_five_seeds_are_enough_for_a_verdict():
    """The table's default must not leave its rule with too few trainings."""
    seeds = inspect.signature(storage.stored_table).parameters["seeds"].default
    assert judge_points([-5.0] * seeds)[1] == "lower"


@pytest.mark.parametrize(("kind", "model", "label"), [("cpu", "mlp", "baseline"), ("cuda:0", "wide", "device cache")])
def test_the_lesson_s_recipe_is_a_baseline_that_fits_the_machine(monkeypatch, kind, model, label):
    here = replace(lesson.machine("cpu"), device=kind)
    monkeypatch.setattr(lesson.sizes, "machine", lambda: here)
    assert (lesson.task().model, lesson.task().label) == (model, label)


def test_a_scaler_that_is_off_leaves_the_gradients_as_they_are():
    """So that fp16 without the scaler differs from fp16 in the scaler alone."""
    weight = nn.Parameter(torch.tensor(1.0))
    precision = Precision("fp16", "cpu")
    precision.scaler = torch.amp.GradScaler(enabled=False)
    precision.step(weight * 2.0, torch.optim.SGD([weight], lr=0.5))
    assert weight.item() == 0.0


def test_the_notebook_finds_all_it_calls_in_the_lesson():
    assert [name for name in lesson.__all__ if not callable(getattr(lesson, name))] == []
    assert lesson.formats is formats.formats
    assert lesson.number_lines is formats.number_lines
    assert lesson.operators is operators.operators
    assert lesson.stored_table is storage.stored_table
    assert lesson.trained is shared.trained
