"""Exercises for the last lesson: which part of a step to shorten, and what that gains."""

import math

from speedkit.lessons.exercise import Exercise, behaves_like, choice, number, number_question

# The share of a step that is waiting, and how many times faster the computing becomes.
_CASES = [(0.5, 2), (0.2, 4), (0.9, 2), (0.01, 3), (0.99, 3), (0.4, 0.5), (0.3, 1)]

first_switch = choice(
    "A step takes 100 ms: it waits for data for 20 ms and computes for 80 ms. You have time to try one thing. Which "
    "one can save the most?",
    "b",
    {
        "a": (
            "A cache that removes all the waiting.",
            "Then a step takes 80 ms. The waiting has no more to give: it is the shorter part.",
        ),
        "b": (
            "A number format that halves the computing time.",
            "Then a step takes 60 ms: halving the long part saves more than removing the short one.",
        ),
        "c": (
            "Enough workers to prepare every batch in time.",
            "At best, that hides all the waiting, and a step takes 80 ms. More workers cannot save more.",
        ),
        "d": (
            "A disk that is twice as fast.",
            "At best, that halves the waiting, and a step takes 90 ms.",
        ),
    },
    ("How long does a step take afterwards, in each case?",),
)

in_the_end = number_question(
    "A step waits for 60 ms and computes for 40 ms. First a cache removes the waiting. Then a cheaper number format "
    "halves the computing time. How many times faster is the step in the end than at the start?",
    5,
    "5 times: from 100 ms to 40, then to 20. The number format alone would have saved 20 of 100 ms. What a switch "
    "gains depends on what was switched on before it.",
    {
        2.5: "That is after the first of the two changes.",
        2: "That is what the second change gains on top of the first.",
        4.5: "When one change follows another, their factors are multiplied, not added.",
        3.125: "That takes the number format's factor from the original step, where computing was the short part. By "
        "the second change, the bottleneck has moved.",
        1.25: "That is the gain of the number format alone, without the cache.",
        0.2: "That is the new time as a share of the old one: it is the other way round.",
        20: "That is the final step in milliseconds: how many times does it fit into the first one?",
        80: "That is the time saved, in milliseconds or per cent; the answer is a factor.",
    },
    ("How long does a step take after the first change? And after the second?",),
    within=1e-3,
)


def _speedup(waiting, times):
    return 1 / (waiting + (1 - waiting) / times)


def _judge_speedup(answer):
    behaves_like(
        answer,
        _speedup,
        _CASES,
        [
            (
                lambda w, k: w + (1 - w) / k,
                "This is the new time of a step as a share of the old one. The speed-up is its inverse.",
            ),
            (lambda w, k: k, "This is what the computing alone gains. The waiting takes as long as before."),
            (
                lambda w, k: 1 / (w / k + 1 - w),
                "This shortens the waiting: the switch makes the computing faster, the other part.",
            ),
            (
                lambda w, k: w / k + 1 - w,
                "This shortens the waiting, and it is the new time. The computing gets faster, and the speed-up is the "
                "inverse of the new time.",
            ),
            (
                lambda w, k: w + (1 - w) * k,
                "This averages the speeds of the two parts. Add up their times, then take the inverse.",
            ),
            (
                lambda w, k: (1 - w) * k,
                "This leaves out the waiting. Add up the times of both parts.",
            ),
            (
                lambda w, k: k / (1 - w),
                "This leaves out the waiting, which is still there and takes just as long.",
            ),
            (
                lambda w, k: 1 / (1 - w),
                "This removes the waiting: here it stays, and the computing gets faster.",
            ),
            (
                lambda w, k: 1 / (w + (1 - w) * k),
                "This multiplies the computing time. `times` faster means divided by `times`.",
            ),
        ],
        read=lambda result, *_: number(result),
        same=lambda one, other: math.isclose(one, other, rel_tol=1e-6),
    )
    return "Amdahl's law. Try a huge `times`: then the waiting alone sets the limit."


speedup = Exercise(
    "Write `speedup(waiting, times)`: how many times faster is a whole step if the share `waiting` of it (0 to 1) is "
    "waiting, the rest is computing, and a switch makes the computing `times` times faster?",
    _judge_speedup,
    (
        "Let the old step take 1. How long does each of its parts take afterwards?",
        "The new step takes `waiting + (1 - waiting) / times`.",
    ),
    """def speedup(waiting, times):
    return 1 / (waiting + (1 - waiting) / times)""",
)
