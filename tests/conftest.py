"""What all tests share. Notebooks are cut to a few steps; ordinary tests see recipes as they are written."""

import contextlib
import importlib
import itertools
import multiprocessing

import numpy as np
import pytest
import torch
from hypothesis import settings
from PIL import Image

from speedkit import hardware
from speedkit.recipe import Recipe
from speedkit.support.messages import language
from speedkit.tasks import data as tasks_data
from speedkit.tasks import images

with contextlib.suppress(ModuleNotFoundError):  # on a GPU server, only what needs no browser is tested
    from in_browser import browser, notebook, page, server, smoke_server  # noqa: F401 (fixtures)

settings.register_profile("speedkit", deadline=None, max_examples=60, derandomize=True)
settings.load_profile("speedkit")


language("en")


def pytest_configure(config):
    # From Python 3.12 on, forking beside torch's threads warns; where fork is still the default, we test just that.
    config.addinivalue_line("filterwarnings", "ignore:.*use of fork.* may lead to deadlocks:DeprecationWarning")


@pytest.fixture(autouse=True)
def full_length(monkeypatch):
    """Recipes are not cut in ordinary tests."""
    monkeypatch.delenv("SPEEDKIT_SMOKE", raising=False)


@pytest.fixture(autouse=True)
def folders_of_these_tests(monkeypatch, tmp_path_factory):
    """Comparisons in tests wait only for each other, and not for anyone else who uses this machine meanwhile.

    They are not in a notebook, so they are saved: not in the learner's folder.
    """
    monkeypatch.setenv("SPEEDKIT_RUNS", str(tmp_path_factory.getbasetemp() / "runs"))
    monkeypatch.setenv("SPEEDKIT_TURNS", str(tmp_path_factory.getbasetemp() / "turns"))


@pytest.fixture
def generated(monkeypatch, tmp_path):
    """Generated images and disk caches go to a folder of this test alone."""
    monkeypatch.setenv("SPEEDKIT_GENERATED", str(tmp_path / "generated"))
    return tmp_path / "generated"


@pytest.fixture
def one_core(monkeypatch):
    """A machine with one core: torch's threads need not wait for each other while other programs are busy."""
    monkeypatch.setattr(hardware, "cores", lambda: 1)
    hardware.machine.cache_clear()
    yield
    hardware.machine.cache_clear()


@pytest.fixture
def quick(monkeypatch, generated, one_core):
    """A recipe of a few steps: 64 training and 100 validation images, batches of 16, two epochs."""
    monkeypatch.setattr(images, "VALIDATION", 100)
    monkeypatch.setattr(tasks_data, "PROBE", 32)
    return Recipe(subset=64, batch_size=16, epochs=2, stored_size=32, image_size=28, device="cpu")


@pytest.fixture
def pictures(tmp_path):
    """A learner's 40 pictures in two classes, grey, colour, palette and transparent, none of them square."""
    draw = np.random.default_rng(0)
    for i in range(40):
        path = tmp_path / "pictures" / ("cat", "dog")[i % 2] / f"{i:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = draw.integers(0, 256, (20 + i % 3, 24, 3), dtype=np.uint8)
        Image.fromarray(pixels).convert(("RGB", "L", "P", "RGBA")[i % 4]).save(path)
    return tmp_path / "pictures"


@pytest.fixture
def loop():
    """The module of the training loop; ``speedkit.train`` itself is the function."""
    return importlib.import_module("speedkit.train")


@pytest.fixture
def fail_after(monkeypatch, loop):
    """Makes training fail once: ``fail_after(2)`` lets two losses be computed and then raises."""
    real = loop.nn.functional.cross_entropy

    def arrange(count, error=None):
        calls = itertools.count()

        def cross_entropy(*args, **options):
            if next(calls) == count:
                raise error or RuntimeError("made up")
            return real(*args, **options)

        monkeypatch.setattr(loop.nn.functional, "cross_entropy", cross_entropy)

    return arrange


@pytest.fixture
def no_children():
    """Fails if the test leaves a process behind that it started."""
    before = set(multiprocessing.active_children())
    yield
    assert set(multiprocessing.active_children()) <= before


@pytest.fixture
def as_found():
    """Fails if the test changes torch's global generator or its number of threads."""
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    yield
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads


def run_through(generator):
    """Everything that a generator yields, and what it returns."""
    seen = []
    while True:
        try:
            seen.append(next(generator))
        except StopIteration as stop:
            return seen, stop.value
