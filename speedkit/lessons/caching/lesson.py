"""What the lesson on caching counts and draws: reads, hits, bytes, and two caches that are wrong.

Sources: the TensorFlow guide "Better performance with the tf.data API" and tensorflow issue #47755 for the order of
cache and random transform; PyTorch's notes on ``torch.utils.data`` for workers, each with its own copy of a data set.
"""

import os
import sqlite3
import sys
import time
from contextlib import closing

import numpy as np
import torch
from matplotlib.figure import Figure
from torch.utils.data import DataLoader
from tqdm import tqdm

from speedkit import hardware, loading
from speedkit.comparison.stats import NEEDED_PAIRS, judge_points
from speedkit.lab.picture import Picture, drawn
from speedkit.recipe import Recipe
from speedkit.run import Run, labels
from speedkit.support.settings import smoke
from speedkit.support.table import Table
from speedkit.support.units import number, percent, seconds, size
from speedkit.tasks import images as data
from speedkit.techniques import augmentation, caching, workers
from speedkit.train import train

ALL_IMAGES = 55_000  # of Fashion-MNIST's training part
SHOES = (5, 7, 9)  # classes whose mirror image is easily told apart


def source(recipe: Recipe):
    """The training images of a recipe as they are stored: ``read(i)`` gives uint8 [C, H, W]."""
    return loading.drain(data.load(recipe.effective())).train


# Epoch by epoch


def first_and_next(*runs: Run) -> Table:
    """A row a run: images read and seconds in its first epoch and, as means, in the ones after it.

    The hit rate is the share (0 to 1) of the images asked for, after the first epoch, that were not read from the
    source. Seconds are of an epoch's steps, without the evaluation. "n/a" where a run has a single epoch.
    """
    heading = ["run", "reads: first epoch", "reads: next epochs", "hit rate: next epochs"]
    heading += ["time: first epoch", "time: next epochs", "before the first step"]
    rows = []
    for label, run in zip(labels(runs), runs, strict=True):
        reads, taken = run.epoch_column("reads"), run.epoch_column("train_s")
        rows.append(
            [
                label,
                number(reads[0]),
                number(_mean(reads[1:])),
                percent(hit_rate(run)),
                seconds(taken[0]),
                seconds(_mean(taken[1:])),
                seconds(run.scalars.get("prepare_s")),
            ]
        )
    caption = (
        "Time of the steps alone. Before the first step, the pictures for the evaluation are decoded whatever the "
        "switches say, and with the device cache every training image, too."
    )
    return Table(heading, rows, caption)


def hit_rate(run: Run) -> float:
    """Share (0 to 1) of the images asked for after the first epoch that did not have to be read; nan: no such epoch."""
    asked = np.diff(run.epoch_column("steps")) * run.recipe.batch_size
    return 1 - float(run.epoch_column("reads")[1:].sum() / asked.sum()) if asked.sum() else np.nan


def _mean(values):
    return float(values.mean()) if len(values) else np.nan


@drawn("The seconds of every epoch.")
def epochs_figure(*runs: Run) -> Picture:
    """Bars: the seconds of every epoch's steps, a colour a run."""
    figure = Figure(figsize=(8, 3), layout="constrained")
    axes = figure.subplots()
    width = 0.8 / len(runs)
    for place, (label, run) in enumerate(zip(labels(runs), runs, strict=True)):
        taken = run.epoch_column("train_s")
        axes.bar(np.arange(1, len(taken) + 1) + (place - (len(runs) - 1) / 2) * width, taken, width, label=label)
    axes.set_xticks(range(1, 1 + max(len(run.epoch_column("train_s")) for run in runs)))
    axes.set_xlabel("epoch", fontsize=9)
    axes.set_ylabel("seconds of its steps", fontsize=9)
    axes.grid(axis="y", alpha=0.3)
    figure.legend(loc="outside right upper", fontsize=8, frameon=False)
    return figure


# What it costs


