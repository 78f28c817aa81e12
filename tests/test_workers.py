"""Parallel loading: the same batches from any number of processes, which end when they should."""

import multiprocessing
import os
import signal

import pytest
import torch
from conftest import run_through

from speedkit import loading
from speedkit.support.errors import DataError
from speedkit.tasks import images as data
from speedkit.techniques import workers


@pytest.fixture
def opened():
    """Opens the loader of a recipe; closes all of them after the test."""
    loaders = []

    def opened(recipe):
        _, loaded = run_through(data.load(recipe))
        loaders.append(run_through(loading.make_loader(recipe, loaded, "cpu"))[1])
        return loaders[-1]

    yield opened
    for loader in loaders:
        loader.close()


def epoch(loader, number):
    batches = [(images.clone(), labels.clone(), reads) for images, labels, reads in loader.epoch(number)]
    images, labels, reads = zip(*batches, strict=True)
    return torch.stack(images), torch.stack(labels), sum(reads)


def assert_same(batches, expected):
    assert torch.equal(batches[0], expected[0])
    assert torch.equal(batches[1], expected[1])


@pytest.mark.parametrize(("method", "count"), [("fork", 2), ("forkserver", 1), ("spawn", 1)])
def test_batches_are_the_same_under_every_start_method(quick, opened, no_children, method, count):
    """With augmentation and a shared cache, over two epochs, from the same processes; none of them stays."""
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"this system has no {method}")
    recipe = quick.but(augment="light", cache="ram", data="sqlite")
    alone, helped = opened(recipe), opened(recipe.but(workers=count, start_method=method))
    assert alone.processes() == []
    first = epoch(helped, 0)
    assert_same(first, epoch(alone, 0))
    assert first[2] == 64
    started = list(helped.processes())
    assert len(started) == count
    second = epoch(helped, 1)
    assert_same(second, epoch(alone, 1))
    assert second[2] == 0  # all processes share the memory of the cache
    assert [p.pid for p in helped.processes()] == [p.pid for p in started]
    assert all(p.is_alive() for p in started)
    helped.close()
    assert not any(p.is_alive() for p in started)
    assert helped.processes() == []


@pytest.mark.parametrize("source", ["fashion-mnist", "jpeg", "folder"])
@pytest.mark.parametrize("augment", ["off", "heavy"])
def test_batches_are_the_same_from_every_source(quick, opened, pictures, source, augment):
    source = f"folder:{pictures}" if source == "folder" else source
    recipe = quick.but(augment=augment, data=source, subset=32)
    alone, helped = opened(recipe), opened(recipe.but(workers=2))
    for number in (0, 1):
        assert_same(epoch(helped, number), epoch(alone, number))


def test_closing_in_the_middle_of_an_epoch_ends_the_processes(quick, opened, no_children):
    loader = opened(quick.but(workers=2, prefetch=1))
    next(iter(loader.epoch(0)))
    started = list(loader.processes())
    loader.close()
    loader.close()  # a second time does no harm
    assert len(started) == 2
    assert not any(p.is_alive() for p in started)


def test_an_unused_loader_starts_no_process(quick, opened):
    loader = opened(quick.but(workers=2))
    assert loader.processes() == []
    loader.close()


def test_loading_leaves_the_global_generator_alone(quick, opened, as_found):
    for count in (0, 1):
        epoch(opened(quick.but(workers=count)), 0)


def test_an_interrupt_of_the_whole_group_does_not_kill_the_workers(quick, opened):
    loader = opened(quick.but(workers=1))
    first = epoch(loader, 0)
    os.kill(loader.processes()[0].pid, signal.SIGINT)
    assert_same(epoch(loader, 0), first)


@pytest.mark.parametrize("count", [0, 1])
def test_a_damaged_picture_is_one_sentence_with_its_name(quick, opened, pictures, count):
    loader = opened(quick.but(data=f"folder:{pictures}", workers=count, subset=16))
    broken = loader.data.train.paths[3]
    with open(broken, "wb") as file:
        file.write(b"not a picture")
    with pytest.raises(DataError, match="cannot be read as a picture") as refusal:
        epoch(loader, 0)
    assert str(refusal.value).startswith(broken)
    assert len(str(refusal.value).splitlines()) == 1


def test_torch_gets_the_cores_that_the_workers_do_not_use():
    found = torch.get_num_threads()
    for count, cores, threads in [(0, 2, 2), (1, 2, 1), (2, 2, 1), (5, 2, 1), (1, 4, 3)]:
        with workers.threads_for_training(count, cores):
            assert torch.get_num_threads() == threads
        assert torch.get_num_threads() == found


def test_the_threads_come_back_after_an_error():
    found = torch.get_num_threads()
    with pytest.raises(KeyError), workers.threads_for_training(0, found + 1):
        raise KeyError
    assert torch.get_num_threads() == found


def test_order_is_decided_by_seed_and_epoch():
    def order(seed, epoch):
        batches = loading.Batches(100, 16, seed)
        batches.epoch = epoch
        return list(batches)

    assert order(1, 2) == order(1, 2)
    assert [key % 100 for batch in order(1, 2) for key in batch] != [
        key % 100 for batch in order(1, 3) for key in batch
    ]
    assert order(1, 2) != order(2, 2)
    assert len(order(1, 0)) == len(loading.Batches(100, 16, 1)) == 6  # the last 4 are dropped
    keys = [key for batch in order(3, 2) for key in batch]
    assert len(set(keys)) == 96
    assert all(200 <= key < 300 for key in keys)
