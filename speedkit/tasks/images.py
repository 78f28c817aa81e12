"""The image task: where pictures come from, how they are split, the networks, and what counts as correct."""

import contextlib
import gzip
import hashlib
import io
import os
import random
import shutil
import socket
import sqlite3
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import psutil
import torch
import torch.nn.functional as F
from PIL import Image, UnidentifiedImageError
from torch import nn

from speedkit.recipe import Recipe
from speedkit.run import Progress
from speedkit.support.errors import DataError
from speedkit.support.messages import N_
from speedkit.support.settings import data_folder, generated_folder
from speedkit.techniques import batchnorm as batchnorm_module

SPLIT_SEED = 20_170_825  # every recipe splits training from validation images by this one
VALIDATION = 5_000
PROBE = 1_000  # training images that training accuracy is measured on
FILE_SIZE = 64  # pixels on each side of a picture from a file or database, unless the recipe says otherwise
CLASSES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
FILES = {
    ("train", "images"): "train-images-idx3-ubyte.gz",
    ("train", "labels"): "train-labels-idx1-ubyte.gz",
    ("test", "images"): "t10k-images-idx3-ubyte.gz",
    ("test", "labels"): "t10k-labels-idx1-ubyte.gz",
}


# Sources: what reads image i of a data set. Classes of a module, so that every start method can send them to workers.


class Source:
    """Images with ``labels`` int64 [N]; ``read`` gives the one at a position, uint8 [C, H, W]."""

    def read_first(self, count: int, what: str):
        """The first ``count`` images and labels. A generator: it yields Progress on ``what``, and returns both."""
        images = []
        try:
            for position in range(count):
                images.append(self.read(position))
                if position % 50 == 0:
                    yield Progress(what, position, count)
        finally:
            self.close()
        return torch.stack(images), self.labels[:count]

    def close(self):
        """Closes what reading has opened; another read opens it again."""


class Arrays(Source):
    """Images in memory, uint8 [N, C, H, W], which are resized if ``image_size`` is not their own."""

    def __init__(self, images: torch.Tensor, labels: torch.Tensor, image_size: int | None = None):
        self.images, self.labels = images, labels
        self.image_size = image_size if image_size != images.shape[-1] else None

    def read(self, position: int) -> torch.Tensor:
        image = self.images[position]
        return image if self.image_size is None else _resized(image[None], self.image_size)[0]

    def all(self) -> torch.Tensor:
        if self.image_size is None:
            return self.images
        return torch.cat([_resized(some, self.image_size) for some in self.images.split(500)])

    def read_first(self, count, what):
        yield from ()  # too quick for any progress
        return Arrays(self.images[:count], self.labels, self.image_size).all(), self.labels[:count]


class Pictures(Source):
    """Picture files, each cut to a square of ``image_size``. ``fix``: what to do about one that cannot be read."""

    def __init__(self, paths: list, labels: torch.Tensor, image_size: int, fix: str = "replace or remove it."):
        self.paths, self.labels, self.image_size, self.fix = paths, labels, image_size, fix

    def read(self, position: int) -> torch.Tensor:
        path = self.paths[position]
        try:
            return decoded(path, self.image_size)
        except (OSError, UnidentifiedImageError, Image.DecompressionBombError, SyntaxError) as error:
            raise DataError(f"{path} cannot be read as a picture ({error}): {self.fix}") from error


class Blobs(Source):
    """JPEG BLOBs in a SQLite database: ``read`` is one query and one decoding. Each process has its own connection."""

    def __init__(self, path: Path, first: int, labels: torch.Tensor, image_size: int):
        """first: the row of position 0."""
        self.path, self.first, self.labels, self.image_size = path, first, labels, image_size
        self.owner, self.connection = None, None

    def read(self, position: int) -> torch.Tensor:
        if self.owner != os.getpid():
            uri = f"{self.path.resolve().as_uri()}?mode=ro&immutable=1"
            self.connection = sqlite3.connect(uri, uri=True, check_same_thread=False)
            self.owner = os.getpid()
        query = "SELECT jpeg FROM images WHERE position = ?"
        try:
            (blob,) = self.connection.execute(query, (self.first + position,)).fetchone()
            return decoded(io.BytesIO(blob), self.image_size)
        except (sqlite3.Error, TypeError, OSError) as error:
            raise DataError(f"{self.path} is damaged ({error}): delete it, and it will be made again.") from error

    def close(self):
        if self.owner == os.getpid():
            self.connection.close()
        self.owner, self.connection = None, None

    def __getstate__(self):
        return self.__dict__ | {"owner": None, "connection": None}


