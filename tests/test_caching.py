"""Caching: the same batches with every cache, and images read from the source only once."""

import errno
import os
import pickle

import pytest
import torch
from conftest import run_through
from PIL import Image

from speedkit import loading
from speedkit.support.errors import DataError
from speedkit.tasks import images as data
from speedkit.tasks.cache_file import clear_disk_cache
from speedkit.techniques import caching

CACHES = ("off", "disk", "ram", "device")


class Epochs:
    """The batches of a recipe's first epochs, as the loop gets them, and how many images were read in each."""

    def __init__(self, recipe, epochs=2):
        _, loaded = run_through(data.load(recipe))
        _, loader = run_through(loading.make_loader(recipe, loaded, "cpu"))
        self.source = loaded.train
        self.cache = loader.loader.dataset.cache if recipe.cache != "device" else None
        try:
            batches = [[(i.clone(), t.clone(), n) for i, t, n in loader.epoch(e)] for e in range(epochs)]
        finally:
            loader.close()
        self.images = torch.stack([images for epoch in batches for images, _, _ in epoch])
        self.labels = torch.stack([labels for epoch in batches for _, labels, _ in epoch])
        self.reads = [sum(reads for *_, reads in epoch) for epoch in batches]


@pytest.mark.parametrize("changes", [{}, {"data": "jpeg"}, {"data": "sqlite"}, {"image_size": 40}], ids=str)
def test_every_cache_gives_the_same_batches(quick, changes):
    recipe = quick.but(**changes)
    plain = Epochs(recipe)
    assert plain.reads == [64, 64]
    assert len(plain.images) == 2 * 4
    for cache in CACHES[1:]:
        cached = Epochs(recipe.but(cache=cache))
        assert torch.equal(cached.images, plain.images), cache
        assert torch.equal(cached.labels, plain.labels), cache


def test_an_epoch_holds_every_image_once_in_a_new_order(quick):
    """Images are told apart by their pixels: 64 different ones per epoch, the same 64 in both."""
    epochs = Epochs(quick)
    first, second = (
        [bytes(image.flatten().tolist()) for image in part.flatten(0, 1)] for part in epochs.images.split(4)
    )
    assert len(set(first)) == 64
    assert set(first) == set(second)
    assert first != second


@pytest.mark.parametrize("cache", ["disk", "ram"])
def test_images_are_read_in_the_first_epoch_only(quick, cache, monkeypatch):
    counted = []
    read = data.Arrays.read
    monkeypatch.setattr(data.Arrays, "read", lambda self, position: counted.append(position) or read(self, position))
    epochs = Epochs(quick.but(cache=cache), epochs=3)
    assert epochs.reads == [64, 0, 0]
    assert sorted(counted) == list(range(64))


@pytest.mark.parametrize("cache", ["disk", "ram"])
def test_a_cache_that_is_too_small_holds_what_fits(quick, cache):
    whole, part = Epochs(quick), Epochs(quick.but(cache=cache, cache_images=20))
    assert part.reads == [64, 64 - 20]
    assert torch.equal(part.images, whole.images)


def test_two_workers_share_one_cache_in_ram(quick, no_children):
    """The order is new in the second epoch, so each worker asks for images that the other one read."""
    epochs = Epochs(quick.but(cache="ram", workers=2))
    assert epochs.reads == [64, 0]
    assert torch.equal(epochs.images, Epochs(quick).images)


def test_two_workers_share_one_cache_on_disk(quick, no_children):
    epochs = Epochs(quick.but(cache="disk", workers=2))
    assert epochs.reads == [64, 0]
    assert torch.equal(epochs.images, Epochs(quick).images)


def test_the_next_run_finds_the_disk_cache_filled(quick):
    recipe = quick.but(cache="disk", data="jpeg")
    first, second = Epochs(recipe), Epochs(recipe.but(seed=5))
    assert (first.reads, second.reads) == ([64, 0], [0, 0])
    assert torch.equal(second.images, Epochs(recipe.but(seed=5, cache="off")).images)
    clear_disk_cache()
    assert Epochs(recipe).reads == [64, 0]


