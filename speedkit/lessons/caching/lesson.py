"""The lesson on caching: counts of reads, hits and bytes, and two caches that are wrong.

Sources: the TensorFlow guide "Better performance with the tf.data API" and tensorflow issue #47755, on the order of
cache and random transform; PyTorch's notes on ``torch.utils.data``, on workers that each copy the dataset.
"""

import os
import sqlite3
import time
from contextlib import closing

import numpy as np
import torch
from matplotlib.figure import Figure
from torch.utils.data import DataLoader

from speedkit import hardware, loading
from speedkit.comparison.metrics import TOO_FEW
from speedkit.comparison.stats import NEEDED_PAIRS, judge_points
from speedkit.lab import live
from speedkit.lab.picture import Picture, drawn
from speedkit.lab.tables import CUT, marked, warning
from speedkit.recipe import Recipe
from speedkit.run import Run, labels
from speedkit.support.settings import smoke
from speedkit.support.table import Table
from speedkit.support.units import number, percent, seconds, size
from speedkit.tasks import images as data
from speedkit.techniques import augmentation, caching, workers
from speedkit.train import fit

ALL_IMAGES = 55_000  # of Fashion-MNIST's training part
SHOES = (5, 7, 9)  # classes whose mirror image is easily told apart


def source(recipe: Recipe):
    """The training images of a recipe as they are stored: ``read(i)`` gives uint8 [C, H, W]."""
    return loading.drain(data.load(recipe.effective())).train


# Epoch by epoch


def first_and_next(*runs: Run) -> Table:
    """One row per run: the images read and the time taken in its first epoch and, on average, in each later one.

    The hit rate is the share (0 to 1) of the images asked for after the first epoch that were not read from the
    source. Times are of an epoch's steps, without the evaluation. "n/a" for a run of one epoch.
    """
    heading = ["run", "reads: first epoch", "reads: later epochs", "hit rate: later epochs"]
    heading += ["time: first epoch", "time: later epochs", "before the first step"]
    rows = []
    for label, run in zip(labels(runs), runs, strict=True):
        reads, taken = run.epoch_column("reads"), run.epoch_column("train_s")
        rows.append(
            [
                marked(label, run),
                number(reads[0]),
                number(_mean(reads[1:])),
                percent(hit_rate(run)),
                seconds(taken[0]),
                seconds(_mean(taken[1:])),
                seconds(run.scalars.get("prepare_s")),
            ]
        )
    caption = (
        "Later epochs: means per epoch. Times count the steps alone. Before the first step, every run decodes the "
        "images for the evaluation; with the device cache, it also decodes all training images."
    )
    return Table(heading, rows, caption, warning=warning(*runs))


def hit_rate(run: Run) -> float:
    """Share (0 to 1) of the images asked for after the first epoch that were not read; nan for a single epoch."""
    asked = np.diff(run.epoch_column("steps")) * run.recipe.batch_size
    return 1 - float(run.epoch_column("reads")[1:].sum() / asked.sum()) if asked.sum() else np.nan


def _mean(values):
    return float(values.mean()) if len(values) else np.nan


@drawn("Bar chart: the seconds of each epoch, run by run.")
def epochs_figure(*runs: Run) -> Picture:
    """Bars: the seconds of each epoch's steps, one colour per run."""
    figure = Figure(figsize=(8, 3), layout="constrained")
    axes = figure.subplots()
    width = 0.8 / len(runs)
    for place, (label, run) in enumerate(zip(labels(runs), runs, strict=True)):
        taken = run.epoch_column("train_s")
        axes.bar(np.arange(1, len(taken) + 1) + (place - (len(runs) - 1) / 2) * width, taken, width, label=label)
    axes.set_xticks(range(1, 1 + max(len(run.epoch_column("train_s")) for run in runs)))
    axes.set_xlabel("epoch", fontsize=9)
    axes.set_ylabel("seconds, steps only", fontsize=9)
    axes.grid(axis="y", alpha=0.3)
    figure.legend(loc="outside right upper", fontsize=8, frameon=False)
    return figure