def memory_paid(recipe: Recipe) -> Table:
    """Bytes counted, not measured: what is stored, and what a cache of decoded images holds instead.

    recipe: its ``data`` is "sqlite". The last columns are for all training images, and as a share of this machine's
    main memory.
    """
    recipe = recipe.effective()
    stored = source(recipe)
    count, side, large = len(stored.labels), stored.image_size, recipe.stored_size
    with closing(sqlite3.connect(stored.path)) as connection:
        query = "SELECT SUM(LENGTH(jpeg)) FROM images WHERE position BETWEEN ? AND ?"
        (jpeg,) = connection.execute(query, (stored.first, stored.first + count - 1)).fetchone()
    kept = caching.Ram((count, 3, side, side), shared=False)
    exact = {
        "JPEG, as stored in the database": jpeg,
        f"decoded, {side} × {side}: what the cache keeps": kept.images.nbytes + kept.filled.nbytes,
        f"the same as float32, normalised: {side} × {side}": count * 3 * side * side * 4,
        f"decoded, {large} × {large}: not made smaller": count * 3 * large * large,
    }
    memory = hardware.machine().memory
    rows = [
        [
            what,
            size(held / count),
            size(held),
            size(held / count * ALL_IMAGES),
            percent(held / count * ALL_IMAGES / memory),
        ]
        for what, held in exact.items()
    ]
    heading = ["", "an image", f"{count:,} images", f"all {ALL_IMAGES:,}", "of this machine's memory"]
    return Table(heading, rows, "Counted from the shapes and the stored bytes.")


def page_cache(path, times: int = 5) -> Table:
    """Seconds to read a whole file after the system was asked to forget it, and once more right after: medians.

    The request (``posix_fadvise``) is a hint: some file systems ignore it. "n/a" where there is no such call.
    """
    cold, warm = [], []
    for _ in range(times):
        cold.append(_read_whole(path) if _forget(path) else np.nan)
        warm.append(_read_whole(path))
    rows = [
        ["after asking the system to forget it", seconds(float(np.median(cold)))],
        ["read again at once", seconds(float(np.median(warm)))],
    ]
    return Table([f"{size(os.path.getsize(path))}, whole file", "median"], rows)


