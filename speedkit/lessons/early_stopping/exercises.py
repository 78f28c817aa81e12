"""Exercises on early stopping: when to stop, on which images, and with which weights."""

import math

from speedkit.lessons.exercise import Exercise, behaves_like, choice, number_question, yes_or_no


def _waited(losses, min_delta, *, previous=False, lowest=False, resets=True, better=lambda loss, bar: loss < bar):
    """The number of epochs waited; the options are ways to get it wrong."""
    best, waited = math.inf, 0
    for loss in losses:
        if better(loss, best - min_delta):
            best, waited = loss, 0 if resets else waited
        else:
            waited += 1
        if previous or (lowest and loss < best):
            best = loss
    return waited


def _against_all_earlier(losses, patience, min_delta):
    """Right except for the bar: it is the lowest loss before the last ``patience`` ones, which may not have counted."""
    return len(losses) > patience and not min(losses[-patience:]) < min(losses[:-patience]) - min_delta


_BAR = (
    "This takes the lowest of all earlier losses for the bar. The bar is the last loss that *counted* as better: try "
    "`should_stop([2.0, 1.75, 1.4], 1, 0.5)`."
)


def _should_stop(losses, patience, min_delta):
    return _waited(losses, min_delta) >= patience


# Written by hand, so that every mistake shows in at least one of them.
_CASES = [
    ([3.0], 1, 0.0),
    ([3.0, 2.0, 2.5], 1, 0.0),
    ([3.0, 2.0, 2.5], 2, 0.0),
    ([3.0, 2.0, 2.5, 2.75], 2, 0.0),
    ([3.0, 2.0, 2.5, 2.25], 2, 0.0),  # lower than the epoch before, but not lower than the best
    ([3.0, 2.0, 2.5, 1.5, 1.75], 2, 0.0),  # a better one restarts the count
    ([3.0, 2.0, 2.0], 1, 0.0),  # equal is not better
    ([2.0, 1.875, 1.75], 2, 0.5),  # better, but by too little
    ([2.0, 1.75, 1.5, 1.25], 3, 0.5),  # small steps add up
    ([2.0, 1.75, 1.4], 1, 0.5),  # the bar is 1.5: 1.75 did not count, though it was lower
    ([2.0, 2.25], 1, 0.5),
    ([2.0, 1.0], 1, 0.5),
    ([2.0, 1.0, 1.25, 1.5], 3, 0.0),
    ([1.0, 2.0, 3.0, 4.0], 2, 0.0),  # patience ran out long ago
]


def _judge_should_stop(answer):
    behaves_like(
        answer,
        _should_stop,
        _CASES,
        [
            (
                lambda losses, patience, d: _waited(losses, d) > patience,
                "This waits one epoch too long: with patience 1, the first epoch without a better loss ends the run.",
            ),
            (
                lambda losses, patience, d: _waited(losses, d) >= patience - 1,
                "This stops one epoch too soon: `patience` epochs have to pass without a better loss.",
            ),
            (
                lambda losses, patience, d: _waited(losses, d, previous=True) >= patience,
                "This compares each loss with the one before it. A loss can fall again without reaching the best: "
                "compare with the lowest so far.",
            ),
            (_against_all_earlier, _BAR),
            (lambda losses, patience, d: _waited(losses, d, lowest=True) >= patience, _BAR),
            (
                lambda losses, patience, d: _waited(losses, 0.0) >= patience,
                "This leaves `min_delta` out: a loss must be lower by more than that to count as better.",
            ),
            (
                lambda losses, patience, d: _waited(losses, -d) >= patience,
                "`min_delta` has the wrong sign: a loss must be lower than `best - min_delta`.",
            ),
            (
                lambda losses, patience, d: _waited(losses, d, resets=False) >= patience,
                "This counts all epochs without a better loss. A better loss must restart the count.",
            ),
            (
                lambda losses, patience, d: _waited(losses, d, better=lambda loss, bar: loss <= bar) >= patience,
                "A loss that is just as high does not count as better: use `<`, not `<=`.",
            ),
            (
                lambda losses, patience, d: _waited(losses, d) < patience,
                "This is the other way round: True means stop.",
            ),
            (lambda losses, patience, d: False, "This never stops: try `should_stop([3.0, 2.0, 2.5], 1, 0.0)`."),
        ],
        read=lambda result, *_: yes_or_no(result),
    )
    return "It remembers the best loss so far, and counts the epochs since then."


should_stop = Exercise(
    "Write `should_stop(losses, patience, min_delta)`. `losses` are the validation losses of the epochs so far, the "
    "newest last. It returns True when the last `patience` epochs brought no better loss. Better means lower than the "
    "best so far by more than `min_delta`; the best so far is the last loss that counted as better.",
    _judge_should_stop,
    (
        "Go through the losses once, with two variables: the best so far, and the number of epochs since then.",
        "`if loss < best - min_delta:` there is a new best, and the count restarts at zero; `else:` it goes up by one.",
    ),
    """def should_stop(losses, patience, min_delta):
    best, waited = float("inf"), 0
    for loss in losses:
        if loss < best - min_delta:
            best, waited = loss, 0
        else:
            waited += 1
    return waited >= patience""",
)

which_split = choice(
    "Which images' loss should decide when to stop?",
    "b",
    {
        "a": (
            "Training.",
            "The training loss keeps falling while the network learns its images by heart. The run would stop too "
            "late, or never.",
        ),
        "b": (
            "Validation.",
            "They take no part in training, and the test images stay unseen until they are read once at the end.",
        ),
        "c": (
            "Test.",
            "This chooses the epoch that happens to suit the test images, so their score is no longer an honest "
            "estimate for new images.",
        ),
        "d": (
            "Training and validation together.",
            "Most of these are training images, whose loss keeps falling: it hides what the others say.",
        ),
    },
    ("Which images may take part in choosing, but not in training?",),
)

kept_epoch = number_question(
    "The validation losses of epochs 1 to 6 are 0.90, 0.70, 0.55, 0.60, 0.58, 0.61; patience is 3, min_delta 0. The "
    "run ends after epoch 6. Which epoch's weights should you end up with?",
    3,
    "Epoch 3 has the lowest loss. Its weights have to be copied when it ends: three epochs later they are gone.",
    {
        0.55: "0.55 is the lowest loss, but which *epoch* is that?",
        6: "Epoch 6 is where patience ran out. The best weights are those of the epoch with the lowest loss.",
        2: "Count epochs from 1 here. (Counted from 0, it would be epoch 2.)",
        5: "Epoch 5 has the lowest loss of the epochs spent waiting, not of all epochs.",
        4: "Epoch 4 is the first epoch spent waiting, and its loss is higher than that of the epoch before.",
    },
    ("Where is the lowest loss?",),
)