# What it costs


def memory_paid(recipe: Recipe) -> Table:
    """Bytes, counted and not measured: of the stored images, and of a cache of decoded ones.

    recipe: one with ``data="sqlite"``. The last two columns are for all training images, in bytes and as a share of
    this machine's main memory.
    """
    recipe = recipe.effective()
    stored = source(recipe)
    count, side, large = len(stored.labels), stored.image_size, recipe.stored_size
    with closing(sqlite3.connect(stored.path)) as connection:
        query = "SELECT SUM(LENGTH(jpeg)) FROM images WHERE position BETWEEN ? AND ?"
        (jpeg,) = connection.execute(query, (stored.first, stored.first + count - 1)).fetchone()
    cache = caching.Ram((count, 3, side, side), shared=False)
    exact = {
        "JPEG, as stored in the database": jpeg,
        f"decoded, {side} × {side}: what the cache holds": cache.samples.nbytes + cache.filled.nbytes,
        f"decoded, {side} × {side}, as normalised float32": count * 3 * side * side * 4,
        f"decoded, {large} × {large}: not resized": count * 3 * large * large,
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
    heading = ["", "one image", f"{count:,} images", f"all {ALL_IMAGES:,}", "all, as a share of memory"]
    return Table(heading, rows, "Counted from shapes and stored bytes, not measured.")


def page_cache(path, times: int = 5) -> Table:
    """Median seconds to read a whole file: after asking the system to drop it from memory, and immediately again.

    The request (``posix_fadvise``) is a hint that some file systems ignore. "n/a" on a system without it.
    """
    cold, warm = [], []
    for _ in range(times):
        cold.append(_read_whole(path) if _drop(path) else np.nan)
        warm.append(_read_whole(path))
    rows = [
        ["after asking the system to drop it from memory", seconds(float(np.median(cold)))],
        ["immediately again", seconds(float(np.median(warm)))],
    ]
    return Table([f"reading the whole file ({size(os.path.getsize(path))})", "median time"], rows)


def _drop(path):
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


# Wrong: the cache after the augmentation


class AugmentThenCache(loading.Samples):
    """The mistake: the image is cached *after* its random transform, so its first variant comes back in every epoch."""

    def __getitems__(self, keys):
        def read(position):
            return self.augment(self.source.read(position), key=position)

        positions = torch.tensor(keys) % self.count
        images, reads = caching.lookup(self.cache, positions, read)
        return images, self.source.labels[positions], reads


def variants(dataset, position: int, epochs: int) -> torch.Tensor:
    """One image as the dataset returns it in each epoch: uint8 [epochs, C, H, W]."""
    keys = [epoch * len(dataset) + position for epoch in range(epochs)]
    return torch.cat([dataset.__getitems__([key])[0] for key in keys])


@drawn("One shoe, epoch by epoch, with both orders of cache and augmentation.")
def same_picture(recipe: Recipe, epochs: int = 8) -> Picture:
    """One shoe, epoch by epoch, with both orders; the titles count the different images."""
    loaded = loading.drain(data.load(recipe.effective()))
    position = next(i for i, label in enumerate(loaded.train.labels.tolist()) if label in SHOES)
    figure = Figure(figsize=(8, 2.9), layout="constrained")
    for part, (title, kind) in zip(
        figure.subfigures(2, 1),
        {"cache, then augment": loading.Samples, "augment, then cache": AugmentThenCache}.items(),
        strict=True,
    ):
        augment = augmentation.per_image(recipe.augment, recipe.shift, recipe.seed)
        dataset = kind(loaded.train, caching.Ram((len(loaded.train.labels), *loaded.shape), shared=False), augment)
        images = variants(dataset, position, epochs)
        different = len(images.flatten(1).unique(dim=0))
        part.suptitle(f"{title} (different images in {epochs} epochs: {different})", fontsize=9)
        for epoch, axes in enumerate(part.subplots(1, epochs)):
            axes.imshow(images[epoch].permute(1, 2, 0).numpy(), cmap="gray_r", vmin=0, vmax=255)
            axes.set_axis_off()
    return figure


def frozen(recipe: Recipe, pairs: int = NEEDED_PAIRS, progress: bool = True) -> Table:
    """Trains with both orders of cache and augmentation, in pairs with equal seeds, and judges the difference.

    One row per seed. The caption gives the mean difference in points, wrong order minus right order, with its
    interval and verdict by :func:`speedkit.comparison.stats.judge_points`.
    """
    pairs = min(pairs, 2) if smoke() else pairs
    accuracy = np.empty((pairs, 2))
    with live.progress(total=2 * pairs, unit="run", wanted=progress) as bar:
        for pair in range(pairs):
            for column, kind in enumerate((loading.Samples, AugmentThenCache)):
                run = fit(recipe.but(seed=recipe.seed + pair), dataset=kind)
                accuracy[pair, column] = run.last("validation_accuracy")
                bar.update()
    points = 100 * (accuracy[:, 1] - accuracy[:, 0])
    rows = [
        [str(recipe.seed + pair), *map(percent, accuracy[pair]), f"{points[pair]:+.2f} points"] for pair in range(pairs)
    ]
    heading = ["seed", "cache, then augment", "augment, then cache", "difference"]
    difference, outcome = judge_points(points)
    if outcome == TOO_FEW:
        outcome += f", {NEEDED_PAIRS} are needed"
    caption = "Validation accuracy at the end; difference: augment first minus cache first. Mean over the pairs with "
    caption += f"its 95 % interval: {difference} points. Verdict: {outcome}."
    return Table(heading, rows, f"{caption} {CUT}" if smoke() else caption)


# Wrong: one copy per worker


class Dictionary(torch.utils.data.Dataset):
    """The mistake: decoded images in a dictionary inside the dataset. Every worker has its own copy of it."""

    def __init__(self, source, cache=None, augment=None):
        """cache, augment: unused; they make this a stand-in for :class:`speedkit.loading.Samples`."""
        self.source, self.decoded = source, {}

    def __len__(self):
        return len(self.source.labels)

    def __getitems__(self, keys):
        positions = [key % len(self) for key in keys]
        missing = [position for position in positions if position not in self.decoded]
        for position in missing:
            self.decoded[position] = self.source.read(position)
        images = torch.stack([self.decoded[position] for position in positions])
        return images, self.source.labels[positions], len(missing)


def one_copy_per_worker(recipe: Recipe, epochs: int = 4) -> Table:
    """Reads per epoch of a shared cache and of dictionaries, with ``recipe.workers`` workers; nothing is trained.

    One row per cache. The last column counts the decoded images in memory at the end, over all processes.
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
        rows.append(["a dictionary; workers stay alive", *reads, sum(reads)])
    reads = _reads(_new_workers(recipe, loaded), epochs)
    rows.append(["a dictionary; new workers in each epoch", *reads, reads[-1]])
    heading = ["the cache", *(f"reads, epoch {epoch + 1}" for epoch in range(epochs)), "decoded images in memory"]
    caption = f"{recipe.workers} workers. Every epoch asks for {count:,} images, each of them once. Last column: at "
    caption += "the end, in all processes together."
    return Table(heading, [[row[0], *map(number, row[1:])] for row in rows], caption)


def _new_workers(recipe, loaded):
    """(epoch) -> its batches, from workers that end with it: the default of PyTorch's DataLoader."""
    batches = loading.Batches(len(loaded.train.labels), recipe.batch_size, recipe.seed)
    options = {"batch_sampler": batches, "collate_fn": workers.share_batch, "num_workers": recipe.workers}
    loader = DataLoader(Dictionary(loaded.train), generator=torch.Generator(), **options)

    def epoch(number):
        batches.epoch = number
        return loader

    return epoch


def _reads(epoch, epochs):
    return [sum(reads for *_, reads in epoch(number)) for number in range(epochs)]
