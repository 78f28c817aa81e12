"""A training computes under torch's own defaults, whatever a learner has set; the learner's settings stay."""

import contextlib
import locale
import random
import shutil
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch

from speedkit import first_batch, fit, train
from speedkit.comparison.runs import comparing

FORMATS = (
    torch.backends.mkldnn.matmul,
    torch.backends.mkldnn.conv,
    torch.backends.cuda.matmul,
    torch.backends.cudnn.conv,
)


@contextlib.contextmanager
def setting(change, back):
    change()
    try:
        yield
    finally:
        back()


@contextlib.contextmanager
def medium():
    found = [backend.fp32_precision for backend in FORMATS]
    torch.set_float32_matmul_precision("medium")  # on some processors: bf16
    try:
        yield
    finally:
        for backend, value in zip(FORMATS, found, strict=True):
            backend.fp32_precision = value


@contextlib.contextmanager
def warnings_are_errors():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@contextlib.contextmanager
def decimal_comma(tmp):
    """A Turkish locale (its i has other capitals) with a decimal comma, made here if the system has its source."""
    if not shutil.which("localedef"):
        pytest.skip("this system cannot make a locale")
    made = tmp / "tr_TR.UTF-8"
    done = subprocess.run(["localedef", "-i", "tr_TR", "-f", "UTF-8", str(made)], capture_output=True, check=False)
    if done.returncode:
        pytest.skip("this system has no source of the locale")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOCPATH", str(tmp))
        found = locale.setlocale(locale.LC_ALL)
        locale.setlocale(locale.LC_ALL, "tr_TR.UTF-8")
        assert locale.format_string("%.1f", 0.5) == "0,5"
        try:
            yield
        finally:
            locale.setlocale(locale.LC_ALL, found)


CASES = {
    "float64": lambda: setting(
        lambda: torch.set_default_dtype(torch.float64), lambda: torch.set_default_dtype(torch.float32)
    ),
    "bf16": lambda: setting(
        lambda: torch.set_default_dtype(torch.bfloat16), lambda: torch.set_default_dtype(torch.float32)
    ),
    "default device": lambda: setting(lambda: torch.set_default_device("meta"), lambda: torch.set_default_device(None)),
    "device block": lambda: torch.device("meta"),
    "no gradients": torch.no_grad,
    "gradients off": lambda: setting(lambda: torch.set_grad_enabled(False), lambda: torch.set_grad_enabled(True)),
    "inference mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "autocast in autocast": lambda: autocast_twice(),
    "deterministic": lambda: setting(
        lambda: torch.use_deterministic_algorithms(True), lambda: torch.use_deterministic_algorithms(False)
    ),
    "anomalies": lambda: torch.autograd.set_detect_anomaly(True),
    "one thread": lambda: setting(lambda: torch.set_num_threads(1), lambda: None),
    "more threads": lambda: setting(lambda: torch.set_num_threads(3), lambda: None),
    "medium": medium,
    "warnings are errors": warnings_are_errors,
    "seeds": lambda: setting(seed, lambda: None),
    "floating-point errors": lambda: np.errstate(all="raise"),
}


def seed():
    torch.manual_seed(5)
    np.random.seed(5)
    random.seed(5)


@contextlib.contextmanager
def autocast_twice():
    with torch.autocast("cpu", torch.float16), torch.autocast("cpu", torch.bfloat16):
        yield


def state():
    """All that must be as it was: torch's settings, number generators, threads, filters."""
    return (
        torch.get_default_dtype(),
        str(torch.get_default_device()),
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        torch.is_autocast_enabled("cpu"),
        torch.get_autocast_dtype("cpu"),
        depth(),
        torch.get_deterministic_debug_mode(),
        torch.is_anomaly_enabled(),
        torch.get_num_threads(),
        [backend.fp32_precision for backend in FORMATS],
        list(warnings.filters),
        torch.get_rng_state().tolist(),
        random.getstate(),
        np.random.get_state()[1].tolist(),
    )


def depth():
    found = torch.autocast_increment_nesting() - 1
    torch.autocast_decrement_nesting()
    return found


