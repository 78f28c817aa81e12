"""Exercises on batch normalisation: write it yourself, and say what evaluation mode uses."""

import torch

from speedkit.lessons.exercise import Exercise, WrongAnswer, behaves_like, choice, number_question, tensor

_EPS = 1e-5


def _batch(*shape, scale=1.0, shift=0.0, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * scale + shift


# The last one varies so little that eps matters.
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
                "This variance divides by n - 1, which is the default of `x.var()`. In training mode `nn.BatchNorm2d` "
                "divides by n: `correction=0`.",
            ),
            (
                lambda x: _standardised(x, dims=(2, 3)),
                "This normalises each image by itself, which is instance norm. Take mean and variance over the batch "
                "as well.",
            ),
            (
                lambda x: _standardised(x, dims=(1, 2, 3)),
                "This normalises each image over all its channels, which is layer norm. Take each channel by itself, "
                "and all images together.",
            ),
            (
                lambda x: _standardised(x, dims=(0,)),
                "This normalises every pixel by itself. A channel has one mean and one variance, over all images and "
                "all its pixels.",
            ),
            (
                lambda x: _standardised(x, dims=(0, 1, 2, 3)),
                "This takes one mean and one variance for everything. Each channel has its own.",
            ),
            (
                lambda x: (x - x.mean((0, 2, 3), keepdim=True)) / (x.var((0, 2, 3), keepdim=True, correction=0) + _EPS),
                "This divides by the variance. You should divide by its square root.",
            ),
            (
                lambda x: (x - x.mean((0, 2, 3), keepdim=True)) / x.std((0, 2, 3), keepdim=True, correction=0),
                "This leaves out `eps`. Add 1e-5 to the variance: it matters when a channel hardly varies.",
            ),
            (
                lambda x: (x - x.mean((0, 2, 3), keepdim=True)) / (x.std((0, 2, 3), keepdim=True, correction=0) + _EPS),
                "This adds `eps` to the standard deviation. Add it to the variance, then take the square root.",
            ),
            (lambda x: _standardised(x, center=False), "This scales, but does not subtract the mean."),
            (
                lambda x: x - x.mean((0, 2, 3), keepdim=True),
                "This subtracts the mean, but does not divide by the standard deviation.",
            ),
            (
                lambda x: x / (1 + _EPS) ** 0.5,
                "This is what a fresh `nn.BatchNorm2d` does in evaluation mode. The question is about training mode.",
            ),
        ],
        read=tensor,
        same=_alike,
    )
    if not all(torch.equal(left, before) for (left,), (before,) in zip(used, _CASES, strict=True)):
        raise WrongAnswer(
            "The result is right, but your function changes the batch it was given. Avoid `-=` and `/=` here."
        )
    return "This is what `nn.BatchNorm2d` does in training mode, before it has learnt a scale and a shift."


normalise = Exercise(
    "Write `normalise(x)` for `x` of shape [B, C, H, W]. It returns what a fresh `nn.BatchNorm2d(C)` returns in "
    "training mode, but without using that layer. `eps` is 1e-5.",
    _judge_normalise,
    (
        "A channel has one mean and one variance. Over which three of the four dimensions are they taken?",
        "`x.mean((0, 2, 3), keepdim=True)`, and the same for `x.var`, which divides by n - 1 by default.",
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
            "Those of the current batch.",
            "That is training mode: the output for an image depends on the other images in its batch.",
        ),
        "b": (
            "Those of the last training batch.",
            "A single batch would be noisy. The layer uses an average that moves a little with each training batch.",
        ),
        "c": (
            "Running averages from training.",
            "With these, the output for an image does not depend on the rest of the batch, and a batch of one works.",
        ),
        "d": (
            "Mean 0 and variance 1.",
            "That is where the running averages start, before the first training batch.",
        ),
    },
    ("Look at `nn.BatchNorm2d(3).state_dict()`. What does it hold besides weight and bias?",),
)

running_mean = number_question(
    "A fresh `nn.BatchNorm2d` with momentum 0.1 gets one training batch, in which a channel's mean is 5. What is the "
    "running mean of that channel afterwards?",
    0.5,
    "0.9 · 0 + 0.1 · 5. It takes dozens of batches to get close to 5, so an evaluation before that uses a wrong mean.",
    {
        4.5: "That uses momentum the other way round. In PyTorch, 0.1 is the weight of the *new* batch.",
        5: "That is the mean of the batch. The running mean moves only a tenth of the way towards it.",
        0.1: "0.1 is the momentum. How far does the running mean move towards 5 from where it starts?",
        2.5: "That is half of the way. The momentum is 0.1.",
    },
    ("The running mean starts at 0.", "new = (1 - momentum) · old + momentum · mean of the batch."),
    within=1e-4,
)
