"""Exercises on reduced precision: how many bytes, how small, how far."""

import torch
from torch import nn

from speedkit.lessons.exercise import Exercise, WrongAnswer, behaves_like, choice, number, number_question


def _models():
    frozen = nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5), nn.Linear(5, 2))
    frozen[0].weight.requires_grad_(False)
    return [nn.Linear(7, 4), frozen]


def _bytes_of(model, dtype):
    return sum(p.numel() for p in model.parameters()) * torch.empty((), dtype=dtype).element_size()


def _judge_bytes(answer):
    formats = (torch.float32, torch.float16, torch.int8)
    used = behaves_like(
        answer,
        _bytes_of,
        [(model, dtype) for model in _models() for dtype in formats],
        [
            (lambda m, d: 8 * _bytes_of(m, d), "This counts bits: a byte is eight of them."),
            (
                lambda m, d: sum(p.numel() for p in m.parameters()),
                "This counts the numbers, and not yet the bytes that each of them takes in `dtype`.",
            ),
            (
                lambda m, d: len(list(m.parameters())) * d.itemsize,
                "This counts the parameter tensors: each holds many numbers, see `p.numel()`.",
            ),
            (
                lambda m, d: _bytes_of(m, torch.float32),
                "This gives the bytes as the model is now, whatever `dtype` is: ask the format for its size, not `p`.",
            ),
            (
                lambda m, d: sum(p.numel() for p in m.parameters() if p.requires_grad) * d.itemsize,
                "This leaves out parameters that are not trained: they are stored, too.",
            ),
            (
                lambda m, d: sum(v.numel() for v in m.state_dict().values()) * d.itemsize,
                "This counts the running averages of the batch norm as well: they are buffers, not parameters.",
            ),
        ],
        read=lambda result, *_: number(result),
    )
    if any(p.dtype != torch.float32 for model, _ in used for p in model.parameters()):
        raise WrongAnswer(
            "The number is right, but the function changed the model that it was given: `.to()` and `.half()` convert "
            "a module in place. Ask the format alone, or convert a copy."
        )
    return "Half the bits, half the bytes: of the weights. What training needs beside them is another count."


bytes_of = Exercise(
    "Write `bytes_of(model, dtype)`: the bytes that the parameters of `model` take when each number is stored as "
    "`dtype` (torch.float32, torch.float16, torch.int8 …). The model itself stays as it is.",
    _judge_bytes,
    (
        "How many numbers are there, and how many bytes does one of them take?",
        "`p.numel()` for each `p` of `model.parameters()`; `dtype.itemsize` is the size of one number in bytes.",
    ),
    """def bytes_of(model, dtype):
    return sum(p.numel() for p in model.parameters()) * dtype.itemsize""",
)

smallest_fp16 = number_question(
    "What is the smallest number above zero that fp16 can hold? (5 bits of exponent, 10 of fraction. Half of "
    "it and less becomes zero, which is what happens to small gradients.)",
    2.0**-24,
    "2⁻²⁴, about 6e-8: the smallest exponent, 2⁻¹⁴, times the last bit of the fraction, 2⁻¹⁰.",
    {
        2.0**-14: "2⁻¹⁴ is the smallest *normal* number, `torch.finfo(torch.float16).tiny`. Below it there are still "
        "subnormal ones, with fewer and fewer digits.",
        2.0
        ** -10: "2⁻¹⁰ is the spacing of the numbers just above 1, `torch.finfo(torch.float16).eps`. Near zero they lie "
        "closer together.",
        2.0**-25: "2⁻²⁵ is half of it: in fp16 this rounds to zero. Try `torch.tensor(2.0**-25).half()`.",
        65504.0: "65504 is the largest fp16 number; the smallest above zero is asked for.",
        2.0**-133: "That is bf16's, which has 8 bits of exponent.",
        2.0**-149: "That is fp32's, which has 8 bits of exponent and 23 of fraction.",
        2.0**-126: "That is the smallest normal number of fp32 and bf16, which have 8 bits of exponent.",
        2.0**-15: "2⁻¹⁵ has the lowest exponent field, which is kept for the subnormal numbers: they count in steps "
        "of 2⁻¹⁴ · 2⁻¹⁰.",
    },
    (
        "Halve 1.0 in fp16 until it is zero: what was the last number before?",
        "Normal numbers end at 2⁻¹⁴. Below, the fraction loses its leading one, and its last bit is worth 2⁻¹⁰ of it.",
    ),
    within=0.01,
)

larger_range = choice(
    "Both fp16 and bf16 have 16 bits. Which of them reaches further, to larger and to smaller numbers, and why?",
    "b",
    {
        "a": (
            "fp16, because it has more bits of fraction.",
            "fp16 does have more bits of fraction, 10 against 7, but they give digits. What gives range?",
        ),
        "b": (
            "bf16, because it has more bits of exponent.",
            "8 bits of exponent, as many as fp32, against 5: so bf16 needs no loss scaling, and pays with digits.",
        ),
        "c": (
            "Both reach equally far, because both have 16 bits.",
            "Both can hold equally *many* numbers. How far apart the outermost ones are is decided by how the bits are "
            "divided between exponent and fraction.",
        ),
        "d": (
            "bf16, because it has more bits of fraction.",
            "The right format for the wrong reason: bf16 has 7 bits of fraction, fp16 has 10. Which part gives range?",
        ),
    },
    ("Compare `torch.finfo(torch.float16).max` and `torch.finfo(torch.bfloat16).max`.",),
)
