"""What the lesson on precision counts and draws, against what is known from the formats and the shapes."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from speedkit.comparison.metrics import TOO_FEW
from speedkit.comparison.stats import NEEDED_PAIRS
from speedkit.lessons import shared
from speedkit.lessons.precision import formats, lesson, operators, storage
from speedkit.recipe import Recipe
from speedkit.support.errors import CannotRun
from speedkit.techniques.precision import Precision

TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
SMALL = Recipe(model="small", batch_size=8, subset=8, device="cpu")
MLP = SMALL.but(model="mlp")


def quantise(weight, bits):
    largest = 2 ** (bits - 1) - 1
    scale = weight.abs().flatten(1).amax(1).view(-1, *[1] * (weight.ndim - 1)) / largest
    return (weight / scale).round().to(torch.int8), scale


# What a float is


@pytest.mark.parametrize("name", TYPES)
def test_the_formats_are_those_of_torch(name):
    of, torchs = formats.FORMATS[name], torch.finfo(TYPES[name])
    assert (of.bits, of.largest, of.smallest_normal) == (torchs.bits, torchs.max, torchs.tiny)
    assert (of.spacing(1.0), of.spacing(1.5)) == (torchs.eps, torchs.eps)
    assert of.spacing(2.0) == 2 * torchs.eps
    assert of.spacing(of.smallest) == of.smallest == torchs.smallest_normal * torchs.eps


@pytest.mark.parametrize("name", formats.FORMATS)
@pytest.mark.parametrize("value", [1.0, -1.0, 0.1, 3e4, 1e-7])
def test_the_bits_say_the_number_that_is_stored(name, value):
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


def test_the_table_of_formats_survives_what_does_not_fit():
    rows = {row[0]: row for row in formats.formats(1e6).rows}
    assert rows["fp16"][5:7] == ["inf", "n/a"]
    assert rows["fp32"][5:7] == ["1000000", "0.0e+00"]
    assert [row[6] for row in formats.formats(0.0).rows] == ["n/a"] * 4


def test_the_drawing_of_the_formats_has_a_bar_and_a_line_each():
    reach, step = formats.number_lines().axes
    assert [label.get_text() for label in reach.get_yticklabels()] == ["fp16", "bf16", "tf32", "fp32"]
    assert {axes.get_xlabel() for axes in (reach, step)} == {"size of the number"}
    assert max(step.lines, key=lambda line: line.get_zorder()).get_label() == "fp16"  # it is dashed, on tf32's line
    lines = {line.get_label(): line.get_ydata()[-1] for line in step.lines}
    assert lines == pytest.approx({name: math.log10(2.0**-of.fraction) for name, of in formats.FORMATS.items()})


# Gradients that vanish


def test_what_is_lost_is_what_lies_at_half_the_smallest_number_and_below():
    sizes = torch.tensor([2.0**-24, 2.0**-25, 2.0**-26, 1.0])
    assert lesson.lost(sizes, torch.float16) == 0.5
    assert lesson.lost(sizes, torch.float16, scale=4.0) == 0
    assert lesson.lost(sizes, torch.bfloat16) == 0


def test_the_table_of_losses_counts_what_becomes_infinite():
    rows = lesson.losses_to_rounding(torch.tensor([2.0**-26, 1.0]), scale=2.0**16).rows
    assert rows == [
        ["fp16", "1", "50.00%", "0.00%"],
        ["fp16", "65536", "0.00%", "50.00%"],
        ["bf16", "1", "0.00%", "0.00%"],
    ]


def test_gradients_of_every_output_and_parameter_are_found():
    """y = 2 * (3 x) with x = 1, cross entropy of logits (y, 0) for class 1: the gradient of y is sigmoid(y)."""
    model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Linear(1, 2, bias=False))
    with torch.no_grad():
        model[0].weight.fill_(3.0)
        model[1].weight.copy_(torch.tensor([[2.0], [0.0]]))
    sizes = lesson.gradient_sizes(model, torch.ones(1, 1), torch.tensor([1]))
    g = 1 / (1 + math.exp(-6))
    assert sorted(sizes.tolist()) == pytest.approx(sorted([g, g, 2 * g, 2 * g, 3 * g, 3 * g]))
    assert all(p.grad is None for p in model.parameters())
    assert not model[0]._forward_hooks


def test_the_histogram_holds_every_gradient_also_those_beyond_its_ends():
    axes = lesson.gradient_figure(torch.tensor([1.0, 2.0**-10, 1e-45, 1e30])).axes[0]
    heights = [bar.get_height() for container in axes.containers for bar in container]
    assert sum(heights) == pytest.approx(200)


def test_without_the_scaler_a_small_loss_teaches_fp16_nothing():
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


def test_the_ladder_says_why_a_rung_is_missing_and_stops_after_its_steps(monkeypatch, quick):
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


def test_where_there_is_no_bf16_hardware_nothing_is_hidden(monkeypatch):
    without = replace(lesson.machine("cpu"), bf16=False)
    monkeypatch.setattr(lesson, "machine", lambda device: without)
    monkeypatch.setattr(lesson, "bf16_here", lambda recipe: 7.0)
    monkeypatch.setattr(lesson.subprocess, "run", lambda *a, **k: pytest.fail("no second process is needed"))
    rows = lesson.with_and_without_hardware(MLP).rows
    assert rows[0][1:] == ["emulated", "7.00"]
    assert rows[1][1].startswith("n/a: there are no bf16")


# Memory


def parameters(recipe):
    _, _, model = lesson.first_batch(recipe)
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(("optimizer", "moments"), [("sgd", 1), ("adam", 2)])
def test_weights_gradients_and_optimizer_take_four_bytes_a_number(optimizer, moments):
    count, found = parameters(MLP), shared.memory(MLP.but(optimizer=optimizer))
    assert found["weights"] == found["gradients"] == 4 * count
    assert found["optimizer state"] == pytest.approx(moments * 4 * count, rel=1e-3)  # Adam counts its steps, too
    assert found["together"] == sum(list(found.values())[:5])


def test_activations_of_a_linear_network_are_counted_by_their_shapes():
    """Kept: the input of each linear layer (the ReLU's output is the next one's input), log-probabilities, labels."""
    numbers = 8 * (784 + 512 + 512 + 10)
    fp32, bf16 = shared.memory(MLP), shared.memory(MLP.but(precision="bf16"))
    little = 8 * 8 + 4  # labels, and the loss' own weight
    assert fp32["activations kept for backward"] == pytest.approx(4 * numbers + little, abs=8)
    assert fp32["16-bit copies of weights"] == 0
    # the first layer's weights are not needed backwards; the log-probabilities stay fp32
    assert bf16["16-bit copies of weights"] == 2 * (512 * 512 + 512 * 10)
    assert bf16["activations kept for backward"] == pytest.approx(2 * (numbers - 80) + 4 * 80 + little, abs=8)


def test_an_activation_with_the_shape_of_a_weight_is_no_copy_of_it():
    wide = MLP.but(batch_size=512, subset=512, precision="bf16")
    assert shared.memory(wide)["16-bit copies of weights"] == 2 * (512 * 512 + 512 * 10)


def test_the_positions_of_the_pooling_stay_whole_numbers_of_64_bits():
    positions = 8 * 8 * (16 * 14**2 + 32 * 7**2 + 64 * 3**2)
    found = shared.memory(SMALL.but(precision="bf16"))
    assert found["activations kept for backward"] > positions


def test_the_bars_add_up_to_what_is_together():
    axes = lesson.memory_figure(MLP, MLP.but(precision="bf16")).axes[0]
    widths = [[bar.get_width() for bar in container] for container in axes.containers]
    assert sum(width[0] for width in widths[:5]) == pytest.approx(100)


def test_the_table_has_a_column_a_recipe():
    table = lesson.memory_table(MLP, SMALL)
    assert table.heading == ["", "mlp, batch 8, fp32", "small, batch 8, fp32"]
    assert table.rows[-1] == ["peak on the device", "n/a", "n/a"]


# Autocast


def test_under_autocast_the_products_are_in_16_bits_and_the_loss_is_not():
    rows = [row[:3] for row in operators.operators(MLP.but(precision="bf16")).rows]
    assert rows.count(["addmm", "bf16, bf16, bf16", "bf16"]) == 3
    assert ["_log_softmax", "fp32", "fp32"] in rows
    assert ["cast", "fp32", "bf16"] in rows


def test_without_autocast_nothing_is_cast_but_the_images():
    casts = [row for row in operators.operators(MLP).rows if row[0] == "cast"]
    assert casts == [["cast", "uint8", "fp32", "4 × 1 × 28 × 28"]]


# Stored in fewer bits


def test_stored_weights_are_counted_and_the_model_is_left_as_it_was():
    model = nn.Linear(4, 2)
    before = model.weight.detach().clone()
    assert storage.stored(model, torch.float16, quantise)[1] == 10 * 2
    shrunk, taken = storage.stored(model, 8, quantise)
    assert taken == 8 * 1 + 2 * 4 + 2 * 4  # whole numbers, a scale a row, biases
    assert storage.stored(model, 4, quantise)[1] == 8 / 2 + 2 * 4 + 2 * 4
    assert torch.equal(model.weight, before)
    assert torch.equal(shrunk.bias, model.bias)
    half_a_step = before.abs().amax(1, keepdim=True) / 127 / 2
    assert bool(((shrunk.weight - before).abs() <= half_a_step * 1.001).all())


@pytest.mark.parametrize(
    ("points", "said"),
    [
        ([0.0, 0.1, -0.1, 0.0, 0.05], "less than half a point either way"),
        ([-9.0, -8.0, -10.0, -9.5, -8.5], "lower, by more than half a point"),
        ([3.0, 3.1, 2.9, 3.0, 3.0], "higher, by more than half a point"),
        ([-0.5, -0.6, -0.4, -0.55, -0.45], "cannot tell whether it is half a point"),
        ([-9.0] * (NEEDED_PAIRS - 1), TOO_FEW),
    ],
)
def test_no_difference_under_half_a_point_is_claimed(points, said):
    assert shared.judged(np.array(points))[1] == said


def test_a_smoke_run_never_carries_a_verdict(monkeypatch):
    monkeypatch.setenv("SPEEDKIT_SMOKE", "1")
    assert shared.judged(np.full(9, -9.0))[1] == TOO_FEW


def test_every_seed_is_trained_once_and_stored_in_every_way(quick):
    table = storage.stored_table(quick, quantise, seeds=2)
    assert [row[0] for row in table.rows] == list(storage.STORED)
    assert [row[2] for row in table.rows[:3]] == ["1.00", "0.50", "0.50"]
    assert all(row[-1] == TOO_FEW for row in table.rows[1:])


@pytest.mark.parametrize(("kind", "model"), [("cpu", "mlp"), ("cuda:0", "wide")])
def test_the_lessons_recipe_is_a_baseline_that_fits_the_machine(monkeypatch, kind, model):
    here = replace(lesson.machine("cpu"), device=kind)
    monkeypatch.setattr(lesson, "machine", lambda: here)
    assert (lesson.task().model, lesson.task().label) == (model, "baseline")


def test_scalers_off_leave_the_gradients_as_they_are():
    """So that fp16 "without it" differs from fp16 in the scaler alone."""
    weight = nn.Parameter(torch.tensor(1.0))
    precision = Precision("fp16", "cpu")
    precision.scaler = torch.amp.GradScaler(enabled=False)
    precision.step(weight * 2.0, torch.optim.SGD([weight], lr=0.5))
    assert weight.item() == 0.0
