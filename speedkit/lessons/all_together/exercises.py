"""Exercises for the last lesson: which part of a step to shorten, and what is won by it."""

import math

from speedkit.lessons.exercise import Exercise, behaves_like, choice, number, number_question

# Share of a step that is waiting, and how many times faster the computing becomes.
_CASES = [(0.5, 2), (0.2, 4), (0.9, 2), (0.01, 3), (0.99, 3), (0.4, 0.5), (0.3, 1)]

first_switch = choice(
    "A step takes 100 ms: for 20 ms it waits for data, for 80 ms it computes. You have time to try one thing. Which "
    "can give most?",
    "b",
    {
        "a": (
            "A cache that makes the waiting vanish altogether.",
            "Then a step takes 80 ms, and there is no way to win more from the waiting: it is the shorter part.",
        ),
        "b": (
            "A number format in which computing takes half as long.",
            "Then a step takes 60 ms: halving the long part gives more than abolishing the short one.",
        ),
        "c": (
            "Enough workers to prepare every batch in time.",
            "At best, that hides all the waiting, and a step takes 80 ms. More workers cannot give more.",
        ),
        "d": (
            "Twice as fast a disk.",
            "It can shorten the waiting at best to half: a step of 90 ms.",
        ),
    },
    ("How long is a step afterwards, in each case?",),
)

in_the_end = number_question(
    "A step waits for 60 ms and computes for 40 ms. First a cache makes the waiting vanish. Then a cheaper number "
    "format makes the computing take half as long. How many times faster is the step in the end than at the start?",
    5,
    "From 100 ms to 40, then to 20. On the first step, the number format alone would have saved 20 of 100 ms: what a "
    "switch gives depends on what was switched before.",
    {
        2.5: "That is after the first of the two changes.",
        2: "That is what the second change gives on top of the first.",
        4.5: "Factors of changes that come one after the other are multiplied, not added.",
        3.125: "That takes the second factor from the first step, where computing was less than half: by then, the "
        "bottleneck has moved.",
        1.25: "That is the number format alone, without the cache.",
        0.2: "That is the step's time as a share of what it was: the other way round.",
        20: "That is the step in the end, in milliseconds: how many times does it fit into the first one?",
        80: "That is what is saved, in milliseconds or per cent: a factor is asked for.",
    },
    ("How long is a step after the first change? And after the second?",),
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
                "This is the new time of a step, as a share of the old one. The speed-up is its inverse.",
            ),
            (lambda w, k: k, "This is what the computing gains. The waiting stays as long as it was."),
            (
                lambda w, k: 1 / (w / k + 1 - w),
                "This makes the waiting shorter: the switch makes computing faster, which is the other part.",
            ),
            (
                lambda w, k: w / k + 1 - w,
                "This makes the waiting shorter, and gives the new time: it is computing that gets faster, and its "
                "inverse that is asked for.",
            ),
            (
                lambda w, k: w + (1 - w) * k,
                "This averages the speeds of the parts. Add up their times, then take the inverse.",
            ),
            (
                lambda w, k: (1 - w) * k,
                "This leaves the waiting out. Add up the times of both parts.",
            ),
            (
                lambda w, k: k / (1 - w),
                "This leaves the waiting out: it is still there, and just as long.",
            ),
            (
                lambda w, k: 1 / (1 - w),
                "This makes the waiting vanish: here it stays, and computing gets faster.",
            ),
            (
                lambda w, k: 1 / (w + (1 - w) * k),
                "This multiplies the computing time. `times` faster means divided by `times`.",
            ),
        ],
        read=lambda result, *_: number(result),
        same=lambda one, other: math.isclose(one, other, rel_tol=1e-6),
    )
    return "Amdahl's law. Try it with `times` as large as you like: the waiting alone sets the limit."


speedup = Exercise(
    "Write `speedup(waiting, times)`: how many times faster is a whole step, if the share `waiting` of it (0 to 1) is "
    "waiting, the rest is computing, and a switch makes computing `times` times faster?",
    _judge_speedup,
    (
        "Let the old step take 1. How long is each of its parts afterwards?",
        "The new step takes `waiting + (1 - waiting) / times`.",
    ),
    """def speedup(waiting, times):
    return 1 / (waiting + (1 - waiting) / times)""",
)
