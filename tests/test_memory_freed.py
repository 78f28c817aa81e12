"""After a failure the memory is free again, and the error says what to do."""

import gc
import weakref

import numpy as np
import pytest
import torch

from speedkit import compare, fit, loading
from speedkit.lab.panel import Panel
from speedkit.support import explain
from speedkit.support.errors import CannotRun
from speedkit.tasks.images import Normalise, load

CUDA = (
    "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 15.00 GiB of which {free} is free. "
    "Including non-PyTorch memory, this process has {own} GiB memory in use. Of the allocated memory 1.00 GiB is "
    "allocated by PyTorch, and 0.10 GiB is reserved by PyTorch but unallocated."
)


@pytest.fixture
def networks(monkeypatch):
    """Weak references to the networks of all runs."""
    found = []
    init = Normalise.__init__

    def noted(self, *args, **options):
        init(self, *args, **options)
        found.append(weakref.ref(self))

    monkeypatch.setattr(Normalise, "__init__", noted)
    return found


@pytest.mark.parametrize(
    "start",
    [
        fit,
        lambda recipe: compare(recipe, recipe.but(batchnorm=True), progress=False),
        lambda recipe: Panel(recipe).run(),
    ],
    ids=["fit", "compare", "panel"],
)
def test_a_kept_traceback_keeps_no_network(quick, fail_after, networks, start):
    fail_after(1, torch.OutOfMemoryError(CUDA.format(free="1.00 GiB", own="13.50")))
    with pytest.raises(torch.OutOfMemoryError) as kept:
        start(quick)
    assert kept.value.__traceback__ is not None
    gc.collect()
    assert networks
    assert [network() for network in networks] == [None] * len(networks)
    assert fit(quick).status == "finished"


@pytest.mark.parametrize(
    ("free", "own", "advice"),
    [
        ("1.00 GiB", "13.50", "lower the batch size or the image size, or take a smaller network."),
        ("24.00 MiB", "3.00", "other programs hold 12.0 GiB of the GPU's memory. End them, or lower the batch size."),
    ],
)
def test_the_advice_fits_the_cause(quick, fail_after, free, own, advice):
    fail_after(1, torch.OutOfMemoryError(CUDA.format(free=free, own=own)))
    with pytest.raises(torch.OutOfMemoryError) as error:
        fit(quick)
    assert error.value.__notes__ == [f"CUDA out of memory: {advice}"]


@pytest.mark.parametrize(
    "words", ["DataLoader worker (pid 7) is killed by signal: Killed.", "Pin memory thread exited unexpectedly"]
)
def test_a_dead_worker_is_named_as_the_cause(words):
    assert explain.advice(RuntimeError(words)).startswith("A worker process ended unexpectedly")


def test_what_is_not_known_is_not_explained(quick, fail_after):
    fail_after(1)
    with pytest.raises(RuntimeError, match="made up") as error:
        fit(quick)
    assert not hasattr(error.value, "__notes__")


@pytest.mark.parametrize(("augment", "times"), [("off", 1), ("light", 6)])
def test_the_device_cache_looks_before_it_leaps(quick, monkeypatch, augment, times):
    """64 images of 28 x 28 bytes; with augmentation, twice as many, padded, and what those are made from."""
    recipe, needed = quick.but(cache="device", augment=augment), 64 * 28 * 28 * times
    assert augment == "off" or 2 * 64 * ((28 + 2 * recipe.shift) ** 2 + 28**2) <= needed
    data = loading.drain(load(recipe))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (needed - 1, 2**30))
    with pytest.raises(CannotRun, match=r"choose cache='ram' or a smaller subset"):
        loading.drain(loading.make_loader(recipe, data, "cuda:0"))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (needed, 2**30))
    monkeypatch.setattr(loading, "DeviceLoader", lambda *_: "a loader")
    assert loading.drain(loading.make_loader(recipe, data, "cuda:0")) == "a loader"


def test_evaluation_takes_no_more_pixels_at_a_time_than_it_may(loop, monkeypatch):
    sizes = []

    class Network(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))

        def forward(self, images):
            sizes.append(len(images))
            return torch.zeros(len(images), 2)

    for side, most in ((28, 500), (224, 32), (96, 151)):  # 2**22 pixels; at least 32 and at most 500 images
        sizes.clear()
        images = torch.from_numpy(np.zeros((1200, 3 if side > 28 else 1, side, side), np.uint8))
        labels = torch.zeros(1200, dtype=torch.int64)
        loading.drain(loop.score(Network(), images, labels, loop.Precision("fp32", "cpu")))
        assert max(sizes) == most
        assert sum(sizes) == 1200
