"""What all tasks share: sources of samples, the split dataset, what counts as correct, and keyed random numbers."""

import gzip
import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from uuid import uuid4

import torch

from speedkit.support.errors import DataError
from speedkit.support.messages import N_, Message
from speedkit.support.settings import data_folder, in_repository
from speedkit.tasks import Progress

SPLIT_SEED = 20_170_825  # of the split into training, validation and test samples, the same for every recipe
PROBE = 1_000  # training samples that training accuracy is measured on
AT_ONCE = 2**22  # numbers evaluated at a time: more would need more memory than the training


# Sources, which read the samples of a dataset: in a module, so that every start method can send them to workers.


class Source:
    """Samples with ``labels`` int64 [N]; ``read`` returns the one at a position, all of one shape and type.

    A cache stores what ``read`` returns. :meth:`examples` makes of it what the network gets.
    """

    labels: torch.Tensor
    dtype = torch.uint8  # of what is read
    stored: tuple | None = None  # its shape, if an input has another

    def __len__(self):
        return len(self.labels)

    def examples(self, samples, positions, keys=None, augment=None):
        """Inputs and labels of a batch: ``samples`` [B, ...], as they were read at ``positions`` int64 [B].

        keys: int64 [B], one for each sample and epoch; augment: a callable (sample, key), or None. In place.
        """
        if augment:
            for sample, key in zip(samples, keys.tolist(), strict=True):  # copying the batch would cost as much again
                sample.copy_(augment(sample, key))
        return samples, self.labels[positions]

    def gathered(self, samples, positions, keys, augment):
        """The examples at ``positions``, of all ``samples`` [N, ...]."""
        return self.examples(samples.index_select(0, positions), positions, keys, augment)

    def samples(self, count: int, what: str):
        """A generator of Progress on ``what``; returns the first samples [count, ...] as they are read."""
        samples = []
        try:
            for position in range(count):
                samples.append(self.read(position))
                if position % 50 == 0:
                    yield Progress(what, position, count)
        finally:
            self.close()
        return torch.stack(samples)

    def read_first(self, count: int, what: str):
        """The same; returns the inputs [count, ...] and labels [count, ...] of the first samples."""
        samples = yield from self.samples(count, what)
        return self.examples(samples, torch.arange(count))

    def close(self):
        """Closes what reading opened; the next read opens it again."""

    def identity(self) -> tuple:
        """All that decides the sample at each position, a tensor by its content. By default never the same twice."""
        return (uuid4().hex,)

    def notes(self) -> tuple:
        """What the run's reader should know about the samples, as messages, once the first were read."""
        return ()


# What a recipe trains on


