"""Datasets made once from Fashion-MNIST: the same clothes as colour JPEGs, in files or in a SQLite database."""

import contextlib
import io
import os
import random
import shutil
import socket
import sqlite3
import time
from pathlib import Path

import psutil
import torch
from PIL import Image

from speedkit.support.errors import DataError
from speedkit.support.messages import N_, Message
from speedkit.support.settings import generated_folder
from speedkit.tasks import Progress, decoding
from speedkit.tasks import images as images_module
from speedkit.tasks.cache_file import digest, stamps
from speedkit.tasks.decoding import decoded, reason, shown
from speedkit.tasks.pictures import FILE_SIZE, Pictures


class Blobs(images_module.Source):
    """JPEG BLOBs in a SQLite database: ``read`` is one query and one decoding. Each process has its own connection."""

    def __init__(self, path: Path, first: int, labels: torch.Tensor, image_size: int):
        """first: the database's row for position 0."""
        self.path, self.first, self.labels, self.image_size = path, first, labels, image_size
        self.owner, self.connection = None, None

    def read(self, position: int) -> torch.Tensor:
        query = "SELECT jpeg FROM images WHERE position = ?"
        try:
            if self.owner != os.getpid():
                uri = f"{self.path.resolve().as_uri()}?mode=ro&immutable=1"
                self.connection = sqlite3.connect(uri, uri=True, check_same_thread=False)
                self.owner = os.getpid()
            row = self.connection.execute(query, (self.first + position,)).fetchone()
            if row is None:
                raise ValueError(f"picture {self.first + position} is missing")
            return decoded(io.BytesIO(row[0]), self.image_size)
        except Exception as error:
            self.close()
            words = N_("{path} is damaged ({why}): delete it, and it will be made again.")
            raise DataError(Message(words, path=shown(self.path), why=reason(error))) from None

    def identity(self) -> tuple:
        return decoding.versions(), self.image_size, self.first, stamps([self.path])

    def close(self):
        if self.owner == os.getpid() and self.connection is not None:
            self.connection.close()
        self.owner, self.connection = None, None

    def __getstate__(self):
        return self.__dict__ | {"owner": None, "connection": None}


class Rendered(images_module.Source):
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
    validation = validation[: max(200, min(images_module.VALIDATION, len(train) // 4))]
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
    """Makes the set if it is missing: under a temporary name, then renamed, so that it is whole or absent."""
    name = f"{kind}-{size}-{len(chosen)}-{digest(images[chosen], chosen)[:8]}"
    target = generated_folder() / (f"{name}.sqlite" if kind == "sqlite" else name)
    if os.path.exists(target):
        if not os.access(target, os.R_OK):
            words = N_(
                "{path} was made by another user, and cannot be read: name a folder of your own in the environment "
                "variable SPEEDKIT_GENERATED."
            )
            raise DataError(Message(words, path=target))
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
        words = N_(
            "{path} could not be made ({why}): free some disk space, or name a folder that can be written in the "
            "environment variable SPEEDKIT_GENERATED."
        )
        raise DataError(Message(words, path=target, why=reason(error))) from error
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
    """Removes half-made sets of processes killed on this machine; in a container one may have had our number."""
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
