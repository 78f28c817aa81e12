"""One's own pictures: files in one folder per class."""

import os
from collections import Counter
from pathlib import Path

import torch

from speedkit.support.errors import DataError
from speedkit.support.faults import shown
from speedkit.support.messages import Message
from speedkit.tasks import decoding, folders
from speedkit.tasks.cache_file import stamps
from speedkit.tasks.data import Source, split
from speedkit.tasks.decoding import decoded

FILE_SIZE = 64  # pixels on each side of a picture from a file or database, unless the recipe says otherwise


class Decoded(Source):
    """Pictures that are decoded when they are read, each cut to a square of ``image_size``.

    ``found``: what is known of the set: messages. ``done``: what was done to the pictures read in this process.
    """

    def __init__(self, labels: torch.Tensor, image_size: int):
        self.labels, self.image_size, self.found, self.done = labels, image_size, (), Counter()

    def notes(self) -> tuple:
        return (*self.found, *decoding.notes(self.done))


class Pictures(Decoded):
    """Picture files. ``fix``: what to do about one that cannot be read.

    ``span``: the range of levels of the whole set, see :func:`decoding.squared`.
    """

    def __init__(self, paths: list, labels: torch.Tensor, image_size: int, fix: str = decoding.REPLACE):
        super().__init__(labels, image_size)
        self.paths, self.fix, self.span = paths, fix, None

    def read(self, position: int) -> torch.Tensor:
        path = self.paths[position]
        try:
            return decoded(path, self.image_size, span=self.span, done=self.done)
        except Exception as error:
            raise decoding.unreadable(path, error, self.fix) from None

    def identity(self) -> tuple:
        return decoding.versions(), self.image_size, self.span, stamps(self.paths)


def from_folder(recipe, path):
    """The training, validation and test source of a folder of class folders, and the class names.

    Raises:
        DataError: ``path`` is not a folder of that kind.
    """
    folder = folders.found_in(Path(os.path.expanduser(path)).absolute())
    paths = [path for inside in folder.classes.values() for path in inside]
    labels = [label for label, inside in enumerate(folder.classes.values()) for __ in inside]
    if len(paths) < 3:
        words = "{path} holds {count} pictures: at least three are needed, to train, to validate and to test."
        raise DataError(Message(words, path=shown(path), count=len(paths)))
    order = split(len(paths)).tolist()
    labels, size = torch.tensor(labels)[order], recipe.image_size or FILE_SIZE
    parts = [Pictures([paths[i] for i in order[part]], labels[part], size) for part in in_three(len(order))]
    train = parts[0]
    train.paths, train.labels = train.paths[: recipe.subset], train.labels[: recipe.subset]
    span, found = decoding.span_of(paths), folders.notes(folder)
    for part in parts:
        part.span, part.found, part.done = span, found, train.done
    return *parts, tuple(folder.classes)


def in_three(count: int) -> tuple[slice, slice, slice]:
    """The positions to train on, to validate on and to test on: a tenth each for the last two."""
    held = max(1, count // 10)
    return slice(2 * held, None), slice(0, held), slice(held, 2 * held)
