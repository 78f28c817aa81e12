"""What the lesson on augmentation draws and counts: variants, bytes, images a second, and a transform that harms.

Sources: ``torch.utils.benchmark`` for the timing (warm-up, repetition, median); Shorten and Khoshgoftaar 2019, "A
survey on Image Data Augmentation for Deep Learning", for transforms that change the label.
"""

import math
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch.utils.benchmark import Timer
from tqdm import tqdm

from speedkit import loading
from speedkit.comparison.stats import NEEDED_PAIRS, judge_points
from speedkit.lab.picture import Picture, drawn
from speedkit.lab.tables import CUT
from speedkit.recipe import Recipe
from speedkit.run import Run, labels
from speedkit.support.settings import smoke
from speedkit.support.table import Table
from speedkit.support.units import number, percent, size
from speedkit.tasks import images as data
from speedkit.train import train

BLOCK = 512  # bytes, the unit of st_blocks
PLAIN = "no transform"
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#8C8C8C", "#222222")


# Variants


def images(count: int) -> torch.Tensor:
    """The first training images of Fashion-MNIST in the kit's split: uint8 [count, 1, 28, 28]; 32 in smoke mode."""
    recipe = Recipe(batch_size=1, subset=min(count, 32) if smoke() else count)
    return loading.drain(data.load(recipe)).train.all()


def variants(transform: Callable, images: torch.Tensor, epochs: int) -> torch.Tensor:
    """What a training sees of the images in its first epochs: uint8 [epochs, N, C, H, W].

    transform: (image uint8 [C, H, W], key) -> image, with the keys that the loader gives.
    """
    count = len(images)
    return torch.stack(
        [
            torch.stack([transform(image, epoch * count + i) for i, image in enumerate(images)])
            for epoch in range(epochs)
        ]
    )


def variants_sheet(transform: Callable, images: torch.Tensor, epochs: int) -> Picture:
    """A row an image: as it is stored, then what each epoch sees of it; arguments as in :func:`variants`."""
    seen = variants(transform, images, epochs)
    rows = {f"image {i}": torch.cat([images[i : i + 1], seen[:, i]]) for i in range(len(images))}
    return sheet(f"stored, then epochs 1 to {epochs}", **rows)


@drawn(lambda caption, **rows: f"{caption}: {', '.join(name.replace('_', ' ') for name in rows)}")
def sheet(caption: str, **rows: torch.Tensor) -> Picture:
    """Pictures in rows: name -> uint8 [n, C, H, W] with one or three channels. ``_`` in a name is drawn as a space."""
    columns = max(len(pictures) for pictures in rows.values())
    figure = Figure(figsize=(9, 0.9 * len(rows) + 0.35))
    figure.suptitle(caption, x=0.01, ha="left", fontsize=10, parse_math=False)
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for line, (name, pictures) in zip(axes, rows.items(), strict=True):
        line[0].text(-0.15, 0.5, name.replace("_", " "), transform=line[0].transAxes, ha="right", va="center")
        for place in line:
            place.axis("off")
        for place, picture in zip(line, pictures, strict=False):
            place.imshow(picture.permute(1, 2, 0).numpy(), cmap="gray", vmin=0, vmax=255)
    figure.subplots_adjust(left=0.17, right=0.99, bottom=0.02, top=1 - 0.35 / figure.get_figheight(), wspace=0.05)
    return figure


# Bytes


def on_disk(images: torch.Tensor) -> tuple[int, int]:
    """Bytes of the images uint8 [N, C, H, W] as PNG files: (their contents, the blocks that the disk gives them).

    The files are really written, to a temporary folder, and deleted. Blocks are the contents where the system does
    not tell them.
    """
    with tempfile.TemporaryDirectory(prefix="speedkit-") as folder:
        paths = [Path(folder) / f"{i}.png" for i in range(len(images))]
        for path, image in zip(paths, images, strict=True):
            pixels = image.permute(1, 2, 0).numpy()
            Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(path)
        stats = [path.stat() for path in paths]
    contents = sum(stat.st_size for stat in stats)
    blocks = sum(getattr(stat, "st_blocks", 0) for stat in stats) * BLOCK
    return contents, blocks or contents


def bytes_kept(**ways: torch.Tensor) -> Table:
    """A row a way of keeping images: how many, bytes in memory, bytes on the disk, and times the first row's memory.

    ways: name -> uint8 [N, C, H, W], written as files and counted; a tensor of another shape is a view that lives in
    memory only, and is counted as the memory behind it.
    """
    rows, first = [], None
    for name, kept in ways.items():
        memory = min(kept.nbytes, kept.untyped_storage().nbytes())  # of a part, of a view that repeats its pixels
        first = first or memory
        contents, blocks = on_disk(kept) if kept.ndim == 4 else (math.nan, math.nan)
        texts = [number(len(kept)), size(memory), size(contents), size(blocks), f"{memory / first:.2f}"]
        rows.append([name.replace("_", " "), *texts])
    heading = ["kept", "images", "in memory", "PNG contents", "PNG files, on the disk", "memory, times the first row"]
    return Table(heading, rows, "On the disk a file takes whole blocks. n/a: kept in memory only.")


# Images a second


