"""Exercises on caching: before the augmentation, and what a small cache holds."""

import math

from speedkit.lessons.exercise import (
    Exercise,
    NotAttempted,
    WrongAnswer,
    call,
    choice,
    in_short,
    is_blank,
    is_function,
    number_question,
)

_COUNT = 5
_SHARED = "A second `Cached` found what an earlier one had kept: make the store in `__init__`, one for each."


class _Source:
    """Stands for a dataset that is slow to read: it counts its reads and gives a different number at each position."""

    def __init__(self, start=0):
        self.start, self.reads = start, []

    def __repr__(self):
        return "dataset"

    def __len__(self):
        return _COUNT

    def __getitem__(self, i):
        if not 0 <= i < _COUNT:
            raise IndexError(f"there is no image {i}")
        self.reads.append(i)
        return self.start + 100 * (i + 1)


class _Augment:
    """Stands for a random transform: no two calls give the same, and each result tells what it was made of."""

    def __init__(self):
        self.calls = 0

    def __repr__(self):
        return "augment"

    def __call__(self, image):
        self.calls += 1
        return image + self.calls / 1000


def _judge_cached(answer):
    is_function(answer)
    source, augment = _Source(), _Augment()
    cached = call(answer, source, augment, shown="Cached(dataset, augment)")
    if not hasattr(type(cached), "__getitem__"):
        raise WrongAnswer("`Cached(dataset, augment)[i]` has to work: it needs a method `__getitem__(self, i)`.")
    if is_blank(type(cached).__getitem__):
        raise NotAttempted
    if source.reads:
        raise WrongAnswer(f"It read {len(source.reads)} images before any was asked for: read one at its first use.")

    def get(i):
        return call(lambda i: cached[i], i, shown=f"cached[{i}]")

    order = [0, 1, 2, 1, 0, 2, 2]
    images = [get(i) for i in order]
    if not hasattr(images[0], "__float__"):
        raise WrongAnswer(f"`cached[0]` should give an augmented image; it gave {in_short(images[0])}.")
    sources = [round(float(image)) // 100 - 1 for image in images]
    reads = sorted(source.reads)
    if augment.calls == 0:
        raise WrongAnswer("The images come back as they are stored: `augment` was never called.")
    if sources != order:
        raise WrongAnswer(
            f"Asked for {order}, it gave images that were made from {sources}: is each kept under its own position?"
        )
    variants = [image for i, image in zip(order, images, strict=True) if i == 2]
    if len(set(variants)) == 1:
        raise WrongAnswer(
            "The same variant came back each time: the augmentation is frozen. Keep the image as it was *before* "
            "`augment`, and augment at every access."
        )
    if len(reads) < len(set(order)):
        raise WrongAnswer(_SHARED)
    if reads != sorted(set(order)):
        if len(reads) == len(order):
            raise WrongAnswer("Every access read the source again: nothing was kept.")
        raise WrongAnswer(
            f"{len(reads)} reads of the source for {len(set(order))} different images: read each of them once, at its "
            "first use."
        )
    marks = [round(1000 * (float(image) - 100 * (i + 1))) for i, image in zip(order, images, strict=True)]
    if marks != list(range(1, len(order) + 1)):
        raise WrongAnswer(
            "At each access `augment` should be called once, on the image as it was read: here variants were made of "
            "variants, or thrown away."
        )
    try:
        length = len(cached)
    except Exception:
        raise WrongAnswer("All right but for `len(cached)`, which a loader asks for: add `__len__`.") from None
    if length != _COUNT:
        raise WrongAnswer(f"`len(cached)` gave {length}, and the dataset has {_COUNT} images.")
    other = call(answer, _Source(50), _Augment(), shown="Cached(dataset, augment)")
    if not math.isclose(float(call(lambda i: other[i], 0, shown="cached[0]")), 150.001):
        raise WrongAnswer(_SHARED)
    return "What is dear and always the same is done once; what is random is done at every access."


cached = Exercise(
    "Write a class `Cached(dataset, augment)`: `cached[i]` gives `augment(dataset[i])`, with `dataset[i]` read "
    "from the dataset at its first use only, and a new random variant at every access; `len(cached)` is the dataset's.",
    _judge_cached,
    (
        "What is the same in every epoch, and what has to differ?",
        "Keep `dataset[i]` in a dictionary, under `i`; call `augment` on what comes out of it, each time.",
    ),
    """class Cached:
    def __init__(self, dataset, augment):
        self.dataset, self.augment, self.kept = dataset, augment, {}

    def __len__(self):
        return len(self.dataset)

    def __getitem__(self, i):
        if i not in self.kept:
            self.kept[i] = self.dataset[i]
        return self.augment(self.kept[i])""",
)

hit_rate = number_question(
    "A cache has room for 1,500 of 6,000 images. It keeps the first that come, and gives none up. Every epoch reads "
    "each image once, in a new random order. In the second epoch, what share of the reads (0 to 1) finds its image in "
    "the cache?",
    0.25,
    "1,500 of 6,000, whatever the order: each image is asked for once, and a quarter of them are there.",
    {
        25: "That is in per cent: give a share, from 0 to 1.",
        0.75: "That is the share that is *not* found.",
        0: "0 would mean that nothing was kept.",
        1: "Only 1,500 of the 6,000 images have room in it.",
        0.125: "That is the mean over the first two epochs; the second one alone is asked for.",
        4: "That is images for each place in the cache: the other way round.",
        1500: "That is the number of hits: divide by the number of reads.",
    },
    ("How many images does an epoch ask for? How many of them are kept?",),
    within=1e-4,
)

with_workers = choice(
    "A dataset keeps decoded images in an ordinary dictionary of its own. Four workers load from it, started anew in "
    "each epoch. What does the cache save in the second epoch?",
    "d",
    {
        "a": (
            "All reads.",
            "Each worker has its own copy of the dataset: the dictionary in the training process stays empty.",
        ),
        "b": (
            "About a quarter of the reads.",
            "That could be, if the workers lived on: each would find what it had read itself. These are started anew.",
        ),
        "c": (
            "All reads but the first of each worker.",
            "A worker keeps what it reads, but it ends with the epoch, and its dictionary with it.",
        ),
        "d": (
            "Nothing.",
            "Each worker fills a copy of its own, which ends with it: hence shared memory, or a memory-mapped file.",
        ),
    },
    ("Whose memory is the dictionary in? What happens to it when that process ends?",),
)
