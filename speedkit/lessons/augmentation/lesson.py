"""Pictures and tables of the lesson on augmentation: variants, bytes, images per second, and transforms that harm.

Sources: ``torch.utils.benchmark`` for the timing (warm-up, repetition, median); Shorten and Khoshgoftaar 2019, "A
survey on Image Data Augmentation for Deep Learning", for transforms that change the label.
"""

import itertools
import math
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch.utils.benchmark import Timer

from speedkit import loading
from speedkit.comparison.stats import NEEDED_PAIRS, judge_points
from speedkit.lab.live import progress
from speedkit.lab.picture import Picture, drawn
from speedkit.lab.tables import CUT, marked, warning
from speedkit.recipe import SWITCHES, Recipe
from speedkit.run import Run, labels
from speedkit.support.settings import smoke
from speedkit.support.table import Table
from speedkit.support.units import number, percent, size
from speedkit.tasks import images as data
from speedkit.train import fit

BLOCK = 512  # bytes, the unit of st_blocks
PLAIN, OFF = "no transform", "no augmentation"
COLOURS = ("#8C8C8C", "#009E73", "#CC79A7", "#222222")  # not the panel's orange and blue: waiting and computing


# Variants


def images(count: int) -> torch.Tensor:
    """The first training images of Fashion-MNIST: uint8 [count, 1, 28, 28]; at most 32 in smoke mode."""
    recipe = Recipe(batch_size=1, subset=min(count, 32) if smoke() else count)
    return loading.drain(data.load(recipe)).train.all()


def variants(transform: Callable, images: torch.Tensor, epochs: int) -> torch.Tensor:
    """The variants of the images in the first epochs of a run: uint8 [epochs, N, C, H, W].

    transform: (image uint8 [C, H, W], key) -> image; it is called with the loader's keys.
    """
    count = len(images)
    return torch.stack(
        [
            torch.stack([transform(image, epoch * count + i) for i, image in enumerate(images)])
            for epoch in range(epochs)
        ]
    )


def variants_sheet(transform: Callable, images: torch.Tensor, epochs: int) -> Picture:
    """One row per image: the stored image, then its variant in each epoch; arguments as in :func:`variants`."""
    seen = variants(transform, images, epochs)
    rows = {f"image {i}": torch.cat([images[i : i + 1], seen[:, i]]) for i in range(len(images))}
    return sheet(f"stored, then epochs 1 to {epochs}", **rows)


