"""The user's own pictures: files in one folder per class, or a torchvision dataset."""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError

from speedkit.support.errors import DataError
from speedkit.support.settings import data_folder
from speedkit.tasks import images

FILE_SIZE = 64  # pixels on each side of a picture from a file or database, unless the recipe says otherwise


class Pictures(images.Source):
    """Picture files, each cut to a square of ``image_size``. ``fix``: what to do about one that cannot be read."""

    def __init__(self, paths: list, labels: torch.Tensor, image_size: int, fix: str = "replace or remove it."):
        self.paths, self.labels, self.image_size, self.fix = paths, labels, image_size, fix

    def read(self, position: int) -> torch.Tensor:
        path = self.paths[position]
        try:
            return decoded(path, self.image_size)
        except (OSError, UnidentifiedImageError, Image.DecompressionBombError, SyntaxError) as error:
            raise DataError(f"{path} cannot be read as a picture ({error}): {self.fix}") from error


class Wrapped(images.Source):
    """Some images of a torchvision dataset."""

    def __init__(self, dataset, positions: Sequence[int], labels: torch.Tensor, image_size: int):
        self.dataset, self.positions, self.labels, self.image_size = dataset, positions, labels, image_size

    def read(self, position: int) -> torch.Tensor:
        return squared(self.dataset[self.positions[position]][0], self.image_size)


def decoded(file, image_size: int) -> torch.Tensor:
    """A picture file or file object as uint8 [3, image_size, image_size]: shorter side resized, middle cut out."""
    with Image.open(file) as image:
        return squared(image, image_size)


def squared(image, image_size):
    """The middle square of a PIL image, resized: uint8 [3, image_size, image_size]."""
    image = image.convert("RGB")
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    box = (left, top, left + side, top + side)
    image = image.resize((image_size, image_size), Image.Resampling.BILINEAR, box=box)
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()


def from_folder(recipe, path):
    """The training, validation and test source of a folder of class folders, and the class names.

    Raises:
        DataError: ``path`` is not a folder of that kind.
    """
    from torchvision.datasets import ImageFolder

    try:
        found = ImageFolder(path)
    except OSError as error:
        raise DataError(f"{path} is not a folder of class folders with pictures: {error}") from error
    order = images.split(len(found.samples)).tolist()
    paths, labels = [found.samples[i][0] for i in order], torch.tensor(found.targets)[order]
    held, size = max(1, len(order) // 10), recipe.image_size or FILE_SIZE
    parts = slice(2 * held, None), slice(0, held), slice(held, 2 * held)  # a tenth to validate, a tenth to test
    train, validation, test = (Pictures(paths[part], labels[part], size) for part in parts)
    train.paths, train.labels = train.paths[: recipe.subset], train.labels[: recipe.subset]
    return train, validation, test, tuple(found.classes)


def from_torchvision(recipe, name, root=None):
    """The training, validation and test source of a torchvision dataset in ``root``, and the class names.

    Raises:
        DataError: torchvision has no dataset of this name, or ``root`` does not hold it.
    """
    from torchvision import datasets

    root = root or str(data_folder())
    if name not in datasets.__all__:
        raise DataError(f"torchvision has no dataset {name!r}.")
    try:
        train, test = _train_and_test(getattr(datasets, name), root)
    except TypeError as error:
        raise DataError(f"torchvision's {name} has no train and test part that speedkit can use ({error}).") from error
    except (RuntimeError, OSError) as error:
        raise DataError(f"{name} is not in {root}: {error}") from error
    labels, test_labels = _labels(train), _labels(test)
    size = recipe.image_size or np.asarray(train[0][0]).shape[0]
    order = images.split(len(train)).tolist()
    held = min(images.VALIDATION, max(1, len(order) // 10))
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
