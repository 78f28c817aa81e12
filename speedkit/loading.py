"""Batches: where caching, workers and augmentation meet."""

import math
import shutil
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch

from speedkit.recipe import Recipe
from speedkit.support.messages import N_
from speedkit.tasks.images import Data
from speedkit.techniques import augmentation, caching, workers


def drain(generator):
    """Runs a generator to its end and returns its value."""
    while True:
        try:
            next(generator)
        except StopIteration as stop:
            return stop.value


class Reads(int):
    """How many images were read from the source, and the seconds that reading and augmenting the batch took."""

    read_s = augment_s = math.nan

    @classmethod
    def timed(cls, count: int, *times: float):
        """times: before reading, between reading and augmenting, and after augmenting."""
        reads = cls(count)
        reads.read_s, reads.augment_s = (later - sooner for sooner, later in pairwise(times))
        reads.read_s *= count > 0  # else it was a cache that was read
        return reads


class Images(torch.utils.data.Dataset):
    """The dataset that a worker reads: a source, a cache in front of it, and the augmentation after them.

    A key is ``epoch * len(dataset) + position``: it names the image and, with the seed, its random variant.
    """

    def __init__(self, source, cache, augment):
        self.source, self.cache, self.augment = source, cache, augment
        self.count = len(source.labels)

    def __len__(self):
        return self.count

    def __getitems__(self, keys: list[int]):
        """Images uint8 [B, C, H, W], labels int64 [B], and how many were read from the source: :class:`Reads`."""
        began = time.perf_counter()
        positions = torch.from_numpy(np.array(keys, np.int64)) % self.count
        images, reads = caching.lookup(self.cache, positions, self.source.read)
        read = time.perf_counter()
        if self.augment:
            for image, key in zip(images, keys, strict=True):  # in place: copying the batch would cost as much again
                image.copy_(self.augment(image, key))
        return images, self.source.labels[positions], Reads.timed(reads, began, read, time.perf_counter())


class Batches:
    """The order of the images: one list of keys per batch, shuffled by seed and epoch, without a short last batch."""

    def __init__(self, count: int, batch_size: int, seed: int):
        self.count, self.batch_size, self.seed, self.epoch = count, batch_size, seed, 0

    def __len__(self):
        return self.count // self.batch_size

    def order(self) -> torch.Tensor:
        """Positions int64 [batches, batch_size] of this epoch."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        order = torch.randperm(self.count, generator=generator)
        return order[: len(self) * self.batch_size].view(-1, self.batch_size)

    def __iter__(self):
        yield from (self.order() + self.epoch * self.count).tolist()


class Loader:
    """Batches, epoch by epoch: images uint8 [B, C, H, W], labels int64 [B], and how many were read from the source."""

    def __init__(self, recipe: Recipe, data: Data, device: str, dataset=Images):
        self.data, self.batches = data, Batches(len(data.train.labels), recipe.batch_size, recipe.seed)
        augment = augmentation.per_image(recipe.augment, recipe.shift, recipe.seed)
        images = dataset(data.train, make_cache(recipe, data), augment)
        options = {"prefetch": recipe.prefetch, "start_method": recipe.start_method}
        options["pin_memory"] = recipe.pin_memory and device.startswith("cuda")
        self.loader = workers.loader(images, self.batches, recipe.workers, **options)

    def __len__(self):
        return len(self.batches)

    def epoch(self, number: int):
        """The batches of one epoch; the seed and the epoch's number decide their order."""
        self.batches.epoch = number
        try:
            yield from self.loader
        except (ConnectionError, EOFError, FileNotFoundError) as error:
            if not self.loader.num_workers or "DataLoader worker" in str(error):  # raised by the dataset itself
                raise
            # If a worker dies while it passes a batch on, torch does not notice: only its socket is gone.
            raise RuntimeError("A DataLoader worker ended while it passed a batch on.") from error

    def processes(self) -> list:
        return workers.processes(self.loader)

    def close(self):
        """Ends the workers and closes the source."""
        workers.stop(self.loader)
        self.data.train.close()


class DeviceLoader:
    """Like :class:`Loader`, but from one uint8 tensor on the device, where whole batches are gathered and augmented."""

    def __init__(self, recipe: Recipe, data: Data, images: torch.Tensor, device: str):
        self.batches = Batches(len(data.train.labels), recipe.batch_size, recipe.seed)
        self.images, self.labels = images.to(device), data.train.labels.to(device)
        self.augment = recipe.augment
        if self.augment != "off":
            self.crop_and_flip = augmentation.BatchCropAndFlip(self.images, recipe.shift)
        if self.augment == "heavy":
            self.heavy = augmentation.Heavy(recipe.shift, recipe.seed)

    def __len__(self):
        return len(self.batches)

    def epoch(self, number: int):
        """The batches of one epoch; the seed and the epoch's number decide their order."""
        self.batches.epoch = number
        generator = torch.Generator(self.images.device)
        generator.manual_seed(self.batches.seed * 1_000_003 + number)
        order = self.batches.order().to(self.images.device)
        chosen = order if self.augment == "off" else self.crop_and_flip.draw(order, generator)
        for step, (some, labels) in enumerate(zip(chosen, self.labels[order], strict=True)):
            began = time.perf_counter()
            images = self._images(some, number * len(self) + step)
            yield images, labels, Reads.timed(0, began, began, began if self.augment == "off" else time.perf_counter())

    def _images(self, chosen, key):
        if self.augment == "off":
            return self.images.index_select(0, chosen)
        images = self.crop_and_flip.cut(chosen)
        return self.heavy.rand_augment(images, key) if self.augment == "heavy" else images

    def processes(self) -> list:
        return []

    def close(self):
        """Does nothing: the source was closed after it was read."""


def make_loader(recipe: Recipe, data: Data, device: str, dataset=Images):
    """A generator that yields :class:`Progress` and returns the loader that a recipe asks for.

    dataset: the class that puts source, cache and augmentation together; not used with ``cache="device"``.
    """
    if recipe.cache != "device":
        return Loader(recipe, data, device, dataset)
    if device.startswith("cuda"):
        from speedkit.gpu import refuse_if_full  # here, because a CPU has no use for it

        # The images; with augmentation also their mirror images, and both with their padding: see BatchCropAndFlip.
        refuse_if_full(len(data.train.labels) * math.prod(data.shape) * (1 if recipe.augment == "off" else 6), device)
    images, _ = yield from data.train.read_first(len(data.train.labels), N_("training images copied to the device"))
    return DeviceLoader(recipe, data, images, device)


def shared_memory_free() -> int | None:
    """Bytes free in shared memory (``/dev/shm`` on Linux); None if the system has no separate limit."""
    return shutil.disk_usage("/dev/shm").free if Path("/dev/shm").is_dir() else None


def make_cache(recipe: Recipe, data: Data):
    """The cache that a recipe asks for, None for "off".

    Raises:
        DataError: there is too little disk space or shared memory; the message says what to do.
    """
    if recipe.cache == "off":
        return None
    count = min(len(data.train.labels), recipe.cache_images or len(data.train.labels))
    shape = (count, *data.shape)
    from speedkit.tasks.cache_file import disk_cache, refuse_if_too_large  # here, because the baseline has none

    if recipe.cache == "disk":
        return disk_cache(data.train, shape)
    if recipe.workers:
        refuse_if_too_large(shape, shared_memory_free())
    return caching.Ram(shape, shared=recipe.workers > 0)
