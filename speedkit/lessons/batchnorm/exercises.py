"""Exercises on batch normalisation: by hand, and what evaluation mode uses."""

import torch

from speedkit.lessons.exercise import Exercise, WrongAnswer, behaves_like, choice, number_question, tensor

_EPS = 1e-5


def _batch(*shape, scale=1.0, shift=0.0, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * scale + shift


# The last one varies so little that eps counts.
_CASES = [
    (_batch(3, 2, 2, 2, scale=3.0, shift=5.0),),
    (_batch(4, 3, 5, 3, seed=1),),
    (_batch(2, 2, 3, 3, scale=0.003),),
]


def _standardised(x, dims=(0, 2, 3), correction=0, center=True):
    mean, variance = x.mean(dims, keepdim=True), x.var(dims, keepdim=True, correction=correction)
    return (x - mean if center else x) / (variance + _EPS).sqrt()


def _normalise(x):
    return _standardised(x)


def _alike(one, other):
    return one.shape == other.shape and torch.allclose(one, other, rtol=1e-3, atol=1e-4, equal_nan=True)


def _judge_normalise(answer):
    used = behaves_like(
        answer,
        _normalise,
        _CASES,
        [
            (
                lambda x: _standardised(x, correction=1),
                "This divides by n - 1 in the variance, as `x.var()` does by itself. In training mode `nn.BatchNorm2d` "
                "divides by n: `correction=0`.",
            ),
            (
                lambda x: _standardised(x, dims=(2, 3)),
                "This normalises each image by itself, which is instance norm: take mean and variance over the batch, "
                "too.",
            ),
            (
                lambda x: _standardised(x, dims=(1, 2, 3)),
                "This normalises each image over its channels, which is layer norm: take each channel by itself, and "
                "all images together.",
            ),
            (
                lambda x: _standardised(x, dims=(0,)),
                "This normalises every pixel by itself: a channel has one mean and one variance, over the images and "
                "over its pixels.",
            ),
            (
                lambda x: _standardised(x, dims=(0, 1, 2, 3)),
                "This takes one mean and one variance for everything: each channel has its own.",
            ),
            (
                lambda x: (x - x.mean((0, 2, 3), keepdim=True)) / (x.var((0, 2, 3), keepdim=True, correction=0) + _EPS),
                "This divides by the variance: divide by its square root.",
            ),
            (
                lambda x: (x - x.mean((0, 2, 3), keepdim=True)) / x.std((0, 2, 3), keepdim=True, correction=0),
                "This leaves out `eps`, 1e-5, which is added to the variance: it shows where a channel hardly varies.",
            ),
            (
                lambda x: (x - x.mean((0, 2, 3), keepdim=True)) / (x.std((0, 2, 3), keepdim=True, correction=0) + _EPS),
                "This adds `eps` to the standard deviation: add it to the variance, and take the root then.",
            ),
            (lambda x: _standardised(x, center=False), "This scales, but does not subtract the mean."),
            (
                lambda x: x - x.mean((0, 2, 3), keepdim=True),
                "This subtracts the mean, but does not divide by the standard deviation.",
            ),
            (
                lambda x: x / (1 + _EPS) ** 0.5,
                "This is what `nn.BatchNorm2d` does in evaluation mode before any batch: training mode is asked for.",
            ),
        ],
        read=tensor,
        same=_alike,
    )
    if not all(torch.equal(left, before) for (left,), (before,) in zip(used, _CASES, strict=True)):
        raise WrongAnswer(
            "The result is right, but the batch that it was given is changed afterwards: avoid `-=` and `/=` here."
        )
    return "This is what `nn.BatchNorm2d` does in training mode, before its own scale and shift are learnt."


normalise = Exercise(
    "Write `normalise(x)` for `x` of shape [B, C, H, W]: what a fresh `nn.BatchNorm2d(C)` gives in training mode, "
    "without using it. `eps` is 1e-5.",
    _judge_normalise,
    (
        "A channel has one mean and one variance: over which three of the four dimensions are they taken?",
        "`x.mean((0, 2, 3), keepdim=True)`, and the same for `x.var`, which divides by n - 1 unless told otherwise.",
    ),
    """def normalise(x):
    mean = x.mean((0, 2, 3), keepdim=True)
    variance = x.var((0, 2, 3), keepdim=True, correction=0)
    return (x - mean) / (variance + 1e-5).sqrt()""",
)

in_eval = choice(
    "After `model.eval()`, which mean and variance does batch norm use?",
    "c",
    {
        "a": (
            "Those of the batch at hand.",
            "That is training mode. Then the answer for an image would depend on the other images in its batch.",
        ),
        "b": (
            "Those of the last training batch.",
            "A single batch would be noisy: what is kept is an average that moves a little with each training batch.",
        ),
        "c": (
            "Running averages, kept while it trained.",
            "So an image's answer no longer depends on its neighbours, and a batch of one image works.",
        ),
        "d": (
            "Mean 0 and variance 1.",
            "Those are where the running averages start, before the first training batch.",
        ),
    },
    ("Look at `nn.BatchNorm2d(3).state_dict()`: what is there beside weight and bias?",),
)

running_mean = number_question(
    "A fresh `nn.BatchNorm2d`, momentum 0.1, sees one training batch in which a channel's mean is 5. What is that "
    "channel's running mean afterwards?",
    0.5,
    "0.9 · 0 + 0.1 · 5. It takes dozens of batches to get there: an evaluation after a few uses a wrong mean.",
    {
        4.5: "That takes momentum the other way round: PyTorch's 0.1 is the weight of the *new* batch.",
        5: "That would be the batch's own mean: the average moves towards it by a tenth of the way.",
        0.1: "0.1 is the momentum: how far does it move towards 5, from where it starts?",
        2.5: "That is half of the way; momentum is 0.1.",
    },
    ("The running mean starts at 0.", "new = (1 - momentum) · old + momentum · the batch's."),
    within=1e-4,
)
