"""torchvision's classification datasets that are already on disk: each has its own arguments and attributes."""

import inspect
import os
from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
import torchvision
from PIL import Image

from speedkit.support.errors import DataError
from speedkit.support.faults import reason, shown
from speedkit.support.messages import N_, Message
from speedkit.support.settings import data_folder
from speedkit.tasks import Progress, decoding, images
from speedkit.tasks.cache_file import digest, stamps
from speedkit.tasks.data import split
from speedkit.tasks.pictures import FILE_SIZE, Decoded, in_three

TRAIN = ("trainval", "train", "train-standard", "2021_train")  # names of parts, the first that there is
TEST = ("test", "val", "valid", "validation", "2021_valid")  # a part without labels does not count
LABELS = ("targets", "labels", "_labels", "y")  # attributes with a label for each picture
PAIRS = ("_samples", "samples", "imgs", "index", "_flat_character_images")  # with a tuple for each: file and label
FILES = ("_image_files", "_images", "images", *PAIRS)
NAMES = ("classes", "categories", "all_categories", "class_names")  # of the classes
OPTIONS = {"download": False, "loader": decoding.opened}
SETTINGS = {"EMNIST": {"split": "balanced"}}  # of its six sets
VIDEOS = N_("its items are videos")
OTHER_CLASSES = N_("the classes of its test part are not those of its training part")
NO_CLASS = N_("its pictures have no single class each")
REFUSED = {
    "FakeData": N_("its pictures are random noise, and in no files"),
    "ImageFolder": N_('for pictures of your own, use data="folder:PATH"'),
    "DatasetFolder": N_('for pictures of your own, use data="folder:PATH"'),
    "LSUN": N_("worker processes cannot share its LMDB databases"),
    "LSUNClass": N_("worker processes cannot share its LMDB databases"),
}
REFUSED |= dict.fromkeys(("Kinetics", "HMDB51", "UCF101", "MovingMNIST"), VIDEOS)
REFUSED |= dict.fromkeys(("Omniglot", "LFWPeople"), OTHER_CLASSES)
REFUSED |= dict.fromkeys(("CelebA", "LFWPairs", "PhotoTour", "SBU", "Flickr8k", "Flickr30k", "VisionDataset"), NO_CLASS)
REFUSED |= dict.fromkeys(("CocoCaptions", "CocoDetection", "VOCSegmentation", "VOCDetection", "Cityscapes"), NO_CLASS)
REFUSED |= dict.fromkeys(("SBDataset", "WIDERFace", "Kitti"), NO_CLASS)
WHERE = N_("torchvision's {name}, picture {position}")
MOST = 1000  # a larger label is not the position of a class without a name


class Wrapped(Decoded):
    """Some images of a torchvision dataset. ``name``: what torchvision calls it."""

    def __init__(self, name, dataset, positions: Sequence[int], labels: torch.Tensor, image_size: int):
        super().__init__(labels, image_size)
        self.name, self.dataset, self.positions = name, dataset, positions

    def read(self, position: int) -> torch.Tensor:
        index = self.positions[position]
        try:
            return decoding.squared(self.dataset[index][0], self.image_size, done=self.done)
        except DataError:
            raise
        except Exception as error:
            where = self._file(index) or Message(WHERE, name=self.name, position=index)
            raise decoding.unreadable(where, error) from None

    def _file(self, index):
        for name in FILES:
            found = getattr(self.dataset, name, None)
            if isinstance(found, list) and len(found) == len(self.dataset):
                parts = found[index] if isinstance(found[index], tuple) else (found[index],)
                paths = [part for part in parts if isinstance(part, str | os.PathLike) and os.path.isabs(part)]
                if paths:
                    return os.fspath(paths[0])
        return None

    def identity(self) -> tuple:
        known = decoding.versions(), torchvision.__version__, torch.__version__, type(self.dataset).__qualname__
        known += self.image_size, digest(np.array(self.positions, np.int64))
        files, held = [self._file(index) for index in self.positions], getattr(self.dataset, "data", None)
        if all(files):
            return *known, stamps(files)
        if isinstance(held, np.ndarray | torch.Tensor):
            return *known, tuple(held.shape), str(held.dtype), digest(held)
        root = getattr(self.dataset, "_base_folder", None) or getattr(self.dataset, "root", None)
        if root is None or not os.path.isdir(root):
            return super().identity()
        below = (os.path.join(folder, name) for folder, __, names in os.walk(root) for name in sorted(names))
        return *known, stamps(sorted(below))


