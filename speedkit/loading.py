"""Batches: where caching, workers and augmentation meet."""

import math
import shutil
import time
from pathlib import Path

import numpy as np
import torch

from speedkit.recipe import Recipe
from speedkit.support.messages import N_
from speedkit.tasks.data import Data
from speedkit.techniques import caching, workers


def drain(generator):
    """Runs a generator to its end and returns its value."""
    while True:
        try:
            next(generator)
        except StopIteration as stop:
            return stop.value


class Reads(int):
    """How many samples were read from the source, and the seconds that reading and augmenting the batch took."""

    read_s = augment_s = math.nan

    @classmethod
    def timed(cls, count: int, *times: float):
        """times: before reading, between reading and augmenting, and after augmenting."""
        reads, (began, read, augmented) = cls(count), times
        reads.read_s = read - began if count else 0.0  # else it was a cache that was read
        reads.augment_s = augmented - read
        return reads


class Samples(torch.utils.data.Dataset):
    """The dataset that a worker reads: a source, a cache in front of it, and the augmentation after them.

    A key is ``epoch * len(dataset) + position``: it names the sample and, with the seed, its random variant.
    """

    def __init__(self, source, cache, augment):
        self.source, self.cache, self.augment = source, cache, augment
        self.count = len(source)

    def __len__(self):
        return self.count

    def __getitems__(self, keys: list[int]):
        """Inputs [B, ...], labels [B, ...], and how many samples were read from the source: :class:`Reads`."""
        began = time.perf_counter()
        keys = torch.from_numpy(np.array(keys, np.int64))
        positions = keys % self.count
        samples, reads = caching.lookup(self.cache, positions, self.source.read)
        read = time.perf_counter()
        inputs, labels = self.source.examples(samples, positions, keys, self.augment)
        return inputs, labels, Reads.timed(reads, began, read, time.perf_counter())


class Batches:
    """The order of the samples: one list of keys per batch, shuffled by seed and epoch, without a short last batch."""

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
    """Batches, epoch by epoch: inputs [B, ...], labels [B, ...], and how many samples were read from the source."""

    def __init__(self, recipe: Recipe, data: Data, device: str, dataset=Samples):
        self.data, self.batches = data, Batches(len(data.train), recipe.batch_size, recipe.seed)
        samples = dataset(data.train, make_cache(recipe, data), data.augment)
        options = {"prefetch": recipe.prefetch, "start_method": recipe.start_method}
        options["pin_memory"] = recipe.pin_memory and device.startswith("cuda")
        self.loader = workers.loader(samples, self.batches, recipe.workers, **options)

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
    """Like :class:`Loader`, but from one tensor on the device, where whole batches are gathered and augmented."""

    def __init__(self, recipe: Recipe, data: Data, samples: torch.Tensor, device: str):
        self.batches, self.augmented = Batches(len(data.train), recipe.batch_size, recipe.seed), recipe.augment != "off"
        self.device, self.there = device, data.on_device(recipe, data.train, samples.to(device))

    def __len__(self):
        return len(self.batches)

    def epoch(self, number: int):
        """The batches of one epoch; the seed and the epoch's number decide their order."""
        self.batches.epoch = number
        generator = torch.Generator(self.device)
        generator.manual_seed(self.batches.seed * 1_000_003 + number)
        order = self.batches.order().to(self.device)
        batches = self.there.batches(order, number, generator)
        while True:
            began = time.perf_counter()
            if (batch := next(batches, None)) is None:
                return
            yield *batch, Reads.timed(0, began, began, time.perf_counter() if self.augmented else began)

    def processes(self) -> list:
        return []

    def close(self):
        """Does nothing: the source was closed after it was read."""


def make_loader(recipe: Recipe, data: Data, device: str, dataset=Samples):
    """A generator that yields :class:`Progress` and returns the loader that a recipe asks for.

    dataset: the class that puts source, cache and augmentation together; not used with ``cache="device"``.
    """
    if recipe.cache != "device":
        return Loader(recipe, data, device, dataset)
    if device.startswith("cuda"):
        from speedkit.gpu import refuse_if_full  # here, because a CPU has no use for it

        refuse_if_full(len(data.train) * math.prod(data.stored) * data.copies * data.train.dtype.itemsize, device)
    samples = yield from data.train.samples(len(data.train), N_("training samples copied to the device"))
    return DeviceLoader(recipe, data, samples, device)


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
    count = min(len(data.train), recipe.cache_images or len(data.train))
    shape, dtype = (count, *data.stored), data.train.dtype
    from speedkit.tasks.cache_file import disk_cache, refuse_if_too_large  # here, because the baseline has none

    if recipe.cache == "disk":
        return disk_cache(data.train, shape)
    if recipe.workers:
        refuse_if_too_large(shape, dtype, shared_memory_free())
    return caching.Ram(shape, shared=recipe.workers > 0, dtype=dtype)