@drawn(lambda caption, **rows: f"{caption}: {', '.join(name.replace('_', ' ') for name in rows)}")
def sheet(caption: str, **rows: torch.Tensor) -> Picture:
    """Rows of images: name -> uint8 [n, C, H, W] with one or three channels. ``_`` in a name is drawn as a space."""
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
    """Bytes of the images uint8 [N, C, H, W] as PNG files: (file contents, disk blocks).

    The files are written to a temporary folder and deleted again. If the system does not report blocks, the second
    number equals the first.
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


def bytes_stored(**ways: torch.Tensor) -> Table:
    """One row per way of storing images: how many, bytes in memory and on disk, and memory relative to the first row.

    ways: name -> uint8 [N, C, H, W], which is also written as files; a tensor of another shape is a view that exists
    in memory only, and is counted by the memory behind it.
    """
    rows, first = [], None
    for name, stored in ways.items():
        memory = min(stored.nbytes, stored.untyped_storage().nbytes())  # a slice, or a view that repeats its pixels
        first = first or memory
        contents, blocks = on_disk(stored) if stored.ndim == 4 else (math.nan, math.nan)
        texts = [number(len(stored)), size(memory), size(contents), size(blocks), f"{memory / first:.2f}"]
        rows.append([name.replace("_", " "), *texts])
    heading = ["stored", "images", "in memory", "PNG contents", "PNG files on disk", "memory relative to the first row"]
    return Table(heading, rows, "On disk, a file takes whole blocks. n/a: in memory only.")


# Images per second


def images_per_s(count: int, min_s: float = 0.3, **ways: Callable) -> Table:
    """How fast ``count`` images are prepared in each way: median and quartiles over at least ``min_s`` seconds.

    ways: name -> a function without arguments that prepares ``count`` images. ``torch.utils.benchmark`` warms it up,
    and waits for a GPU.
    """
    rows, first = [], None
    for name, way in ways.items():
        timer = Timer("way()", globals={"way": way}, num_threads=torch.get_num_threads())
        taken = timer.blocked_autorange(min_run_time=0.01 if smoke() else min_s)
        low, median, high = count / np.quantile(taken.times, [0.75, 0.5, 0.25])
        first = first or median
        ratio = median / first
        relative = f"{ratio:.3g}" if ratio >= 0.1 else f"1/{1 / ratio:.0f}"
        texts = [number(median), f"{number(low)} to {number(high)}", f"{1e6 / median:.3g} µs", relative]
        rows.append([name.replace("_", " "), *texts])
    heading = ["way", "images/s, median", "middle half of the readings", "time per image"]
    return Table([*heading, "speed relative to the first row"], rows, CUT if smoke() else "")


def supply_and_demand(*runs: Run) -> Table:
    """One row per run: images/s that its loader supplies, images/s that its device can use, and the share of waiting.

    The two rates are the batch size over the median time in the loader and over that of computing, from the run's own
    columns. The time in the loader is the host's: where a GPU is the slower one, it never waits for its data.
    """
    rows = []
    for name, run in zip(names(runs), runs, strict=True):
        loading = "load_s" if math.isfinite(run.median("load_s")) else "wait_s"  # runs of earlier versions
        supply, demand = (_rate(run, column) for column in (loading, "compute_s"))
        rows.append(
            [marked(name, run), number(supply), number(demand), percent(run.waiting_share), run.where_time_goes()]
        )
    heading = ["run", "loader supplies, images/s", "device can use, images/s", "waiting", "what it means"]
    return Table(heading, rows, CUT if any(run.smoke for run in runs) else "", warning=warning(*runs))


def names(runs: Sequence[Run]) -> list[str]:
    """Distinct labels that name the augmentation, and another switch only if the runs differ in it."""
    recipes = [run.recipe for run in runs]
    shared = [name for name in SWITCHES if len({getattr(recipe, name) for recipe in recipes}) == 1]
    off = {name: getattr(Recipe(), name) for name in shared if name != "augment"}
    return [label.replace(Recipe().label, OFF) for label in labels([Run(recipe.but(**off)) for recipe in recipes])]


def _rate(run, name):
    median = run.median(name)
    return run.recipe.batch_size / median if median > 0 else math.nan


# Accuracy


def gap(*runs: Run) -> Table:
    """One row per run: accuracy on training images (as stored, not augmented), on validation images, and the gap."""
    rows = []
    for name, run in zip(names(runs), runs, strict=True):
        training, validation = run.last("train_accuracy"), run.last("validation_accuracy")
        rows.append([name, percent(training), percent(validation), _points(training - validation)])
    caption = "After the last epoch, one run per row: a first look, not a comparison."
    caption += f" {CUT}" if any(run.smoke for run in runs) else ""
    return Table(["run", "training accuracy", "validation accuracy", "gap: training minus validation"], rows, caption)


@drawn(lambda *runs: f"Training and validation accuracy by epoch: {', '.join(names(runs))}")
def curves(*runs: Run) -> Picture:
    """Training (dashed) and validation accuracy (solid) after each epoch, in one colour per run."""
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    axes = figure.subplots()
    for name, run, colour in zip(names(runs), runs, itertools.cycle(COLOURS), strict=False):
        columns = run.epoch_columns("train_accuracy", "validation_accuracy").values()
        for kind, dash, values in zip(("training", "validation"), ("--", "-"), columns, strict=True):
            words = f"{name}, {kind}"
            axes.plot(range(1, len(values) + 1), values * 100, dash, color=colour, label=words, marker=".")
    axes.set_xlabel("epoch", parse_math=False)
    axes.set_ylabel("accuracy, %", parse_math=False)
    axes.grid(alpha=0.3)
    for words in axes.legend(fontsize=8).get_texts():
        words.set_parse_math(False)
    return figure


def train_with(transform: Callable | None, recipe: Recipe) -> Run:
    """Trains with your own transform instead of the kit's: (image uint8 [C, H, W], key) -> image, or None.

    Raises:
        ValueError: the recipe has workers, which cannot import a function from a notebook cell, or caches its images on
            the device, where no image passes through the transform.
    """
    if recipe.workers or recipe.cache == "device":
        raise ValueError(
            f"workers={recipe.workers}, cache={recipe.cache!r} cannot be used with a transform of your own: "
            "choose workers=0 and cache='off'."
        )

    def dataset(source, cache, augment):
        return loading.Samples(source, cache, transform)

    return fit(recipe, dataset=dataset)


def harm(recipe: Recipe, seeds: int = NEEDED_PAIRS, **transforms: Callable) -> Table:
    """Trains without a transform and with each of several, with equal seeds: validation accuracies and verdicts.

    transforms: name -> (image uint8 [C, H, W], key) -> image.
    """
    seeds, ways = 1 if smoke() else seeds, {PLAIN: None, **transforms}
    found = {name: [] for name in ways}
    with progress(total=seeds * len(ways), unit="run") as bar:
        for seed in range(seeds):  # interleaved, so that no transform is favoured
            for name, transform in ways.items():
                run = train_with(transform, recipe.but(seed=recipe.seed + seed))
                found[name].append(run.last("validation_accuracy"))
                bar.update()
    rows = []
    for name, accuracies in found.items():
        points = [100 * (mine - plain) for mine, plain in zip(accuracies, found[PLAIN], strict=True)]
        listed = ", ".join(percent(accuracy) for accuracy in accuracies)
        verdict = ["", ""] if name == PLAIN else judge_points(points)
        rows.append([name.replace("_", " "), listed, *verdict])
    heading = ["transform", "validation accuracy per seed", f"points compared with {PLAIN}", "verdict"]
    return Table(heading, rows, CUT if smoke() else "")


def _points(share):
    return f"{100 * share:+.1f} points" if math.isfinite(share) else "n/a"