class Rendered(Source):
    """Pictures that go through the same JPEG as stored ones, but are made when they are read."""

    def __init__(self, images: torch.Tensor, labels: torch.Tensor, stored_size: int, image_size: int):
        self.images, self.labels, self.stored_size, self.image_size = images, labels, stored_size, image_size

    def read(self, position: int) -> torch.Tensor:
        jpeg = rendered(self.images[position], position, self.stored_size)
        return decoded(io.BytesIO(jpeg), self.image_size)


class Wrapped(Source):
    """Some images of a data set of torchvision's."""

    def __init__(self, dataset, positions: Sequence[int], labels: torch.Tensor, image_size: int):
        self.dataset, self.positions, self.labels, self.image_size = dataset, positions, labels, image_size

    def read(self, position: int) -> torch.Tensor:
        return _squared(self.dataset[self.positions[position]][0], self.image_size)


def decoded(file, image_size: int) -> torch.Tensor:
    """A picture file or file object as uint8 [3, image_size, image_size]: shorter side resized, middle cut out."""
    with Image.open(file) as image:
        return _squared(image, image_size)


def _squared(image, image_size):
    image = image.convert("RGB")
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    box = (left, top, left + side, top + side)
    image = image.resize((image_size, image_size), Image.Resampling.BILINEAR, box=box)
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()


def _resized(images, image_size):
    larger = F.interpolate(images.float(), size=(image_size, image_size), mode="bilinear", antialias=True)
    return larger.round_().clamp_(0, 255).to(torch.uint8)


# What a recipe trains on


@dataclass
class Data:
    """A split data set: the training source, and what is decoded before the clock starts, whatever the switches say.

    ``validation`` and ``probe`` are (images uint8 [M, C, H, W], labels int64 [M]); ``probe`` are the first training
    images; ``mean`` and ``std`` are float [C], of the probe's pixels. ``making_s``: seconds spent making a generated
    set, 0 if it was there already.
    """

    train: Source
    validation: tuple[torch.Tensor, torch.Tensor]
    probe: tuple[torch.Tensor, torch.Tensor]
    test: Source
    classes: tuple[str, ...]
    making_s: float = 0.0

    def read_test(self):
        """Images and labels of the test set, decoded now. A generator: it yields :class:`Progress` and returns both."""
        return self.test.read_first(len(self.test.labels), N_("test images decoded"))

    @property
    def shape(self) -> tuple[int, int, int]:
        return tuple(self.probe[0].shape[1:])

    @property
    def mean(self) -> torch.Tensor:
        return self.probe[0].float().mean(dim=(0, 2, 3))

    @property
    def std(self) -> torch.Tensor:
        return self.probe[0].float().std(dim=(0, 2, 3))


def load(recipe: Recipe):
    """The data of a recipe. A generator: it yields :class:`Progress` while it works and returns :class:`Data`.

    Raises:
        DataError: images are missing or damaged, or there are too few.
    """
    kind, _, rest = recipe.data.partition(":")
    making_s = 0.0
    if kind == "fashion-mnist":
        train, validation, test, classes = _from_arrays(recipe)
    elif kind in ("jpeg", "sqlite"):
        train, validation, test, classes, making_s = yield from _from_generated(recipe)
    elif kind == "folder":
        train, validation, test, classes = _from_folder(recipe, Path(rest).expanduser())
    else:
        train, validation, test, classes = _from_torchvision(recipe, *rest.split(":", 1))
    count = len(train.labels)
    if count < recipe.batch_size:
        raise DataError(
            f"{recipe.data} has {count} training images, fewer than batch_size={recipe.batch_size}: lower it."
        )
    validation = yield from validation.read_first(len(validation.labels), N_("validation images decoded"))
    probe = yield from train.read_first(min(PROBE, count), N_("training images decoded for the accuracy"))
    return Data(train, validation, probe, test, classes, making_s)


