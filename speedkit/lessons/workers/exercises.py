"""Exercises on parallel loading: what overlap can gain at best, and when workers lose."""

import math

from speedkit.lessons.exercise import Exercise, behaves_like, choice, number

# Seconds to prepare a batch, seconds to compute, and workers.
_STEPS = [(0.08, 0.02, 0), (0.08, 0.02, 1), (0.08, 0.02, 2), (0.08, 0.02, 8), (0.01, 0.05, 0), (0.01, 0.05, 3)]
_CORES = [(4, 0), (4, 1), (4, 3), (4, 4), (2, 5), (1, 0)]


def _close(one, other):
    return math.isclose(one, other, rel_tol=1e-6)


def _best_step(prepare_s, compute_s, workers):
    return prepare_s + compute_s if workers == 0 else max(prepare_s / workers, compute_s)


def _unless_none(rule):
    """Applies a rule if there are workers, and takes the sum if there are none."""
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
                "This is the time without workers. With them, preparing and computing happen at the same time.",
            ),
            (
                _unless_none(lambda p, c, w: max(p, c)),
                "This overlaps, but lets one worker do it all. Several workers prepare several batches at the "
                "same time.",
            ),
            (
                _unless_none(lambda p, c, w: p / w + c),
                "This divides the preparing among the workers, but still waits for it. With overlap, only the longer "
                "of the two counts.",
            ),
            (
                _unless_none(lambda p, c, w: min(p / w, c)),
                "This takes the shorter of the two. A step cannot be faster than its slower part.",
            ),
            (
                _unless_none(lambda p, c, w: max(p, c) / w),
                "This lets the workers share the computing as well. The device computes one batch at a time.",
            ),
            (
                _unless_none(lambda p, c, w: (p + c) / w),
                "This divides everything by the workers. They only prepare; the device computes on its own.",
            ),
            (
                _unless_none(lambda p, c, w: p / w),
                "This leaves the computing out. However many workers there are, a step takes at least `compute_s`.",
            ),
            (
                lambda p, c, w: max(p / max(w, 1), c),
                "Right with workers. With none, nothing overlaps: the training process prepares, then computes.",
            ),
            (
                lambda p, c, w: max(p / (w + 1), c),
                "With workers, the training process no longer prepares batches itself: divide by `workers`. And "
                "with none, nothing overlaps.",
            ),
            (
                _unless_none(lambda p, c, w: max(p / (w + 1), c)),
                "With workers, the training process no longer prepares batches itself: divide by `workers`.",
            ),
        ],
        read=lambda result, *_: number(result),
        same=_close,
    )
    return "This is a bound, not a promise. Start-up, copies between processes and a lack of cores add to it."


best_step = Exercise(
    "Write `best_step(prepare_s, compute_s, workers)`. It returns the average time of a step in seconds, at best. "
    "One process takes `prepare_s` to prepare a batch, computing takes `compute_s`, and every worker has a core of its "
    "own. With 0 workers, the training process prepares and computes in turn.",
    _judge_best_step,
    (
        "Two cooks share one oven. In the long run, how much time passes between two cakes?",
        "With workers, a batch is ready every `prepare_s / workers` seconds. The device is ready every `compute_s`.",
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
                "This gives torch every core. Its threads and the workers then compete for them.",
            ),
            (
                lambda cores, workers: cores - workers,
                "Right as long as there are fewer workers than cores. But torch needs at least one thread: what about "
                "4 workers on 4 cores?",
            ),
            (
                lambda cores, workers: max(0, cores - workers),
                "Torch needs at least one thread. With as many workers as cores, this gives none.",
            ),
            (
                lambda cores, workers: max(1, cores - workers - 1),
                "This sets a core aside for the training process. But torch's threads *are* the training process.",
            ),
            (
                lambda cores, workers: workers,
                "This gives torch as many threads as there are workers. It should get the remaining cores.",
            ),
            (
                lambda cores, workers: max(1, cores // max(1, workers)),
                "This divides the cores by the workers. Each worker takes one core, and torch gets the remaining ones.",
            ),
        ],
        read=lambda result, *_: number(result),
    )
    return "One core for each worker, and the rest for torch, but at least one thread."


torch_threads = Exercise(
    "Write `torch_threads(cores, workers)`. It returns the number of threads that torch should compute with, so that "
    "every worker has a core of its own.",
    _judge_threads,
    ("How many cores are left? And what if none are left?",),
    """def torch_threads(cores, workers):
    return max(1, cores - workers)""",
)

when_workers_lose = choice(
    "Where would you expect workers to make training *slower*?",
    "b",
    {
        "a": (
            "Large JPEG files; a GPU that waits for half of each step; 16 idle cores.",
            "There is waiting time to win back, and there are cores to do it. This is what workers are for.",
        ),
        "b": (
            "Small images, already decoded in memory; two cores; a short run.",
            "There is hardly anything to prepare and no core to spare, but start-up and copies still cost time.",
        ),
        "c": (
            "Images on a slow network drive; a fast GPU.",
            "Several workers can wait for the drive at the same time, so their waiting overlaps.",
        ),
        "d": (
            "Heavy augmentation of each image; more cores than training uses.",
            "There is work for each image and there are cores to spare. This is where workers help most.",
        ),
    },
    ("What do workers cost? And where can they save nothing?",),
)
