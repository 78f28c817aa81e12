"""Exercises on three teams: why a norm is refused, the bytes of a cache, and hits among the first guesses."""

import math

import torch

from speedkit.lessons.exercise import Exercise, behaves_like, choice, number, number_question

_DRAW = torch.Generator().manual_seed(0)
_LOGITS = torch.randn(40, 30, generator=_DRAW)
_LABELS = torch.randint(30, (40,), generator=_DRAW)
_CASES = [(_LOGITS, _LABELS, k) for k in (1, 3, 10, 30)]

no_batch_norm = choice(
    "A network predicts each byte of a text from those before it. Why is batch norm, in training mode, a fault in it?",
    "c",
    {
        "a": (
            "It takes too much memory for long texts.",
            "Its activations cost memory, but so do those of layer norm. That would be a price, not a fault.",
        ),
        "b": (
            "A text has no channels, so there is nothing to normalise.",
            "An embedding has channels. Batch norm can be computed: the convolutional network of this lesson has it.",
        ),
        "c": (
            "Its mean and variance are taken over all positions, also over those that are to be predicted.",
            "What comes later is mixed into what comes earlier. In evaluation mode the running averages are used "
            "instead, so that the network is asked something else than what it was trained on.",
        ),
        "d": (
            "It makes training slower.",
            "It may, or it may not: you have measured it. A network that sees what it has to predict is wrong at any "
            "speed.",
        ),
    },
    ("What is a mean taken over, if the input has the shape [batch, channels, positions]?",),
)

cache_bytes = number_question(
    "A cache holds 32,000 histories of 21 item numbers each. There are 11,745 items. How many bytes does the cache "
    "take in the smallest whole-number type that can hold them: uint8, uint16, int32 or int64?",
    32_000 * 21 * 2,
    "1,344,000: two bytes each, because 11,745 is less than 65,536. PyTorch's default for whole numbers, int64, would "
    "take four times as much.",
    {
        32_000 * 21: "One byte counts up to 255: too few for 11,745 items.",
        32_000 * 21 * 4: "That is int32. Is there a smaller type that reaches 11,745?",
        32_000 * 21 * 8: "That is int64, PyTorch's default. Is there a smaller type that reaches 11,745?",
        32_000 * 2: "That is for one item in each history.",
        11_745 * 21 * 2: "Count the histories that are stored, not the items that there are.",
    },
    ("How many different numbers can one byte hold? And two?", "Multiply: histories, numbers in each, bytes of each."),
)


def _hits(logits, labels, k):
    return float((logits.topk(k, 1).indices == labels[:, None]).any(1).double().mean())


def _judge_hits(answer):
    behaves_like(
        answer,
        _hits,
        _CASES,
        [
            (
                lambda logits, labels, k: _hits(logits, labels, 1),
                "This looks at the first guess only. A hit is a label anywhere among the first `k`.",
            ),
            (
                lambda logits, labels, k: _hits(logits, labels, k) * len(labels),
                "This counts the hits. Divide by the number of labels.",
            ),
            (
                lambda logits, labels, k: _hits(logits, labels, k) / k,
                "This divides by `k`, too: it is the precision of the list. A hit counts once, however long the list.",
            ),
            (
                lambda logits, labels, k: _hits(-logits, labels, k),
                "This takes the `k` smallest logits. The likeliest items have the largest.",
            ),
            (
                lambda logits, labels, k: float((logits.topk(k, 1).indices[:, -1] == labels).double().mean()),
                "This looks at the guess in place `k` only. A hit may be in any place up to there.",
            ),
        ],
        read=lambda result, *_: number(result),
        same=lambda one, other: math.isclose(one, other, rel_tol=1e-6, abs_tol=1e-9),
    )
    return "With `k=1` it is accuracy. Compare it with what the `k` most popular items reach, not with zero."


hits = Exercise(
    "Write `hits(logits, labels, k)`: the share of the labels [B] that are among the `k` largest of their row of the "
    "logits [B, items].",
    _judge_hits,
    (
        "`logits.topk(k, 1).indices` are the first `k` guesses: [B, k].",
        "Compare them with `labels[:, None]`, and ask whether `any` of a row is equal.",
    ),
    """def hits(logits, labels, k):
    found = (logits.topk(k, 1).indices == labels[:, None]).any(1)
    return found.float().mean()""",
)
