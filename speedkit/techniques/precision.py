"""Reduced precision: compute a step in fewer bits.

Source: Micikevicius et al. 2018, "Mixed Precision Training", and PyTorch's ``torch.amp``.
"""

import copy
import time
from contextlib import nullcontext

import torch

AUTOCAST = {"fp16": torch.float16, "bf16": torch.bfloat16}


class Precision:
    """fp32, tf32, fp16 with a gradient scaler, or bf16. A context manager: it restores the TF32 settings it found."""

    def __init__(self, name: str, device: str):
        self.kind = device.split(":")[0]
        self.dtype = AUTOCAST.get(name)
        self.tf32 = "tf32" if name == "tf32" else "ieee"
        # Small fp16 gradients would round to zero, so the scaler multiplies the loss and later divides the gradients.
        self.scaler = torch.amp.GradScaler(self.kind, enabled=name == "fp16")

    def autocast(self):
        """The context for the forward pass: it picks the number format operator by operator."""
        return nullcontext() if self.dtype is None else torch.autocast(self.kind, self.dtype)

    def step(self, loss, optimizer):
        """Backward pass and update. fp16 scales the loss, and skips the update if a gradient overflowed."""
        optimizer.zero_grad()
        self.scaler.scale(loss).backward()
        self.scaler.step(optimizer)
        self.scaler.update()

    def __enter__(self):
        # Without this, an "fp32" convolution on Ampere or newer GPUs is already TF32.
        self.found = [backend.fp32_precision for backend in _fp32_backends()]
        for backend in _fp32_backends():
            backend.fp32_precision = self.tf32
        return self

    def __exit__(self, *_):
        for backend, found in zip(_fp32_backends(), self.found, strict=True):
            backend.fp32_precision = found


def slowdown(name: str, model, images, labels, steps: int = 3) -> float:
    """How many times as long ``steps`` training steps of a copy of ``model`` take in this precision as in fp32.

    Without hardware for a format, torch still computes correctly and gives no warning, even at a hundredth of the
    speed. So time a few steps before you commit to many. images, labels: on the device of ``model``.
    """
    seconds, kind = {}, images.device.type
    for precision in (Precision("fp32", kind), Precision(name, kind)):
        trial = copy.deepcopy(model).train()
        optimizer = torch.optim.SGD(trial.parameters(), lr=1e-6)
        for step in range(steps + 1):
            with precision.autocast():
                loss = torch.nn.functional.cross_entropy(trial(images), labels)
            precision.step(loss, optimizer)
            if step == 0:  # the first step is the warm-up
                start = _time_when_done(loss)
        seconds[precision.dtype] = _time_when_done(loss) - start
    return seconds[AUTOCAST[name]] / seconds[None]


def _time_when_done(loss):
    loss.item()  # on a GPU, the host waits for it
    return time.perf_counter()


def _fp32_backends():
    return torch.backends.cuda.matmul, torch.backends.cudnn.conv