def outcome(run):
    return run.status, run.column("loss").tolist(), run.last("validation_loss"), run.last("train_accuracy")


@pytest.fixture
def recipe(quick):
    return quick.but(model="mlp", augment="light")


@pytest.fixture(autouse=True)
def threads():
    found = torch.get_num_threads()
    yield
    torch.set_num_threads(found)


@pytest.mark.parametrize("case", CASES)
def test_a_run_is_the_same_and_all_is_as_before_at_each_record_and_afterwards(recipe, case):
    expected = outcome(fit(recipe))
    with CASES[case]():
        before = state()
        records = train(recipe)
        while True:
            try:
                next(records)
            except StopIteration as end:
                run = end.value
                break
            assert state() == before
        assert state() == before
    assert outcome(run) == expected


@pytest.mark.parametrize("case", ["float64", "default device", "inference mode", "autocast", "one thread"])
def test_closing_and_failing_leave_all_as_before(recipe, case, fail_after):
    with CASES[case]():
        before = state()
        records = train(recipe)
        next(records)
        records.close()
        assert state() == before
        fail_after(2)
        with pytest.raises(RuntimeError, match="made up"):
            fit(recipe)
        assert state() == before


@pytest.mark.parametrize("case", ["float64", "gradients off", "autocast", "default device"])
def test_the_pairs_of_a_comparison_are_the_same(recipe, case):
    """Both runs of a pair are open at once."""
    expected = [run.values["validation_accuracy"] for run in pairs(recipe).measured]
    with CASES[case]():
        before = state()
        assert [run.values["validation_accuracy"] for run in pairs(recipe).measured] == expected
        assert state() == before


def pairs(recipe):
    *_, comparison = comparing(recipe, recipe.but(cache="ram"), pairs=1)
    return comparison


def test_two_trainings_in_turn_have_threads_and_formats_of_their_own(recipe, monkeypatch):
    monkeypatch.setattr("speedkit.support.limits.threads", lambda: 4)
    before, seen = state(), {1: set(), 2: set()}
    models = {1: [], 2: []}
    open_ones = {}
    for name, changes in {1: {"workers": 1}, 2: {}}.items():
        open_ones[name] = train(recipe.but(**changes), on_model=models[name].append)
    from speedkit import hardware

    monkeypatch.setattr(hardware, "cores", lambda: 4)
    hardware.machine.cache_clear()
    while open_ones:
        for name, records in list(open_ones.items()):
            try:
                next(records)
            except StopIteration:
                del open_ones[name]
                continue
            if len(models[name]) == 1:
                models[name][0].register_forward_hook(
                    lambda *_, name=name: seen[name].add((torch.get_num_threads(), FORMATS[2].fp32_precision))
                )
                models[name].append(None)
            assert state() == before
    assert seen == {1: {(3, "ieee")}, 2: {(4, "ieee")}}


def test_a_locale_with_a_decimal_comma_changes_nothing(recipe, tmp_path):
    expected = fit(recipe)
    with decimal_comma(tmp_path):
        run = fit(recipe)
        assert outcome(run) == outcome(expected)
        loaded = type(run).load(run.save(tmp_path / "run.json"))
        assert loaded.column("loss").tolist() == run.column("loss").tolist()
        assert run.summary()["accuracy"] == expected.summary()["accuracy"]


@pytest.mark.parametrize("case", ["float64", "default device", "inference mode"])
def test_a_first_batch_is_the_same(recipe, case):
    expected = first_batch(recipe)
    with CASES[case]():
        images, labels, model = first_batch(recipe)
    assert torch.equal(images, expected[0])
    assert torch.equal(labels, expected[1])
    assert torch.equal(model(images), expected[2](images))


def test_the_first_training_of_a_process_draws_nothing_from_the_global_generator():
    """What torch does late was set off with a network whose weights the caller's generator gave."""
    code = """
import torch
import speedkit as sk
torch.manual_seed(5)
before = torch.get_rng_state()
sk.fit(sk.Recipe(subset=64, batch_size=32, epochs=1, device="cpu"))
print(torch.equal(torch.get_rng_state(), before))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.split() == ["True"]
