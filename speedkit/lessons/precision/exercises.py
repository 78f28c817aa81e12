"""Exercises on reduced precision: bytes, the smallest number and the range."""

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
            (lambda m, d: 8 * _bytes_of(m, d), "This counts bits. A byte is eight bits."),
            (
                lambda m, d: sum(p.numel() for p in m.parameters()),
                "This counts the numbers, but not the bytes that each of them takes in `dtype`.",
            ),
            (
                lambda m, d: len(list(m.parameters())) * d.itemsize,
                "This counts the parameter tensors. Each of them holds many numbers: see `p.numel()`.",
            ),
            (
                lambda m, d: _bytes_of(m, torch.float32),
                "This gives the size as the model is now, whatever `dtype` is. Ask `dtype` for the size, not `p`.",
            ),
            (
                lambda m, d: sum(p.numel() for p in m.parameters() if p.requires_grad) * d.itemsize,
                "This leaves out parameters that are not trained. They are stored, too.",
            ),
            (
                lambda m, d: sum(v.numel() for v in m.state_dict().values()) * d.itemsize,
                "This also counts the running averages of batch norm, which are buffers, not parameters.",
            ),
        ],
        read=lambda result, *_: number(result),
    )
    if any(p.dtype != torch.float32 for model, _ in used for p in model.parameters()):
        raise WrongAnswer(
            "The number is right, but the function changed the model: `.to()` and `.half()` convert a module in place. "
            "Ask `dtype` for its size, or convert a copy."
        )
    return "With half the bits, the weights take half the bytes. What else training needs in memory is another matter."


bytes_of = Exercise(
    "Write `bytes_of(model, dtype)`: the number of bytes that the parameters of `model` take when each number is "
    "stored as `dtype` (torch.float32, torch.float16, torch.int8 …). Do not change the model.",
    _judge_bytes,
    (
        "How many numbers are there, and how many bytes does each one take?",
        "Add up `p.numel()` for every `p` in `model.parameters()`. `dtype.itemsize` is the bytes per number.",
    ),
    """def bytes_of(model, dtype):
    return sum(p.numel() for p in model.parameters()) * dtype.itemsize""",
)

smallest_fp16 = number_question(
    "What is the smallest number above zero that fp16 can hold? (It has 5 exponent bits and 10 fraction bits. Half of "
    "that number, or less, becomes zero: this is what happens to small gradients.)",
    2.0**-24,
    "2⁻²⁴, about 6e-8: the smallest normal number, 2⁻¹⁴, times the value of the last fraction bit, 2⁻¹⁰.",
    {
        2.0**-14: "2⁻¹⁴ is the smallest *normal* number, `torch.finfo(torch.float16).tiny`. Below it there are still "
        "subnormal numbers, with fewer and fewer digits.",
        2.0**-10: "2⁻¹⁰ is the gap between the numbers just above 1, `torch.finfo(torch.float16).eps`. Near zero they "
        "are closer together.",
        2.0**-25: "2⁻²⁵ is half of the right number: in fp16 it rounds to zero. Try `torch.tensor(2.0**-25).half()`.",
        65504.0: "65504 is the largest fp16 number. The question is about the smallest one above zero.",
        2.0**-133: "That is bf16's smallest number. bf16 has 8 exponent bits.",
        2.0**-149: "That is fp32's smallest number. fp32 has 8 exponent bits and 23 fraction bits.",
        2.0**-126: "That is the smallest normal number of fp32 and bf16, which have 8 exponent bits.",
        2.0**-15: "2⁻¹⁵ would be it if the lowest exponent were used like the others. But that one is reserved for "
        "subnormal numbers, which go in steps of 2⁻¹⁴ · 2⁻¹⁰.",
    },
    (
        "Halve 1.0 in fp16 until it is zero. What was the last number before that?",
        "Numbers below 2⁻¹⁴ have no leading one, and their last fraction bit is worth 2⁻¹⁴ · 2⁻¹⁰.",
    ),
    within=0.01,
)

larger_range = choice(
    "fp16 and bf16 both have 16 bits. Which of them reaches further, to larger and to smaller numbers, and why?",
    "b",
    {
        "a": (
            "fp16, because it has more fraction bits.",
            "fp16 does have more fraction bits (10, bf16 has 7), but they give digits. What gives range?",
        ),
        "b": (
            "bf16, because it has more exponent bits.",
            "bf16 has 8 exponent bits, as many as fp32; fp16 has 5. So bf16 needs no loss scaling, but it has fewer "
            "digits.",
        ),
        "c": (
            "Both reach equally far, because both have 16 bits.",
            "Both can hold equally *many* numbers. How far they reach depends on how the bits are divided between "
            "exponent and fraction.",
        ),
        "d": (
            "bf16, because it has more fraction bits.",
            "The right format for the wrong reason: bf16 has 7 fraction bits, fp16 has 10. Which part gives range?",
        ),
    },
    ("Compare `torch.finfo(torch.float16).max` and `torch.finfo(torch.bfloat16).max`.",),
)