def images_per_s(count: int, min_s: float = 0.3, **ways: Callable) -> Table:
    """How fast ``count`` images are made ready in each way: median and quartiles of at least ``min_s`` seconds.

    ways: name -> a function without arguments that makes ``count`` images ready. Warmed up, and on a GPU waited for,
    by ``torch.utils.benchmark``.
    """
    rows, first = [], None
    for name, way in ways.items():
        timer = Timer("way()", globals={"way": way}, num_threads=torch.get_num_threads())
        taken = timer.blocked_autorange(min_run_time=0.01 if smoke() else min_s)
        low, median, high = count / np.quantile(taken.times, [0.75, 0.5, 0.25])
        first = first or median
        texts = [number(median), f"{number(low)} to {number(high)}", f"{1e6 / median:.3g} µs", f"{median / first:.3g}"]
        rows.append([name.replace("_", " "), *texts])
    caption = CUT if smoke() else ""
    return Table(
        ["way", "images/s, median", "half of the readings", "time an image", "times the first row"], rows, caption
    )


def supply_and_demand(*runs: Run) -> Table:
    """A row a run: images/s that its loader delivers, that its device could take, and the share of waiting.

    Delivered and taken are the batch size over the medians of waiting and of computing, from the run's own columns.
    """
    rows = []
    for label, run in zip(labels(runs), runs, strict=True):
        delivered, taken = (_rate(run, name) for name in ("wait_s", "compute_s"))
        sentence = run.where_time_goes()
        rows.append([label, number(delivered), number(taken), percent(run.waiting_share), sentence])
    caption = CUT if any(run.smoke for run in runs) else ""
    return Table(["run", "delivered, images/s", "taken, images/s", "waiting", "so"], rows, caption)


def _rate(run, name):
    median = run.median(name)
    return run.recipe.batch_size / median if median > 0 else math.nan


# Accuracy


def gap(*runs: Run) -> Table:
    """A row a run: accuracy on training images (as stored, not augmented), on validation images, and the difference."""
    rows = []
    for label, run in zip(labels(runs), runs, strict=True):
        training, validation = run.last("train_accuracy"), run.last("validation_accuracy")
        rows.append([label, percent(training), percent(validation), _points(training - validation)])
    caption = "After the last epoch of one run each: a look, not a comparison."
    caption += f" {CUT}" if any(run.smoke for run in runs) else ""
    return Table(["run", "training accuracy", "validation accuracy", "training above validation"], rows, caption)


@drawn(lambda *runs: f"Training and validation accuracy by epoch: {', '.join(labels(runs))}")
def curves(*runs: Run) -> Picture:
    """Training (dashed) and validation accuracy (solid) after each epoch, a colour a run."""
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    axes = figure.subplots()
    for label, run, colour in zip(labels(runs), runs, _colours(len(runs)), strict=True):
        columns = run.epoch_columns("train_accuracy", "validation_accuracy")
        for (name, values), dash in zip(columns.items(), ("--", "-"), strict=True):
            words = f"{label}, {name.split('_')[0].replace('train', 'training')}"
            axes.plot(range(1, len(values) + 1), values * 100, dash, color=colour, label=words, marker=".")
    axes.set_xlabel("epoch", parse_math=False)
    axes.set_ylabel("accuracy, %", parse_math=False)
    axes.grid(alpha=0.3)
    for words in axes.legend(fontsize=8).get_texts():
        words.set_parse_math(False)
    return figure


def _colours(count):
    return [COLOURS[i % len(COLOURS)] for i in range(count)]


def train_with(transform: Callable | None, recipe: Recipe) -> Run:
    """Trains with one's own transform in the place of the kit's: (image uint8 [C, H, W], key) -> image, or None.

    Raises:
        ValueError: the recipe has workers, which a function from a notebook's cell cannot reach, or keeps its images on
            the device, where no image passes through the transform.
    """
    if recipe.workers or recipe.cache == "device":
        raise ValueError(
            f"workers={recipe.workers}, cache={recipe.cache!r} cannot be used with a transform of your own: "
            "give workers=0 and cache='off'."
        )

    def dataset(source, cache, augment):
        return loading.Images(source, cache, transform)

    return loading.drain(train(recipe, dataset=dataset))


def harm(recipe: Recipe, seeds: int = NEEDED_PAIRS, **transforms: Callable) -> Table:
    """Trains without a transform and with each, for the same seeds: validation accuracies, and a verdict each.

    transforms: name -> (image uint8 [C, H, W], key) -> image.
    """
    seeds, ways = 1 if smoke() else seeds, {PLAIN: None, **transforms}
    found = {name: [] for name in ways}
    with tqdm(total=seeds * len(ways), unit="run", file=sys.stdout) as bar:
        for seed in range(seeds):  # interleaved, so that nothing favours one of them
            for name, transform in ways.items():
                run = train_with(transform, recipe.but(seed=recipe.seed + seed))
                found[name].append(run.last("validation_accuracy"))
                bar.update()
    rows = []
    for name, accuracies in found.items():
        points = [100 * (mine - plain) for mine, plain in zip(accuracies, found[PLAIN], strict=True)]
        said = ", ".join(percent(accuracy) for accuracy in accuracies)
        differences = ["", ""] if name == PLAIN else judge_points(points)
        rows.append([name.replace("_", " "), said, *differences])
    return Table(["transform", "validation accuracy, a seed each", f"points against {PLAIN}", "verdict"], rows)


def _points(share):
    return f"{100 * share:+.1f} points" if math.isfinite(share) else "n/a"
