"""sk.profile: phases of a step, operators, and the trace file."""

import gzip
import json
import time

import pytest
import torch
from torch.optim import optimizer

import speedkit as sk
from speedkit.lab import profile as profile_module

SHORT = sk.Recipe(device="cpu", subset=256, batch_size=32, data="fashion-mnist")


@pytest.fixture
def profiled(tmp_path):
    return sk.profile(SHORT, tmp_path / "trace.json.gz")


def test_the_operators_are_those_of_a_step(profiled):
    calls = {name: each for name, each, __ in profiled.operators}
    assert calls["aten::convolution_backward"] == 3  # the small network has three convolutions, each once per step
    assert calls["aten::max_pool2d_with_indices"] == 3  # no evaluation is among the steps
    times = [seconds for __, __, seconds in profiled.operators]
    assert times == sorted(times, reverse=True)
    assert len(times) == 10
    assert 0 < sum(times) <= profiled.whole


def test_the_phases_are_found_where_the_time_goes(tmp_path, monkeypatch):
    forward = torch.nn.Sequential.forward

    def slow(self, inputs):
        if self.training:
            time.sleep(0.05)
        return forward(self, inputs)

    monkeypatch.setattr(torch.nn.Sequential, "forward", slow)
    found = sk.profile(SHORT, tmp_path / "trace.json.gz").phases
    assert list(found) == ["forward", "loss and backward", "optimizer"]
    assert found["forward"] > 0.05
    assert all(seconds > 0 for seconds in found.values())


def test_the_trace_can_be_opened(profiled):
    events = json.loads(gzip.decompress(profiled.trace.read_bytes()))["traceEvents"]
    assert "aten::convolution_backward" in {event.get("name") for event in events}


def test_both_tables_are_shown(profiled):
    for text in (repr(profiled), profiled._repr_html_()):
        assert "loss and backward" in text
        assert "aten::convolution_backward" in text
        assert "trace.json.gz" in text


def test_no_hook_stays(profiled):
    assert not optimizer._global_optimizer_pre_hooks
    assert not optimizer._global_optimizer_post_hooks


def test_it_trains_its_own_number_of_steps(tmp_path, monkeypatch):
    monkeypatch.delenv("SPEEDKIT_SMOKE", raising=False)
    steps = []
    train = profile_module.train

    def counted(recipe, run, **options):
        steps.append(recipe.steps)
        yield from train(recipe, run, **options)

    monkeypatch.setattr(profile_module, "train", counted)
    sk.profile(SHORT.but(steps=1, epochs=1, early_stopping=1), tmp_path / "trace.json")
    assert steps == [30]


def test_another_ending_is_refused_before_training(tmp_path):
    with pytest.raises(ValueError, match=r"ends in \.json or \.json\.gz"):
        sk.profile(SHORT, tmp_path / "trace.txt")