def _forget(path):
    if not hasattr(os, "posix_fadvise"):
        return False
    with open(path, "rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return True


def _read_whole(path):
    start = time.perf_counter()
    with open(path, "rb", buffering=0) as file:
        while file.read(2**20):
            pass
    return time.perf_counter() - start


# Wrong: the cache behind the augmentation


class AugmentThenCache(loading.Images):
    """The mistake: the image is kept *after* its random transform, so the first variant comes back for ever."""

    def __getitems__(self, keys):
        def read(position):
            return self.augment(self.source.read(position), key=position)

        positions = torch.tensor(keys) % self.count
        images, reads = caching.lookup(self.cache, positions, read)
        return images, self.source.labels[positions], reads


def variants(dataset, position: int, epochs: int) -> torch.Tensor:
    """What one image looks like in each epoch: uint8 [epochs, C, H, W]."""
    keys = [epoch * len(dataset) + position for epoch in range(epochs)]
    return torch.cat([dataset.__getitems__([key])[0] for key in keys])


@drawn("One shoe in eight epochs, with both orders.")
def same_picture(recipe: Recipe, epochs: int = 8) -> Picture:
    """One shoe as both orders give it, epoch by epoch; the titles count the different pictures."""
    loaded = loading.drain(data.load(recipe.effective()))
    position = next(i for i, label in enumerate(loaded.train.labels.tolist()) if label in SHOES)
    figure = Figure(figsize=(8, 2.9), layout="constrained")
    for part, (title, kind) in zip(
        figure.subfigures(2, 1),
        {"cache, then augment": loading.Images, "augment, then cache": AugmentThenCache}.items(),
        strict=True,
    ):
        augment = augmentation.per_image(recipe.augment, recipe.shift, recipe.seed)
        dataset = kind(loaded.train, caching.Ram((len(loaded.train.labels), *loaded.shape), shared=False), augment)
        images = variants(dataset, position, epochs)
        different = len(images.flatten(1).unique(dim=0))
        part.suptitle(f"{title}: different pictures in {epochs} epochs: {different}", fontsize=9)
        for epoch, axes in enumerate(part.subplots(1, epochs)):
            axes.imshow(images[epoch].permute(1, 2, 0).numpy(), cmap="gray_r", vmin=0, vmax=255)
            axes.set_axis_off()
    return figure


def frozen(recipe: Recipe, pairs: int = NEEDED_PAIRS, progress: bool = True) -> Table:
    """Trains with both orders of cache and augmentation on equal seeds, a row a seed, and judges the difference.

    The caption holds the median difference in points, wrong order minus right order, with its 95 % interval by
    Student's t over the pairs and the verdict. Under :data:`speedkit.compare.NEEDED_PAIRS` pairs, or cut by
    SPEEDKIT_SMOKE, there is none.
    """
    pairs = min(pairs, 2) if smoke() else pairs
    accuracy = np.empty((pairs, 2))
    with tqdm(total=2 * pairs, unit="run", file=sys.stdout, disable=not progress) as bar:
        for pair in range(pairs):
            for column, kind in enumerate((loading.Images, AugmentThenCache)):
                accuracy[pair, column] = _fit(recipe.but(seed=recipe.seed + pair), kind).last("validation_accuracy")
                bar.update()
    points = 100 * (accuracy[:, 1] - accuracy[:, 0])
    rows = [
        [str(recipe.seed + pair), *map(percent, accuracy[pair]), f"{points[pair]:+.2f} points"] for pair in range(pairs)
    ]
    heading = ["seed", "cache, then augment", "augment, then cache", "difference"]
    words, outcome = judge_points(points)
    caption = f"Points between the two orders, median and 95 % interval over the pairs: {words}: {outcome}."
    return Table(heading, rows, caption)


def _fit(recipe, dataset):
    run = Run(recipe)
    for _ in train(recipe, run, dataset=dataset):
        pass
    return run


# Wrong: one copy a worker


class Dictionary(torch.utils.data.Dataset):
    """The mistake: decoded images in a dictionary of the data set, of which every worker has its own copy."""

    def __init__(self, source, cache=None, augment=None):
        """cache, augment: not used; here so that it can stand where :class:`speedkit.data.Images` does."""
        self.source, self.kept = source, {}

    def __len__(self):
        return len(self.source.labels)

    def __getitems__(self, keys):
        positions = [key % len(self) for key in keys]
        missing = [position for position in positions if position not in self.kept]
        for position in missing:
            self.kept[position] = self.source.read(position)
        images = torch.stack([self.kept[position] for position in positions])
        return images, self.source.labels[positions], len(missing)


def one_copy_a_worker(recipe: Recipe, epochs: int = 4) -> Table:
    """Reads an epoch, with ``recipe.workers`` workers, of a shared cache and of dictionaries; nothing is trained.

    A row a cache. The last column counts the decoded images that lie in memory at the end, in all processes together.
    """
    recipe = recipe.effective().but(cache="ram")
    loaded = loading.drain(data.load(recipe))
    count = len(loaded.train.labels) // recipe.batch_size * recipe.batch_size
    rows = []
    with closing(loading.Loader(recipe, loaded, "cpu")) as loader:
        reads = _reads(loader.epoch, epochs)
        rows.append(["one block of shared memory", *reads, min(sum(reads), len(loaded.train.labels))])
    with closing(loading.Loader(recipe.but(cache="off"), loaded, "cpu", Dictionary)) as loader:
        reads = _reads(loader.epoch, epochs)
        rows.append(["a dictionary; workers live on", *reads, sum(reads)])
    reads = _reads(_started_anew(recipe, loaded), epochs)
    rows.append(["a dictionary; workers started anew each epoch", *reads, reads[-1]])
    heading = ["the cache", *(f"reads, epoch {epoch + 1}" for epoch in range(epochs)), "images held at the end"]
    caption = f"{recipe.workers} workers; every epoch asks for {count:,} images, each once."
    return Table(heading, [[row[0], *map(number, row[1:])] for row in rows], caption)


def _started_anew(recipe, loaded):
    """(epoch) -> its batches, from workers that end with it, as PyTorch's DataLoader has it unless told otherwise."""
    batches = loading.Batches(len(loaded.train.labels), recipe.batch_size, recipe.seed)
    options = {"batch_sampler": batches, "collate_fn": workers.share_batch, "num_workers": recipe.workers}
    loader = DataLoader(Dictionary(loaded.train), generator=torch.Generator(), **options)

    def epoch(number):
        batches.epoch = number
        return loader

    return epoch


def _reads(epoch, epochs):
    return [sum(reads for *_, reads in epoch(number)) for number in range(epochs)]