def correct(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """How many of a batch's labels the logits [B, classes] name: what accuracy counts."""
    return (logits.argmax(1) == labels).sum()


def _split(count):
    return torch.randperm(count, generator=torch.Generator().manual_seed(SPLIT_SEED))


# Fashion-MNIST


def fashion_mnist(part: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Images uint8 [N, 1, 28, 28] and labels int64 [N] of "train" (60,000) or "test" (10,000).

    Raises:
        DataError: a file is missing, or its SHA-256 is not the one in ``SHA256SUMS``.
    """
    return _fashion_mnist(data_folder(), part)


@lru_cache(maxsize=4)
def _fashion_mnist(folder, part):
    images = np.frombuffer(_verified(folder, FILES[part, "images"]), np.uint8, offset=16).reshape(-1, 1, 28, 28)
    labels = np.frombuffer(_verified(folder, FILES[part, "labels"]), np.uint8, offset=8)
    return torch.from_numpy(images.copy()), torch.from_numpy(labels.astype(np.int64))


def _verified(folder, name):
    path, sums = folder / name, folder / "SHA256SUMS"
    fix = "get it back with: git checkout -- data (or copy it from another copy of speedkit)."
    try:
        packed = path.read_bytes()
        expected = sums.read_text(errors="replace").splitlines()
    except OSError as error:
        raise DataError(f"{error.filename or path} cannot be read ({error.strerror}): {fix}") from error
    if f"{hashlib.sha256(packed).hexdigest()}  {name}" not in expected:
        raise DataError(f"{path} is damaged (its SHA-256 is not the one in SHA256SUMS): {fix}")
    return gzip.decompress(packed)


def _fashion_mnist_split(recipe):
    """All images and labels, and the positions of those to train on and of those to validate on."""
    images, labels = fashion_mnist("train")
    order = _split(len(images))
    return images, labels, order[:-VALIDATION][: recipe.subset], order[-VALIDATION:]


def _from_arrays(recipe):
    images, labels, train, validation = _fashion_mnist_split(recipe)
    size = recipe.image_size
    parts = [Arrays(images[positions], labels[positions], size) for positions in (train, validation)]
    return *parts, Arrays(*fashion_mnist("test"), size), CLASSES


def _from_folder(recipe, path):
    from torchvision.datasets import ImageFolder

    try:
        found = ImageFolder(path)
    except OSError as error:
        raise DataError(f"{path} is not a folder of class folders with pictures: {error}") from error
    order = _split(len(found.samples)).tolist()
    paths, labels = [found.samples[i][0] for i in order], torch.tensor(found.targets)[order]
    held, size = max(1, len(order) // 10), recipe.image_size or FILE_SIZE
    parts = slice(2 * held, None), slice(0, held), slice(held, 2 * held)  # a tenth to validate, a tenth to test
    train, validation, test = (Pictures(paths[part], labels[part], size) for part in parts)
    train.paths, train.labels = train.paths[: recipe.subset], train.labels[: recipe.subset]
    return train, validation, test, tuple(found.classes)


def _from_torchvision(recipe, name, root=None):
    from torchvision import datasets

    root = root or str(data_folder())
    if name not in datasets.__all__:
        raise DataError(f"torchvision has no data set {name!r}.")
    try:
        train, test = _train_and_test(getattr(datasets, name), root)
    except TypeError as error:
        raise DataError(f"torchvision's {name} has no train and test part that speedkit can use ({error}).") from error
    except (RuntimeError, OSError) as error:
        raise DataError(f"{name} is not in {root}: {error}") from error
    labels, test_labels = _labels(train), _labels(test)
    size = recipe.image_size or np.asarray(train[0][0]).shape[0]
    order = _split(len(train)).tolist()
    held = min(VALIDATION, max(1, len(order) // 10))
    parts = [Wrapped(train, part, labels[part], size) for part in (order[:-held][: recipe.subset], order[-held:])]
    classes = getattr(train, "classes", None) or range(int(torch.cat([labels, test_labels]).max()) + 1)
    return *parts, Wrapped(test, range(len(test)), test_labels, size), tuple(map(str, classes))


def _train_and_test(dataset, root):
    try:
        return [dataset(root, train=part, download=False) for part in (True, False)]
    except TypeError:  # some, like SVHN, name their parts
        return [dataset(root, split=part, download=False) for part in ("train", "test")]


def _labels(dataset):
    for labels in (getattr(dataset, name, None) for name in ("targets", "labels")):
        if labels is not None:
            return torch.as_tensor(labels).long()
    return torch.tensor([dataset[i][1] for i in range(len(dataset))])


# The generated sets: the same clothes as colour JPEGs, in files or as BLOBs in a SQLite database


def rendered(image: torch.Tensor, position: int, size: int) -> bytes:
    """One picture, uint8 [1, 28, 28], as a colour JPEG of ``size`` x ``size`` pixels; its position decides the tint."""
    grey = Image.fromarray(image[0].numpy()).resize((size, size), Image.Resampling.BILINEAR)
    draw = random.Random(position)
    strengths = [draw.uniform(0.4, 1.0) for _ in range(3)]
    bands = [grey.point([round(level * strength) for level in range(256)]) for strength in strengths]
    file = io.BytesIO()
    Image.merge("RGB", bands).save(file, "JPEG", quality=90)
    return file.getvalue()


def _from_generated(recipe):
    images, labels, train, validation = _fashion_mnist_split(recipe)
    validation = validation[: max(200, min(VALIDATION, len(train) // 4))]
    chosen, stored, size = torch.cat([train, validation]), recipe.stored_size, recipe.image_size or FILE_SIZE
    start = time.perf_counter()
    target = yield from _generated(recipe.data, images, chosen, stored)
    making_s = time.perf_counter() - start
    labels, count = (labels[train], labels[validation]), len(train)
    if recipe.data == "sqlite":
        parts = [Blobs(target, first, part, size) for first, part in zip((0, count), labels, strict=True)]
    else:
        paths = [target / _file_name(i) for i in range(len(chosen))]
        fix = f"delete {target}, and it will be made again."
        parts = [Pictures(paths[:count], labels[0], size, fix), Pictures(paths[count:], labels[1], size, fix)]
    test = Rendered(*(part[: len(validation)] for part in fashion_mnist("test")), stored, size)
    return *parts, test, CLASSES, making_s


def _file_name(position):
    return f"{position // 1000:03d}/{position:06d}.jpg"


def _generated(kind, images, chosen, size):
    """Makes the set unless it is there: under a temporary name, then renamed, so that it is whole or absent."""
    target = generated_folder() / f"{kind}-{size}-{len(chosen)}{'.sqlite' if kind == 'sqlite' else ''}"
    if os.path.exists(target):
        if not os.access(target, os.R_OK):
            raise DataError(
                f"{target} was made by another user, and cannot be read: name a folder of your own in the environment "
                "variable SPEEDKIT_GENERATED."
            )
        return target
    what = N_("pictures written into the database, once") if kind == "sqlite" else N_("JPEG files written, once")
    temporary = target.with_name(f".{target.name}.{socket.gethostname()}.{os.getpid()}.tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(target.parent)
        write = _write_sqlite if kind == "sqlite" else _write_files
        jpegs = ((i, rendered(images[chosen[i]], int(chosen[i]), size)) for i in range(len(chosen)))
        for done in write(temporary, jpegs):
            if done % 50 == 0:
                yield Progress(what, done, len(chosen))
        try:
            os.rename(temporary, target)
        except OSError:
            if not target.exists():  # else another kernel was faster: its set is whole, and ours is not needed
                raise
    except (OSError, sqlite3.OperationalError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(
            f"{target} could not be made ({reason}): free some disk space, or name a folder that can be written "
            "in the environment variable SPEEDKIT_GENERATED."
        ) from error
    finally:
        _remove(temporary)
    return target


def _write_files(temporary, jpegs):
    for position, jpeg in jpegs:
        path = temporary / _file_name(position)
        if position % 1000 == 0:
            path.parent.mkdir(parents=True)
        path.write_bytes(jpeg)
        yield position


def _write_sqlite(temporary, jpegs):
    with contextlib.closing(sqlite3.connect(temporary)) as connection, connection:
        connection.execute("PRAGMA journal_mode = OFF")
        connection.execute("CREATE TABLE images (position INTEGER PRIMARY KEY, jpeg BLOB NOT NULL)")
        for position, jpeg in jpegs:
            connection.execute("INSERT INTO images VALUES (?, ?)", (position, jpeg))
            yield position


def _remove_leftovers(folder):
    """Removes what killed processes of this machine left half made; in a container one may have had our number."""
    for path in folder.glob(f".*.{socket.gethostname()}.*.tmp"):
        pid = path.name.split(".")[-2]
        if pid.isdigit() and (int(pid) == os.getpid() or not psutil.pid_exists(int(pid))):
            _remove(path)


def _remove(path):
    if os.path.isdir(path):  # path.is_dir() would raise if another user's folder may not be read
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()


# The networks


class Normalise(nn.Module):
    """uint8 [B, C, H, W] to float32 with zero mean and unit variance in each channel."""

    def __init__(self, mean: torch.Tensor, std: torch.Tensor):
        """mean, std: float [C], of pixel values from 0 to 255."""
        super().__init__()
        self.register_buffer("mean", mean.float().view(1, -1, 1, 1))
        self.register_buffer("scale", (1 / std.float().clamp(min=1.0)).view(1, -1, 1, 1))

    def forward(self, images):
        return (images.float() - self.mean) * self.scale


def build(name: str, shape: tuple[int, int, int], classes: int, *, mean, std, batchnorm: bool = False) -> nn.Module:
    """The network called ``name`` ("small", "wide", "mlp", "resnet18"), its weights drawn from torch's generator.

    shape: (channels, height, width) of an image. Returns uint8 [B, C, H, W] -> logits [B, classes].
    """
    bodies = {"small": _convolutional, "wide": _wide, "mlp": _mlp, "resnet18": _resnet18}
    return nn.Sequential(Normalise(mean, std), *bodies[name](shape, classes, batchnorm))


def _convolutional(shape, classes, with_norm, widths=(16, 32, 64)):
    channels, side = shape[0], shape[1]
    layers = []
    for width in widths:
        # Pooling first: the norm and the ReLU then touch a quarter of the values.
        layers += [batchnorm_module.convolution(channels, width, with_norm), nn.MaxPool2d(2)]
        layers += [batchnorm_module.norm(width, with_norm), nn.ReLU()]
        channels, side = width, side // 2
    if side > 3:
        layers.append(nn.AdaptiveAvgPool2d(3))
        side = 3
    return [*layers, nn.Flatten(), nn.Linear(channels * side * side, classes)]


def _wide(shape, classes, with_norm):
    return _convolutional(shape, classes, with_norm, widths=(64, 256, 256))


def _mlp(shape, classes, with_norm, width=512):
    features = shape[0] * shape[1] * shape[2]
    norm = nn.BatchNorm1d if with_norm else lambda width: nn.Identity()
    layers = [nn.Flatten()]
    for _ in range(2):
        layers += [nn.Linear(features, width), norm(width), nn.ReLU()]
        features = width
    return [*layers, nn.Linear(width, classes)]


def _resnet18(shape, classes, with_norm):
    from torchvision.models import resnet18

    norm = nn.BatchNorm2d if with_norm else lambda width: nn.Identity()
    network = resnet18(num_classes=classes, norm_layer=norm, zero_init_residual=False)
    if shape[1] <= 64:  # small pictures: keep their resolution at the entrance
        network.conv1 = nn.Conv2d(shape[0], 64, kernel_size=3, padding=1, bias=False)
        network.maxpool = nn.Identity()
    elif shape[0] != 3:
        network.conv1 = nn.Conv2d(shape[0], 64, kernel_size=7, stride=2, padding=3, bias=False)
    return [network]
