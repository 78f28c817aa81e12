"""Reduced precision: what autocast does, what the scaler does, and that every setting is restored."""

import math

import pytest
import torch
from torch import nn

from speedkit import hardware
from speedkit.recipe import Recipe
from speedkit.support.errors import CannotRun
from speedkit.support.strict import choices
from speedkit.techniques import precision as module
from speedkit.techniques.precision import Precision, slowdown
from speedkit.train import fit

NAMES = choices(Recipe.model_fields["precision"])


def settings():
    return torch.backends.cuda.matmul.fp32_precision, torch.backends.cudnn.conv.fp32_precision


@pytest.mark.parametrize(
    ("name", "expected"),
    [("fp32", torch.float32), ("tf32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)],
)
def test_autocast_decides_the_format_of_a_linear_layer(name, expected):
    layer, images = nn.Linear(4, 2), torch.ones(1, 4)
    with Precision(name, "cpu").autocast():
        assert layer(images).dtype == expected
    assert layer(images).dtype == torch.float32
    assert layer.weight.dtype == torch.float32


@pytest.mark.parametrize("name", ["fp32", "tf32"])
def test_without_reduced_precision_autocast_stays_off(name):
    with Precision(name, "cpu").autocast():
        assert not torch.is_autocast_enabled("cpu")


@pytest.mark.parametrize(("name", "inside"), [("tf32", "tf32"), ("fp32", "ieee"), ("bf16", "ieee"), ("fp16", "ieee")])
def test_tf32_is_set_inside_and_restored(name, inside):
    found = settings()
    with Precision(name, "cpu"):
        assert settings() == (inside, inside)
    assert settings() == found


def test_tf32_is_restored_after_an_error_to_what_it_was():
    found = settings()
    try:
        torch.backends.cuda.matmul.fp32_precision, torch.backends.cudnn.conv.fp32_precision = "ieee", "tf32"
        with pytest.raises(KeyError), Precision("tf32", "cpu"):
            raise KeyError
        assert settings() == ("ieee", "tf32")
    finally:
        torch.backends.cuda.matmul.fp32_precision, torch.backends.cudnn.conv.fp32_precision = found


def test_only_fp16_scales_the_loss():
    assert [name for name in NAMES if Precision(name, "cpu").scaler.is_enabled()] == ["fp16"]


@pytest.mark.parametrize("name", NAMES)
def test_a_step_is_a_step_of_plain_sgd(name):
    """The gradient of w * x with respect to w is x: a step at rate 0.5 moves w = 1 by 0.5 * 2, whatever the scale."""
    weight = nn.Parameter(torch.tensor(1.0))
    weight.grad = torch.tensor(100.0)  # from an earlier step: must not be added
    Precision(name, "cpu").step(weight * 2.0, torch.optim.SGD([weight], lr=0.5))
    assert weight.item() == 0.0


def test_a_step_whose_gradient_overflows_is_skipped_and_the_scale_halved():
    weight = nn.Parameter(torch.tensor(1.0))
    precision = Precision("fp16", "cpu")
    optimizer = torch.optim.SGD([weight], lr=0.5)
    precision.step(weight * 1.0, optimizer)
    before = precision.scaler.get_scale()
    precision.step(weight * math.inf, optimizer)
    assert weight.item() == 0.5
    assert precision.scaler.get_scale() == before / 2


def test_small_fp16_gradients_survive_only_with_the_scaler():
    """1e-8 is less than half of the smallest fp16 number, 6e-8: without scaling it rounds to zero."""

    def gradient(precision):
        weight = nn.Parameter(torch.ones(1))
        loss = (weight.half() * torch.tensor([1.0]).half()).sum().float() * 1e-8
        precision.step(loss, torch.optim.SGD([weight], lr=1.0))
        return weight.grad.item()

    assert gradient(Precision("bf16", "cpu")) == 0
    assert gradient(Precision("fp16", "cpu")) == pytest.approx(1e-8, rel=0.01)


@pytest.mark.parametrize("name", ["fp16", "bf16"])
def test_slowdown_times_a_copy(name):
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(72, 2)).eval()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    times = slowdown(name, model, torch.rand(4, 1, 8, 8), torch.tensor([0, 1, 0, 1]), steps=1)
    assert math.isfinite(times)
    assert times > 0
    assert not model.training
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


@pytest.fixture
def slow_fp16(monkeypatch, loop):
    """A processor without fp16, on which fp16 takes fifty times as long. Gives the list of the trials made."""
    trials = []
    monkeypatch.setattr(loop, "slowdown", lambda *a: trials.append(a) or 50.0)
    monkeypatch.setattr(hardware, "_cpu_has", lambda *features, **more: False)
    hardware.machine.cache_clear()
    yield trials
    hardware.machine.cache_clear()


def test_fp16_is_refused_if_the_trial_was_slow(quick, slow_fp16):
    with pytest.raises(CannotRun, match=r"50 times as long.*allow_slow=True"):
        fit(quick.but(precision="fp16"))
    assert len(slow_fp16) == 1


def test_fp16_runs_anyway_if_slow_is_allowed(quick, slow_fp16):
    run = fit(quick.but(precision="fp16", allow_slow=True, model="mlp", steps=2))
    assert run.status == "finished"
    assert slow_fp16 == []


def test_fp16_runs_if_the_trial_was_fast_enough(quick, slow_fp16, monkeypatch, loop):
    monkeypatch.setattr(loop, "slowdown", lambda *a: loop.TOO_SLOW)
    assert fit(quick.but(precision="fp16", model="mlp", steps=2)).status == "finished"


@pytest.mark.parametrize("name", ["fp32", "bf16"])
def test_other_formats_are_not_tried_first(quick, slow_fp16, name):
    assert fit(quick.but(precision=name, steps=1)).status == "finished"
    assert slow_fp16 == []


def test_the_formats_of_the_recipe_are_those_of_the_technique():
    assert set(module.AUTOCAST) | {"fp32", "tf32"} == set(NAMES)