@dataclass
class Data:
    """A split dataset: the training source, and the parts decoded before the clock starts, whatever the switches are.

    ``validation`` and ``probe`` are (inputs [M, ...], labels [M, ...]); ``probe`` are the first training samples.
    ``augment``: the callable that :meth:`Source.examples` takes. ``on_device``: (recipe, source, samples) -> what
    gathers the batches of a device cache, see :class:`OnDevice`. ``copies``: how many times the size of the samples
    that needs. ``top``: how many guesses the network has. ``at_once``: samples evaluated at a time. ``trivial``: the
    validation accuracy without learning. ``making_s``: seconds spent making a generated set, 0 if it was there already.
    ``notes``: messages for the run's reader.
    """

    train: Source
    validation: tuple[torch.Tensor, torch.Tensor]
    probe: tuple[torch.Tensor, torch.Tensor]
    test: Source
    classes: tuple[str, ...]
    making_s: float = 0.0
    notes: tuple = ()
    augment: Callable | None = None
    on_device: Callable | None = None
    top: int = 1
    copies: int = 1
    at_once: int = 500
    trivial: float = math.nan

    def read_test(self):
        """Inputs and labels of the test set, decoded now. A generator: it yields :class:`Progress` and returns both."""
        return self.test.read_first(len(self.test), N_("test samples read"))

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of an input."""
        return tuple(self.probe[0].shape[1:])

    @property
    def stored(self) -> tuple[int, ...]:
        """The shape of a sample as it is read, and cached."""
        return self.train.stored or self.shape


def prepared(
    recipe, train: Source, validation: Source, test: Source, classes, *, trivial, numbers: int | None = None, **more
):
    """The :class:`Data` of three sources. A generator: it yields :class:`Progress` and returns it.

    trivial: (inputs, labels) -> the accuracy on them without learning; numbers: the most that a network makes of a
    sample at once, by default those of an input; more: other fields of Data.

    Raises:
        DataError: samples are damaged, or there are too few.
    """
    count = len(train)
    if count < recipe.batch_size:
        words = N_("{data} has {count} training samples, fewer than batch_size={batch}: lower it.")
        raise DataError(Message(words, data=recipe.data, count=count, batch=recipe.batch_size))
    held = yield from validation.read_first(len(validation), N_("validation samples read"))
    probe = yield from train.read_first(min(PROBE, count), N_("training samples read for training accuracy"))
    more |= {"trivial": trivial(*held), "at_once": at_once(numbers or held[0][0].numel()), "notes": train.notes()}
    return Data(train, held, probe, test, tuple(classes), **more)


def held_out(count: int, most: int) -> int:
    """How many samples are validated on after training on ``count``: a quarter as many, from 200 to ``most``."""
    return max(200, min(most, count // 4))


def at_once(numbers: int) -> int:
    """How many samples are evaluated at a time, if the network makes so many numbers of each."""
    return min(500, max(32, AT_ONCE // numbers))


class OnDevice:
    """All samples in one tensor on the device, from which many batches are gathered at a time."""

    BATCHES = 32

    def __init__(self, source: Source, samples: torch.Tensor, augment):
        wide = samples.dtype == torch.uint16  # no device indexes it
        self.source, self.augment = source, augment
        self.samples = samples.int() if wide else samples

    def batches(self, order: torch.Tensor, epoch: int, generator):
        """Inputs and labels for each row of ``order``, int64 [batches, B], on the device."""
        for some in order.split(self.BATCHES):
            positions = some.flatten()
            keys = positions + epoch * len(self.source)
            parts = self.source.gathered(self.samples, positions, keys, self.augment)
            yield from zip(*(part.view(*some.shape, *part.shape[1:]) for part in parts), strict=True)


def correct(logits: torch.Tensor, labels: torch.Tensor, top: int = 1) -> torch.Tensor:
    """How many of the labels [B, ...] are among the ``top`` largest logits [B, classes, ...]: a tensor of one value."""
    if top == 1:
        return (logits.argmax(1) == labels).sum()
    return (logits.topk(top, 1).indices == labels.unsqueeze(1)).any(1).sum()


def share_of_commonest(labels: torch.Tensor, training: torch.Tensor) -> float:
    """The accuracy on ``labels`` of whoever always says the commonest of the ``training`` labels; both int64 [N]."""
    return float((labels == training.bincount().argmax()).double().mean())


def split(count: int) -> torch.Tensor:
    """The fixed shuffle of ``count`` samples that every recipe splits: positions int64 [count]."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(SPLIT_SEED))


def drawn(below, seed: int, keys: torch.Tensor, salt: int = 0) -> torch.Tensor:
    """A random whole number from 0 to ``below`` - 1 for each key, int64 like ``keys``; the same on every device.

    below: a number, or a tensor like ``keys``. Source: Steele et al. 2014, "Fast splittable pseudorandom number
    generators" (the mixing function of SplitMix64).
    """
    mixed = keys * _signed(0x9E3779B97F4A7C15) + _signed((seed * 1_000_003 + salt) * 0xD1342543DE82EF95)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ _shifted(mixed, shift)) * _signed(factor)
    return _shifted(mixed ^ _shifted(mixed, 31), 11) % below  # 53 bits, never negative


def _shifted(numbers, bits):
    return (numbers >> bits) & ((1 << (64 - bits)) - 1)  # torch's shift copies the sign


def _signed(number):
    number %= 1 << 64
    return number - (1 << 64) if number >> 63 else number


def bundled(name: str) -> bytes:
    """The content of a gzipped file under ``data``.

    Raises:
        DataError: it is missing, or its SHA-256 is not the one in ``SHA256SUMS``.
    """
    folder = data_folder()
    path, sums = folder / name, folder / "SHA256SUMS"
    fix = "get it back with: git checkout -- data (or copy it from another copy of speedkit)."
    if not in_repository():
        fix = "speedkit was installed without its data: name the folder data of its repository in SPEEDKIT_DATA."
    try:
        packed = path.read_bytes()
        expected = sums.read_text(errors="replace").splitlines()
    except OSError as error:
        raise DataError(f"{error.filename or path} cannot be read ({error.strerror}): {fix}") from error
    if f"{hashlib.sha256(packed).hexdigest()}  {name}" not in expected:
        raise DataError(f"{path} is damaged (its SHA-256 is not the one in SHA256SUMS): {fix}")
    return gzip.decompress(packed)
