"""Exercises on caching: the order of cache and augmentation, a cache that is too small, and workers."""

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
_SHARED = "A second `Cached` found the first one's images: create the store in `__init__`, so that each has its own."


class _Source:
    """Stands for a dataset that is slow to read: it records its reads and has a different number at each position."""

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
    """Stands for a random transform: no two calls give the same result, and each result tells its origin."""

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
        raise WrongAnswer("`Cached(dataset, augment)[i]` must work: it needs a method `__getitem__(self, i)`.")
    if is_blank(type(cached).__getitem__):
        raise NotAttempted
    if source.reads:
        raise WrongAnswer(f"It read {len(source.reads)} images before any was asked for: read each at its first use.")

    def get(i):
        return call(lambda i: cached[i], i, shown=f"cached[{i}]")

    order = [0, 1, 2, 1, 0, 2, 2]
    images = [get(i) for i in order]
    if not hasattr(images[0], "__float__"):
        raise WrongAnswer(f"`cached[0]` should return an augmented image; it returned {in_short(images[0])}.")
    sources = [round(float(image)) // 100 - 1 for image in images]
    reads = sorted(source.reads)
    if augment.calls == 0:
        raise WrongAnswer("The images come back without augmentation: `augment` was never called.")
    if sources != order:
        raise WrongAnswer(
            f"Asked for images {order}, it returned images {sources}: is each one stored under its own position?"
        )
    variants = [image for i, image in zip(order, images, strict=True) if i == 2]
    if len(set(variants)) == 1:
        raise WrongAnswer(
            "The same variant came back each time: the augmentation is frozen. Store the image as it was *before* "
            "`augment`, and call `augment` at every access."
        )
    if len(reads) < len(set(order)):
        raise WrongAnswer(_SHARED)
    if reads != sorted(set(order)):
        if len(reads) == len(order):
            raise WrongAnswer("Every access read the source again: nothing was cached.")
        raise WrongAnswer(
            f"{len(reads)} reads of the source for {len(set(order))} different images: read each image once, when it "
            "is first used."
        )
    marks = [round(1000 * (float(image) - 100 * (i + 1))) for i, image in zip(order, images, strict=True)]
    if marks != list(range(1, len(order) + 1)):
        raise WrongAnswer(
            "`augment` should be called once at each access, on the image as it was read. Here, variants were made "
            "from variants, or results were thrown away."
        )
    try:
        length = len(cached)
    except Exception:
        raise WrongAnswer("All correct except `len(cached)`, which a loader needs: add `__len__`.") from None
    if length != _COUNT:
        raise WrongAnswer(f"`len(cached)` returned {length}, but the dataset has {_COUNT} images.")
    other = call(answer, _Source(50), _Augment(), shown="Cached(dataset, augment)")
    if not math.isclose(float(call(lambda i: other[i], 0, shown="cached[0]")), 150.001):
        raise WrongAnswer(_SHARED)
    return "Do expensive, deterministic work once; do random work every time."


cached = Exercise(
    "Write a class `Cached(dataset, augment)`. `cached[i]` returns `augment(dataset[i])`: a new random variant at each "
    "access, but `dataset[i]` itself is read only once, at its first use. (It is an image alone, without a label.) "
    "`len(cached)` is the length of the dataset.",
    _judge_cached,
    (
        "What is the same in every epoch, and what must differ?",
        "Store `dataset[i]` in a dictionary under the key `i`. Call `augment` on the stored image each time.",
    ),
    """class Cached:
    def __init__(self, dataset, augment):
        self.dataset, self.augment, self.store = dataset, augment, {}

    def __len__(self):
        return len(self.dataset)

    def __getitem__(self, i):
        if i not in self.store:
            self.store[i] = self.dataset[i]
        return self.augment(self.store[i])""",
)

hit_rate = number_question(
    "A cache has room for 1,500 of 6,000 images. It keeps the first images that are read and never drops one. Every "
    "epoch asks for each image once, in a new random order. In the second epoch, what share of the images (0 to 1) is "
    "found in the cache?",
    0.25,
    "0.25, whatever the order: each image is asked for once, and 1,500 of the 6,000 are in the cache.",
    {
        25: "That is in per cent: give a share from 0 to 1.",
        0.75: "That is the share that is *not* found.",
        0: "0 would mean that nothing was cached.",
        1: "Only 1,500 of the 6,000 images fit.",
        0.125: "That is the mean over the first two epochs; the question is about the second one alone.",
        4: "That is the number of images per place in the cache: it is the other way round.",
        1500: "That is the number of hits: divide by the number of images asked for.",
    },
    ("How many images does an epoch ask for? How many of them are in the cache?",),
    within=1e-4,
)

with_workers = choice(
    "A dataset stores decoded images in an ordinary dictionary. Four workers load from it; new ones are started for "
    "each epoch. What does this cache save in the second epoch?",
    "d",
    {
        "a": (
            "All reads.",
            "Each worker has its own copy of the dataset: the dictionary in the training process stays empty.",
        ),
        "b": (
            "About a quarter of the reads.",
            "That could be so if the workers stayed alive: each would find what it had read itself. But these are new.",
        ),
        "c": (
            "All reads except the first one of each worker.",
            "A worker stores what it reads, but it ends with the epoch, and so does its dictionary.",
        ),
        "d": (
            "Nothing.",
            "Each worker fills its own copy, which is lost when it ends. Hence shared memory, or a memory-mapped file.",
        ),
    },
    ("In which process is the dictionary? What happens to it when that process ends?",),
)
