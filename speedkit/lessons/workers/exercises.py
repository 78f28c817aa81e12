"""Exercises on parallel loading: what overlap can give at best, and when it loses."""

import math

from speedkit.lessons.exercise import Exercise, behaves_like, choice, number

# Seconds of preparing a batch and of computing, and workers.
_STEPS = [(0.08, 0.02, 0), (0.08, 0.02, 1), (0.08, 0.02, 2), (0.08, 0.02, 8), (0.01, 0.05, 0), (0.01, 0.05, 3)]
_CORES = [(4, 0), (4, 1), (4, 3), (4, 4), (2, 5), (1, 0)]


def _close(one, other):
    return math.isclose(one, other, rel_tol=1e-6)


def _best_step(prepare_s, compute_s, workers):
    return prepare_s + compute_s if workers == 0 else max(prepare_s / workers, compute_s)


def _unless_none(rule):
    """A rule for one worker or more; without workers, the sum."""
    return lambda prepare_s, compute_s, workers: (
        rule(prepare_s, compute_s, workers) if workers else prepare_s + compute_s
    )


def _judge_best_step(answer):
    behaves_like(
        answer,
        _best_step,
        _STEPS,
        [
            (
                lambda p, c, w: p + c,
                "This is the time without workers: with them, preparing and computing go on at the same time.",
            ),
            (
                _unless_none(lambda p, c, w: max(p, c)),
                "This overlaps, but lets one worker do it all: several prepare different batches at the same time.",
            ),
            (
                _unless_none(lambda p, c, w: p / w + c),
                "This divides the preparing among the workers, but still waits for it: with overlap, only the longer "
                "of the two counts.",
            ),
            (
                _unless_none(lambda p, c, w: min(p / w, c)),
                "This takes the shorter of the two. The step cannot be faster than its slower part.",
            ),
            (
                _unless_none(lambda p, c, w: max(p, c) / w),
                "This lets the workers share the computing, too: the device computes one batch at a time.",
            ),
            (
                _unless_none(lambda p, c, w: (p + c) / w),
                "This divides everything by the workers: they only prepare, and the device computes alone.",
            ),
            (
                _unless_none(lambda p, c, w: p / w),
                "This leaves the computing out: however many workers there are, a step takes at least `compute_s`.",
            ),
            (
                lambda p, c, w: max(p / max(w, 1), c),
                "Right with workers. With none, nothing overlaps: the training process prepares, then computes.",
            ),
            (
                lambda p, c, w: max(p / (w + 1), c),
                "With workers, the training process no longer prepares batches itself: divide by `workers`. And with "
                "none, nothing overlaps.",
            ),
            (
                _unless_none(lambda p, c, w: max(p / (w + 1), c)),
                "With workers, the training process no longer prepares batches itself: divide by `workers`.",
            ),
        ],
        read=lambda result, *_: number(result),
        same=_close,
    )
    return "A bound, not a promise: start-up, copies between processes and too few cores all come on top."


best_step = Exercise(
    "Write `best_step(prepare_s, compute_s, workers)`: the seconds that a step takes at best, on average, when "
    "preparing one batch takes `prepare_s` in one process, computing takes `compute_s`, and every worker has a core of "
    "its own. With 0 workers the training process does both, one after the other.",
    _judge_best_step,
    (
        "Two cooks and one oven: in the long run, what is the time between two cakes?",
        "With workers a batch is ready every `prepare_s / workers` seconds, and the device is ready every `compute_s`.",
    ),
    """def best_step(prepare_s, compute_s, workers):
    if workers == 0:
        return prepare_s + compute_s
    return max(prepare_s / workers, compute_s)""",
)


def _judge_threads(answer):
    behaves_like(
        answer,
        lambda cores, workers: max(1, cores - workers),
        _CORES,
        [
            (
                lambda cores, workers: cores,
                "This gives torch every core: then its threads and the workers take each other's place.",
            ),
            (
                lambda cores, workers: cores - workers,
                "Right while there are fewer workers than cores. Torch needs at least one thread: what about 4 workers "
                "on 4 cores?",
            ),
            (
                lambda cores, workers: max(0, cores - workers),
                "Torch needs at least one thread: with as many workers as cores this gives none.",
            ),
            (
                lambda cores, workers: max(1, cores - workers - 1),
                "This sets a core aside for the training process: torch's threads *are* the training process.",
            ),
            (
                lambda cores, workers: workers,
                "This gives torch as many threads as there are workers: it gets the rest.",
            ),
            (
                lambda cores, workers: max(1, cores // max(1, workers)),
                "This divides the cores by the workers: each worker takes one core, and torch gets what is left.",
            ),
        ],
        read=lambda result, *_: number(result),
    )
    return "One core a worker, the rest for torch, and never less than one."


torch_threads = Exercise(
    "Write `torch_threads(cores, workers)`: how many threads should torch compute with, if every worker is to have a "
    "core of its own?",
    _judge_threads,
    ("How many cores are left? And if there are none?",),
    """def torch_threads(cores, workers):
    return max(1, cores - workers)""",
)

when_workers_lose = choice(
    "Where would you expect workers to make a training *slower*?",
    "b",
    {
        "a": (
            "Large JPEG files, a GPU that waits for half of each step, 16 idle cores.",
            "Here there is waiting to win back, and cores to do it with: what workers are for.",
        ),
        "b": (
            "Small images, decoded in memory already, two cores, a short run.",
            "Hardly anything to prepare, no core to spare, and start-up and copies between processes to pay for.",
        ),
        "c": (
            "Images on a slow network drive, a fast GPU.",
            "Several workers wait for the drive at the same time, each for another batch: that waiting overlaps.",
        ),
        "d": (
            "Heavy augmentation of each image, more cores than the training uses.",
            "Work for each image and cores to spare: this is where workers have most to give.",
        ),
    },
    ("What do workers cost, and where is there nothing that they could win?",),
)