@pytest.mark.parametrize(
    "change",
    [{"image_size": 30}, {"subset": 80}, {"data": "sqlite"}, {"stored_size": 40}, {"cache_images": 50}],
    ids=str,
)
def test_different_pixels_have_a_different_disk_cache(quick, change):
    recipe = quick.but(cache="disk", data="jpeg")
    Epochs(recipe)
    changed = Epochs(recipe.but(**change))
    assert changed.reads[0] == len(changed.source.labels)
    assert torch.equal(changed.images, Epochs(recipe.but(cache="off", **change)).images)


def test_a_changed_picture_is_not_read_from_an_old_cache(quick, pictures):
    recipe = quick.but(cache="disk", data=f"folder:{pictures}", subset=None)
    Epochs(recipe)
    for path in pictures.glob("*/*.png"):
        Image.new("RGB", (20, 20), (200, 10, 10)).save(path)
    assert set(Epochs(recipe).images.unique().tolist()) == {10, 200}


@pytest.mark.parametrize("cache", ["disk", "ram"])
def test_the_image_is_cached_before_the_augmentation(quick, cache):
    epochs = Epochs(quick.but(cache=cache, augment="light", shift=5))
    plain = torch.stack([epochs.source.read(i) for i in range(64)])
    assert torch.equal(epochs.cache.samples, plain)
    first, second = epochs.images.split(4)
    assert torch.equal(epochs.images, Epochs(quick.but(augment="light", shift=5)).images)
    assert set(first.flatten(0, 1).sum((1, 2, 3)).tolist()) != set(second.flatten(0, 1).sum((1, 2, 3)).tolist())


def test_batches_are_copies_of_the_cache():
    cache = caching.Ram((4, 1, 2, 2), shared=False)
    for _ in range(2):
        images, _ = caching.lookup(cache, torch.tensor([1, 3]), lambda position: torch.full((1, 2, 2), position))
        assert images.flatten(1)[:, 0].tolist() == [1, 3]
        images.fill_(99)
    assert cache.filled.tolist() == [False, True, False, True]


def test_lookup_without_a_cache_reads_every_time():
    for _ in range(2):
        images, reads = caching.lookup(None, torch.tensor([2, 2, 0]), lambda position: torch.tensor([[[position]]]))
        assert images.flatten().tolist() == [2, 2, 0]
        assert reads == 3


def test_an_image_that_occurs_twice_in_a_batch_is_read_once():
    cache = caching.Ram((4, 1, 1, 1), shared=False)
    assert caching.lookup(cache, torch.tensor([2, 2]), lambda p: torch.tensor([[[p]]], dtype=torch.uint8))[1] == 1


def test_a_failed_read_does_not_mark_the_image_as_cached():
    cache = caching.Ram((4, 1, 1, 1), shared=False)

    def broken(position):
        raise OSError

    with pytest.raises(OSError):  # noqa: PT011
        caching.lookup(cache, torch.tensor([0]), broken)
    assert not cache.filled.any()


def test_a_sent_disk_cache_is_the_same_file(tmp_path):
    cache = caching.Disk(tmp_path / "c", (3, 1, 2, 2))
    sent = pickle.loads(pickle.dumps(cache))
    assert len(pickle.dumps(cache)) < 1000
    sent.keep(1, torch.full((1, 2, 2), 7, dtype=torch.uint8))
    assert cache.samples[1].unique().tolist() == [7]
    assert [cache.has(position) for position in range(3)] == [False, True, False]
    assert os.path.getsize(tmp_path / "c") == 3 * 4 + 3 * 4  # checksums and pixels


def test_too_little_shared_memory_is_reported_with_a_way_out(quick, monkeypatch):
    monkeypatch.setattr(loading, "shared_memory_free", lambda: 1000)
    with pytest.raises(DataError, match=r"does not fit into /dev/shm .*cache='disk' or workers=0, or .*shm-size"):
        Epochs(quick.but(cache="ram", workers=2))
    assert Epochs(quick.but(cache="ram")).reads == [64, 0]  # nothing is shared without workers
    monkeypatch.setattr(loading, "shared_memory_free", lambda: None)
    assert loading.make_cache(quick.but(cache="ram", workers=2), run_through(data.load(quick))[1]).samples.is_shared()


def test_a_full_disk_is_reported_with_a_way_out(quick, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    with pytest.raises(DataError, match=r"could not be made \(No space left on device\).*SPEEDKIT_GENERATED"):
        Epochs(quick.but(cache="disk"))