def from_torchvision(recipe, name, root=None):
    """The training, validation and test source of a torchvision dataset in ``root``, and the class names.

    A generator: it yields :class:`Progress` and returns these four.

    Raises:
        DataError: torchvision has no such dataset, ``root`` does not hold it, or its pictures have no class each.
    """
    root = os.path.abspath(os.path.expanduser(root or data_folder()))
    parts, values = _parts(name, _class_of(name), root)
    labels = []
    for part in parts:
        _check_item(name, part)
        labels.append((yield from _labels(name, part)))
    labels, classes = _numbered(labels, [_names(part) for part in parts])
    if len(classes) < 2:
        raise DataError(Message("torchvision's {name} in {root} has only one class.", name=name, root=root))
    order = split(len(parts[0])).tolist()
    if len(parts) == 2:
        held = min(images.VALIDATION, max(1, len(order) // 10))
        cut = [order[:-held], order[-held:], list(range(len(parts[1])))]
    else:
        cut = [order[part] for part in in_three(len(order))]
    cut[0] = cut[0][: recipe.subset]
    size = recipe.image_size or _size_of(parts[0])
    which = (0, 0, len(parts) - 1)
    sources = [Wrapped(name, parts[i], some, labels[i][some], size) for i, some in zip(which, cut, strict=True)]
    found = _found(name, [len(part) for part in parts], values, classes)
    for source in sources:
        source.found, source.done = found, sources[0].done
    return *sources, classes


def _class_of(name):
    from torchvision import datasets

    dataset = getattr(datasets, name, None) if name in datasets.__all__ else None
    if not inspect.isclass(dataset):
        raise DataError(Message("torchvision has no dataset {name}.", name=repr(name)))
    flow = dataset.__module__.endswith(("._optical_flow", "._stereo_matching"))
    if why := NO_CLASS if flow else REFUSED.get(name):
        raise DataError(Message("torchvision's {name} cannot be used here: {why}.", name=name, why=Message(why)))
    return dataset


def _parts(name, dataset, root):
    """The training and the test part, or the whole set if it has none, and what torchvision calls them."""
    known = _parameters(dataset)
    options = {option: value for option, value in OPTIONS.items() if option in known}
    make = partial(_made, name, root, partial(dataset, root, **options, **SETTINGS.get(name, {})))
    if "train" in known:
        return [make(train=True), make(train=False)], ("train=True", "train=False")
    for argument in ("split", "version"):
        if argument in known:
            found = [_first(name, make, argument, values) for values in (TRAIN, TEST)]
            return [part for part, __ in found], [f'{argument}="{value}"' for __, value in found]
    return [make()], ()


def _parameters(dataset):
    """The arguments of a class, and those that it hands on to the classes above."""
    names = []
    for kind in dataset.__mro__:
        if "__init__" in vars(kind):
            parameters = inspect.signature(kind.__init__).parameters.values()
            names += [each.name for each in parameters]
            if all(each.kind is not each.VAR_KEYWORD for each in parameters):
                break
    return names


class _NoSuchPart(Exception):
    pass


def _made(name, root, dataset, **part):
    """One part of a dataset; whatever torchvision raises becomes one sentence."""
    values = {"name": name, "root": shown(root)}
    try:
        return dataset(**part)
    except Exception as error:
        if isinstance(error, ValueError | KeyError | AssertionError) and part.keys() & {"split", "version"}:
            raise _NoSuchPart from error
        why, missing = reason(error), isinstance(error, RuntimeError | OSError)
        if isinstance(error, ImportError) or (missing and "install" in why):
            words = N_("torchvision's {name} needs a package that is not installed ({why}).")
        elif missing:
            why = why.split(". You can")[0].rstrip(".")
            words = N_(
                "{name} is not in {root}, or not all of it is ({why}): download it there with torchvision first."
            )
        elif isinstance(error, TypeError):
            words = N_("torchvision's {name} cannot be opened ({why}).")
        else:
            words = N_("torchvision's {name} in {root} is damaged ({why}).")
    raise DataError(Message(words, why=why, **values))


def _first(name, make, argument, values):
    """The first part of these names that there is and that has labels."""
    refused, unlabelled = None, False
    for value in values:
        try:
            part = make(**{argument: value})
        except _NoSuchPart as error:
            if "nknown value" not in str(error.__cause__):
                refused = refused or error.__cause__
            continue
        if len(part) and _label(part, 0) is not None:
            return part, value
        unlabelled = True
    values = {"name": name, "kind": Message(N_("training") if values is TRAIN else N_("test"))}
    if refused:
        words, values["why"] = (
            N_("torchvision's {name} has no {kind} part that can be read ({why})."),
            reason(refused),
        )
    elif unlabelled:
        words = N_("torchvision's {name} has no {kind} part with labels.")
    else:
        words = N_("torchvision's {name} has no {kind} part.")
    raise DataError(Message(words, **values))


def _item(dataset, position):
    try:
        return dataset[position]
    except DataError:
        raise
    except Exception as error:
        where = Message(WHERE, name=type(dataset).__name__, position=position)
        raise decoding.unreadable(where, error) from None


def _label(dataset, position):
    return _item(dataset, position)[1]


def _check_item(name, dataset):
    if not len(dataset):
        raise DataError(Message("torchvision's {name} has no pictures.", name=name))
    image = _item(dataset, 0)[0]
    if not isinstance(image, Image.Image):
        words = N_("torchvision's {name} cannot be used here: its items are of type {kind}, not pictures.")
        raise DataError(Message(words, name=name, kind=type(image).__name__))


def _labels(name, dataset):
    """The label of each picture, from the lists that a dataset holds if they are right, else by reading all of it."""
    picks = sorted({0, len(dataset) // 2, len(dataset) - 1})
    truth = [_plain(name, _label(dataset, pick)) for pick in picks]
    for found in _lists(dataset):
        if len(found) == len(dataset) and [_plain(name, found[pick], None) for pick in picks] == truth:
            return [_plain(name, label) for label in found]
    labels = []
    for position in range(len(dataset)):
        labels.append(_plain(name, _label(dataset, position)))
        if position % 50 == 0:
            yield Progress(N_("labels read"), position, len(dataset))
    return labels


def _lists(dataset):
    """What may be the labels of a dataset."""
    for name in LABELS:
        found = getattr(dataset, name, None)
        if isinstance(found, np.ndarray | torch.Tensor):
            found = np.asarray(found)
            yield from [found.tolist()] if found.ndim == 1 else found.reshape(len(found), -1).T[:10].tolist()
        elif isinstance(found, Sequence) and not isinstance(found, str):
            yield found
    for name in PAIRS:
        found = getattr(dataset, name, None)
        if isinstance(found, list) and found and isinstance(found[0], tuple):
            yield [pair[1] for pair in found]
            yield [pair[0] for pair in found]
    if hasattr(dataset, "h5py"):  # PCAM
        file = dataset._base_folder / dataset._FILES[dataset._split]["targets"][0]
        with dataset.h5py.File(file) as stored:
            yield np.asarray(stored["y"]).reshape(-1).tolist()


REFUSE = object()


def _plain(name, label, otherwise=REFUSE):
    """A label as a whole number or a text; ``otherwise``, if given, for one that is neither."""
    if isinstance(label, np.ndarray | np.generic | torch.Tensor):
        label = label.tolist()
    while isinstance(label, list | tuple) and len(label) == 1:
        label = label[0]
    if isinstance(label, float) and label.is_integer():
        label = int(label)
    if isinstance(label, int | str):
        return label if isinstance(label, str) else int(label)
    if otherwise is not REFUSE:
        return otherwise
    several = isinstance(label, list | tuple | dict)
    words = N_("torchvision's {name} cannot be used here: the label of a picture is {label}, not one class.")
    raise DataError(Message(words, name=name, label=f"{len(label)} values" if several else repr(label)[:40]))


def _names(dataset):
    """The names of a dataset's classes; None if it has none."""
    for name in NAMES:
        found = getattr(dataset, name, None)
        if isinstance(found, Sequence) and not isinstance(found, str) and len(found):
            return [", ".join(each) if isinstance(each, tuple) else str(each) for each in found]
    numbers = getattr(dataset, "class_to_idx", None)
    if isinstance(numbers, dict) and numbers and sorted(numbers.values()) == list(range(len(numbers))):
        return [str(name) for name in sorted(numbers, key=numbers.get)]
    return None


def _numbered(labels, names):
    """Labels int64 [N] from 0 on, the same in each part, and the names of the classes."""
    whole = all(isinstance(label, int) for part in labels for label in part)
    named = zip(labels, names, strict=True)
    known = all(some and whole and min(part) >= 0 and max(part) < len(some) for part, some in named)
    if known and names[0] != names[-1]:  # the same number may be another class there
        labels = [[some[label] for label in part] for part, some in zip(labels, names, strict=True)]
        return _counted(labels, list(dict.fromkeys(name for some in names for name in some)))
    if whole:
        lowest, highest = min(map(min, labels)), max(map(max, labels))
        if (lowest >= 0 and highest < len(names[0])) if names[0] else (lowest == 0 and highest < MOST):
            classes = names[0] or map(str, range(highest + 1))
            return [torch.tensor(part) for part in labels], tuple(classes)
    known = sorted({label for part in labels for label in part}, key=lambda label: (isinstance(label, str), label))
    labels, classes = _counted(labels, known)
    return labels, tuple(names[0]) if whole and names[0] and len(names[0]) == len(classes) else classes


def _counted(labels, known):
    numbers = {label: number for number, label in enumerate(known)}
    return [torch.tensor([numbers[label] for label in part]) for part in labels], tuple(map(str, known))


def _size_of(dataset):
    """The side of its pictures, if some are squares of one size; else that of picture files."""
    picks = sorted({0, len(dataset) // 2, len(dataset) - 1})
    (first, *others) = {side for pick in picks for side in _item(dataset, pick)[0].size}
    return FILE_SIZE if others else max(8, first)


def _found(name, counts, values, classes):
    if not values:
        words = N_("{name}: {count} pictures in {classes} classes; it has no test part, so a tenth of them is one.")
        return (Message(words, name=name, count=counts[0], classes=len(classes)),)
    words = N_(
        "{name}: {train} pictures to train and validate on ({first}), {test} to test on ({second}), in {classes} "
        "classes."
    )
    more = {"first": values[0], "second": values[1], "classes": len(classes)}
    return (Message(words, name=name, train=counts[0], test=counts[1], **more),)
