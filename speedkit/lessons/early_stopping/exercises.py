"""Exercises on early stopping: when to stop, on which images, and what is kept."""

import math

from speedkit.lessons.exercise import Exercise, behaves_like, choice, number_question, yes_or_no


def _waited(losses, min_delta, *, previous=False, lowest=False, resets=True, better=lambda loss, bar: loss < bar):
    """Epochs that count as waited, with ways to get it wrong."""
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
    """Right but for the bar: the lowest loss before the last ``patience`` ones, which need not have counted."""
    return len(losses) > patience and not min(losses[-patience:]) < min(losses[:-patience]) - min_delta


_BAR = (
    "This takes the lowest of all earlier losses for the bar. The bar is the last loss that *counted* as better: see "
    "`should_stop([2.0, 1.75, 1.4], 1, 0.5)`."
)


def _should_stop(losses, patience, min_delta):
    return _waited(losses, min_delta) >= patience


# By hand, so that every mistake shows in at least one of them.
_CASES = [
    ([3.0], 1, 0.0),
    ([3.0, 2.0, 2.5], 1, 0.0),
    ([3.0, 2.0, 2.5], 2, 0.0),
    ([3.0, 2.0, 2.5, 2.75], 2, 0.0),
    ([3.0, 2.0, 2.5, 2.25], 2, 0.0),  # lower than the epoch before, but not than the best
    ([3.0, 2.0, 2.5, 1.5, 1.75], 2, 0.0),  # a better one starts the count anew
    ([3.0, 2.0, 2.0], 1, 0.0),  # equal is not better
    ([2.0, 1.875, 1.75], 2, 0.5),  # better, but by too little
    ([2.0, 1.75, 1.5, 1.25], 3, 0.5),  # little steps add up
    ([2.0, 1.75, 1.4], 1, 0.5),  # the bar is 1.5: 1.75 did not count, though it was lower
    ([2.0, 2.25], 1, 0.5),
    ([2.0, 1.0], 1, 0.5),
    ([2.0, 1.0, 1.25, 1.5], 3, 0.0),
    ([1.0, 2.0, 3.0, 4.0], 2, 0.0),  # long past the end
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
                "This stops one epoch too soon: `patience` epochs without a better loss have to pass.",
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
                "This leaves `min_delta` out: a loss that is lower by no more than that does not count as better.",
            ),
            (
                lambda losses, patience, d: _waited(losses, -d) >= patience,
                "`min_delta` has the wrong sign: a loss has to be lower than `best - min_delta`.",
            ),
            (
                lambda losses, patience, d: _waited(losses, d, resets=False) >= patience,
                "This counts all epochs without a better loss. A better one starts the count anew.",
            ),
            (
                lambda losses, patience, d: _waited(losses, d, better=lambda loss, bar: loss <= bar) >= patience,
                "This takes a loss that is just as high for a better one: use `<`, not `<=`.",
            ),
            (
                lambda losses, patience, d: _waited(losses, d) < patience,
                "This is the other way round: True means stop.",
            ),
            (lambda losses, patience, d: False, "This never stops: see `should_stop([3.0, 2.0, 2.5], 1, 0.0)`."),
        ],
        read=lambda result, *_: yes_or_no(result),
    )
    return "It keeps the lowest loss in mind, and counts the epochs since."


should_stop = Exercise(
    "Write `should_stop(losses, patience, min_delta)`. `losses` are the validation losses of the epochs so far, the "
    "newest last. It gives True when the last `patience` epochs brought no better loss. Better means lower than the "
    "best so far by more than `min_delta`; the best so far is the last one that was better.",
    _judge_should_stop,
    (
        "Go through the losses once, with two variables: the best so far, and the epochs since.",
        "`if loss < best - min_delta:` there is a new best, and the count starts anew; `else` it goes up by one.",
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
    "On the loss of which images should early stopping decide?",
    "b",
    {
        "a": (
            "Training.",
            "The training loss goes on falling while the network learns its images by heart: it would stop too late, "
            "or never.",
        ),
        "b": (
            "Validation.",
            "They take no part in training, and the test images stay unseen until the one reading at the end.",
        ),
        "c": (
            "Test.",
            "Then the epoch is chosen that happens to suit the test images, and their score is no longer an honest "
            "estimate for new ones.",
        ),
        "d": (
            "Training and validation together.",
            "The larger part by far are training images, whose loss goes on falling: it hides what the others say.",
        ),
    },
    ("Which images may take part in choosing, but not in training?",),
)

kept_epoch = number_question(
    "The validation losses of epochs 1 to 6 are 0.90, 0.70, 0.55, 0.60, 0.58, 0.61; patience is 3, min_delta 0. The "
    "run ends after epoch 6. Of which epoch are the weights that should be kept?",
    3,
    "Epoch 3 has the lowest loss. Its weights have to be copied when it ends: three epochs later they are gone.",
    {
        0.55: "0.55 is the lowest loss: of which *epoch* is it?",
        6: "Epoch 6 is where patience ran out. Its weights are there anyway; the best ones have the lowest loss.",
        2: "Count epochs from 1 here. (Counted from 0, epoch 2 would be the one.)",
        5: "Epoch 5 has the lowest loss of those that were waited for, not of all.",
        4: "Epoch 4 is the first of those that were waited for, and its loss is higher than that of the epoch before.",
    },
    ("Where is the lowest loss?",),
)
