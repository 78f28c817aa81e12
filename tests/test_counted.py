"""The memory of a training step, counted: known sizes, a count of real tensors, and torch without the counter."""

import contextlib
import sys
import threading
from types import SimpleNamespace

import pytest
import torch
from torch.distributed._tools.mem_tracker import MemTracker

from speedkit import counted, fit
from speedkit.counted import PARTS, Shapes, step_memory
from speedkit.recipe import Recipe
from speedkit.run import Run
from speedkit.train import new_network, optimization

MIB = 2**20
GREY = (1, 28, 28)


def shapes(image, classes=10):
    return Shapes(image, (), torch.uint8, classes)


def mib(recipe, shape=GREY, part=""):
    return step_memory(recipe, shapes(shape), "cpu")[f"step_memory{part}"] / MIB


@pytest.mark.parametrize(
    ("recipe", "shape", "expected"),
    [
        (Recipe(model="wide", batch_size=512), GREY, 451.1),
        (Recipe(batch_size=64), GREY, 10.5),
        (Recipe(batch_size=64, batchnorm=True), GREY, 11.6),
        (Recipe(batch_size=32), (3, 32, 32), 7.3),
        (Recipe(model="resnet18", batch_size=32, batchnorm=True), (3, 224, 224), 809.5),
    ],
)
def test_it_is_what_an_independent_count_of_live_tensors_found(recipe, shape, expected):
    """The expected figures come from a dispatch mode that added up the storages alive during forward and backward."""
    assert mib(recipe, shape) == pytest.approx(expected, abs=0.06)


def by_hand(recipe, shape):
    """The same two steps with real tensors on this processor."""
    model = new_network(recipe, shape, 10).train()
    optimizer, __ = optimization(recipe, model, 1)  # as new_network made it, channels last or not
    images, labels = torch.zeros((recipe.batch_size, *shape), dtype=torch.uint8), torch.zeros(recipe.batch_size).long()
    tracker = MemTracker()
    tracker.track_external(model, optimizer, images, labels)
    with tracker:
        for __ in range(2):
            tracker.reset_mod_stats()
            half = torch.autocast("cpu", torch.bfloat16) if recipe.precision == "bf16" else contextlib.nullcontext()
            with half:
                loss = torch.nn.functional.cross_entropy(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    (found,) = tracker.get_tracker_snapshot("peak").values()
    return found["Total"]


BF16, LAST = {"precision": "bf16"}, {"channels_last": True}


@pytest.mark.parametrize(
    "change",
    [{}, BF16, {"batchnorm": True}, {"optimizer": "adam"}, LAST, BF16 | LAST, {"batchnorm": True} | LAST],
    ids=str,
)
@pytest.mark.parametrize("model", ["small", "mlp"])
def test_tensors_without_content_are_counted_like_real_ones(model, change):
    recipe = Recipe(model=model, batch_size=8, **change)
    assert step_memory(recipe, shapes(GREY), "cpu")["step_memory"] == by_hand(recipe, GREY)


def test_batch_norm_in_16_bits_is_counted_four_bytes_a_channel_short():
    recipe = Recipe(batchnorm=True, batch_size=8, **BF16)
    assert by_hand(recipe, GREY) - step_memory(recipe, shapes(GREY), "cpu")["step_memory"] == 4 * (16 + 32 + 64)


@pytest.mark.parametrize(("optimizer", "numbers"), [("sgd", 1), ("adam", 2)])
def test_what_an_optimizer_frees_again_is_temporary_and_no_state(optimizer, numbers):
    """In the mlp with one image, the peak is in the optimizer's step, which makes tensors as large as the weights."""
    found = step_memory(Recipe(model="mlp", batch_size=1, optimizer=optimizer), shapes(GREY), "cpu")
    weights = found["step_memory_gradients"]
    assert found["step_memory_optimizer"] == pytest.approx(numbers * weights, abs=100)  # Adam also counts its steps
    assert found["step_memory_temporary"] > weights / 2


def test_the_parts_are_what_they_are_called():
    recipe = Recipe(model="wide", batch_size=64)
    found = step_memory(recipe, shapes(GREY), "cpu")
    assert found["step_memory"] == sum(found[f"step_memory_{part}"] for part in PARTS)
    model = new_network(recipe, GREY, 10)
    weights = 4 * sum(p.numel() for p in model.parameters())
    normalise = 2 * 4  # the mean and the scale of one channel
    assert found["step_memory_weights"] == weights + normalise
    assert found["step_memory_optimizer"] == weights  # momentum: one number for each weight
    doubled = mib(recipe.but(batch_size=128), part="_activations") / mib(recipe, part="_activations")
    assert doubled == pytest.approx(2, rel=1e-3)
    assert mib(recipe.but(precision="bf16"), part="_activations") < mib(recipe, part="_activations")


@pytest.mark.parametrize(
    "change",
    [{"epochs": 9}, {"learning_rate": 1.0}, {"cache": "ram"}, {"workers": 2}, {"augment": "light"}, {"seed": 3}],
    ids=str,
)
def test_what_changes_no_tensor_of_a_step_changes_nothing(change):
    assert mib(Recipe(**change)) == mib(Recipe())


def test_counting_leaves_torch_as_it_was():
    counted._counted.cache_clear()
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    with torch.no_grad():
        assert step_memory(Recipe(), shapes(GREY), "cpu")
        assert not torch.is_grad_enabled()
    assert torch.equal(torch.rand(1), expected)
    assert not torch.nn.modules.module._global_forward_hooks


def test_a_network_that_trains_in_another_thread_meanwhile_is_left_alone():
    alone, wrong, over = step_memory(Recipe(), shapes(GREY), "cpu"), [], threading.Event()

    def work():
        network = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))
        optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9)
        try:
            while not over.is_set():
                optimizer.zero_grad()
                network(torch.ones(4, 8)).sum().backward()
                optimizer.step()
        except Exception as error:
            wrong.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        for __ in range(5):
            counted._counted.cache_clear()
            assert step_memory(Recipe(), shapes(GREY), "cpu") == alone
    finally:
        over.set()
        thread.join()
    assert not wrong


@pytest.mark.parametrize("broken", ["missing", "another kind of tensor", "raises"])
def test_where_torch_cannot_count_there_is_no_figure(monkeypatch, broken):
    counted._counted.cache_clear()
    if broken == "missing":
        monkeypatch.setitem(sys.modules, "torch.distributed._tools.mem_tracker", None)
    elif broken == "raises":
        monkeypatch.setattr(MemTracker, "track_external", lambda *_: 1 / 0)
    else:
        found = {"Parameter": 10, "Hologram": 5, "Total": 15}

        def peaks(self, kind="current"):
            return {torch.device("cpu"): dict(found)}

        monkeypatch.setattr(MemTracker, "get_tracker_snapshot", peaks)
    assert step_memory(Recipe(), shapes(GREY), "cpu") == {}
    run, data = (
        Run(Recipe()),
        SimpleNamespace(probe=(torch.zeros((1, *GREY), dtype=torch.uint8), torch.zeros(1)), classes=range(10)),
    )
    counted.record(run, data, "cpu")
    assert run.scalars == {}
    (note,) = run.notes
    assert {"missing": "ModuleNotFoundError", "raises": "ZeroDivisionError"}.get(broken, "Hologram") in note
    counted._counted.cache_clear()


def test_it_is_a_figure_of_every_run(quick):
    run = fit(quick)
    expected = step_memory(quick, shapes(GREY), "cpu")
    assert {name: run.scalars[name] for name in expected} == expected
    assert set(expected) == {"step_memory", *(f"step_memory_{part}" for part in PARTS)}
