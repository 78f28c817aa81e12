"""Datasets made once from Fashion-MNIST: the same clothes as colour JPEGs, in files or in a SQLite database."""

import io
import random
import time
from functools import partial
from pathlib import Path

import torch
from PIL import Image

from speedkit.support.faults import shown
from speedkit.support.messages import N_, Message
from speedkit.tasks import decoding
from speedkit.tasks import images as images_module
from speedkit.tasks.cache_file import digest, stamps
from speedkit.tasks.data import Source, held_out
from speedkit.tasks.decoding import decoded
from speedkit.tasks.made import Database, made, write_table
from speedkit.tasks.pictures import FILE_SIZE, Pictures


class Blobs(Source):
    """JPEG BLOBs in a SQLite database: ``read`` is one query and one decoding."""

    def __init__(self, path: Path, first: int, labels: torch.Tensor, image_size: int):
        """first: the database's row for position 0."""
        self.path, self.database = path, Database(path)
        self.first, self.labels, self.image_size = first, labels, image_size

    def read(self, position: int) -> torch.Tensor:
        try:
            rows = self.database.rows("SELECT jpeg FROM images WHERE position = ?", (self.first + position,))
            if not rows:
                raise ValueError(f"picture {self.first + position} is missing")
            return decoded(io.BytesIO(rows[0][0]), self.image_size)
        except Exception as error:
            raise self.database.damaged(error) from None

    def identity(self) -> tuple:
        return decoding.versions(), self.image_size, self.first, stamps([self.path])

    def close(self):
        self.database.close()


class Rendered(Source):
    """Pictures that go through JPEG like the stored ones, but are made only when they are read."""

    def __init__(self, images: torch.Tensor, labels: torch.Tensor, stored_size: int, image_size: int):
        self.images, self.labels, self.stored_size, self.image_size = images, labels, stored_size, image_size

    def read(self, position: int) -> torch.Tensor:
        jpeg = rendered(self.images[position], position, self.stored_size)
        return decoded(io.BytesIO(jpeg), self.image_size)


def rendered(image: torch.Tensor, position: int, size: int) -> bytes:
    """One picture, uint8 [1, 28, 28], as a colour JPEG of ``size`` x ``size`` pixels; its position decides the tint."""
    grey = Image.fromarray(image[0].numpy()).resize((size, size), Image.Resampling.BILINEAR)
    draw = random.Random(position)
    strengths = [draw.uniform(0.4, 1.0) for _ in range(3)]
    bands = [grey.point([round(level * strength) for level in range(256)]) for strength in strengths]
    file = io.BytesIO()
    Image.merge("RGB", bands).save(file, "JPEG", quality=90)
    return file.getvalue()


def from_generated(recipe):
    """The training, validation and test source, the classes, and the seconds that making the set took.

    A generator: it yields :class:`Progress` and returns these five.

    Raises:
        DataError: the set cannot be made or read; the message says what to do.
    """
    images, labels, train, validation = images_module.fashion_mnist_split(recipe)
    validation = validation[: held_out(len(train), images_module.VALIDATION)]
    chosen, stored, size = torch.cat([train, validation]), recipe.stored_size, recipe.image_size or FILE_SIZE
    start = time.perf_counter()
    target = yield from _generated(recipe.data, images, chosen, stored)
    making_s = time.perf_counter() - start
    labels, count = (labels[train], labels[validation]), len(train)
    if recipe.data == "sqlite":
        parts = [Blobs(target, first, part, size) for first, part in zip((0, count), labels, strict=True)]
    else:
        paths = [target / _file_name(i) for i in range(len(chosen))]
        fix = Message("delete {folder}, and it will be made again.", folder=shown(target))
        parts = [Pictures(paths[:count], labels[0], size, fix), Pictures(paths[count:], labels[1], size, fix)]
    test = Rendered(*(part[: len(validation)] for part in images_module.fashion_mnist("test")), stored, size)
    return *parts, test, images_module.CLASSES, making_s


def _file_name(position):
    return f"{position // 1000:03d}/{position:06d}.jpg"


def _generated(kind, images, chosen, size):
    name = f"{kind}-{size}-{len(chosen)}-{digest(images[chosen], chosen)[:8]}"
    jpegs = (rendered(images[chosen[i]], int(chosen[i]), size) for i in range(len(chosen)))
    if kind == "jpeg":
        return (yield from made(name, partial(_write_files, jpegs=jpegs), len(chosen), N_("JPEG files written, once")))
    table = partial(
        write_table, create="images (position INTEGER PRIMARY KEY, jpeg BLOB NOT NULL)", rows=enumerate(jpegs)
    )
    return (yield from made(f"{name}.sqlite", table, len(chosen), N_("pictures written into the database, once")))


def _write_files(temporary, jpegs):
    for position, jpeg in enumerate(jpegs):
        path = temporary / _file_name(position)
        if position % 1000 == 0:
            path.parent.mkdir(parents=True)
        path.write_bytes(jpeg)
        yield position
