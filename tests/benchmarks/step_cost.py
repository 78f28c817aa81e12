"""What recording costs: a step of ``train`` with meter and record, but no panel, against the same step by hand.

Measured in two ways. In pairs: both loops alternate in one thread, one block of steps each, in random order. Added up:
the time of ``train``'s loop around a network that does nothing, minus that of a hand-written loop around the same.
``python -m tests.benchmarks.step_cost`` takes about three minutes on two cores. Run nothing else meanwhile.
"""

import time

import numpy as np
import torch

import speedkit as sk
from speedkit import hardware
from speedkit.loading import drain
from speedkit.meter import Meter
from speedkit.run import Run, Step
from speedkit.tasks import module_of
from speedkit.techniques.precision import Precision
from speedkit.train import train
from tests.benchmarks import Figures, ratio, several
from tests.benchmarks.by_hand import now, steps_by_hand

RECIPE = sk.Recipe(cache="ram", batch_size=64, epochs=30)
BLOCK, TURNS = 40, 240
BY_HAND, TRAIN = "by hand", "train"


def in_turns(recipe: sk.Recipe, turns: int = TURNS, block: int = BLOCK) -> dict:
    """Compares alternating blocks of steps of both loops, leaving out any block in which an epoch ends."""
    epoch = len(drain(module_of(recipe).load(recipe)).train) // recipe.batch_size
    loops = {TRAIN: (record for record in train(recipe) if isinstance(record, Step)), BY_HAND: steps_by_hand(recipe)}
    draw, times, done = np.random.default_rng(0), {name: [] for name in loops}, 0
    for _ in range(turns):
        took = {}
        for name in draw.permutation(list(loops)):
            start = now()
            for _ in range(block):
                next(loops[name])
            took[name] = now() - start
        done += block
        if done > block and done // epoch == (done - block - 1) // epoch:
            for name, seconds in took.items():
                times[name].append(seconds)
    for loop in loops.values():
        loop.close()
    return ratio(times)


class Nothing:
    """A loader, a loss and an optimizer that do nothing."""

    def __init__(self, device: str, steps: int):
        self.batch = torch.zeros(1, device=device), torch.zeros(1, device=device), 0
        self.steps, self.loss = steps, torch.zeros((), device=device)

    def epoch(self, number):
        for _ in range(self.steps):
            yield self.batch

    def backward(self):
        pass

    zero_grad = step = backward


def added_up(steps: int = 20_000) -> float:
    """Seconds per step that ``train`` adds to a hand-written loop."""
    device = hardware.machine().device
    nothing, run = Nothing(device, steps), Run(sk.Recipe())
    start = time.perf_counter()
    for images, labels, _ in nothing.epoch(0):
        images.to(device, non_blocking=True), labels.to(device, non_blocking=True)
        nothing.zero_grad()
        nothing.backward()
        nothing.step()
    by_hand = time.perf_counter() - start
    with Precision("fp32", device) as precision, Meter(run, device) as meter:
        start = time.perf_counter()
        for _ in train_around(nothing, precision, meter, run):
            pass
        in_train = time.perf_counter() - start
    return (in_train - by_hand) / steps


def train_around(nothing, precision, meter, run):
    """The inner loop of ``train`` without a network."""
    for _ in meter.waiting(nothing, 0):
        with precision.autocast():
            loss = nothing.loss
        precision.step(nothing, nothing)
        nothing.step()
        yield meter.lap(loss)
        if run.count == run.total_steps:
            break


def main():
    figures = Figures("step_cost")
    figures["train / by hand, a step"] = in_turns(RECIPE)
    figures["added to a step, seconds"] = several([added_up() for _ in range(15)])
    print(figures.path)


if __name__ == "__main__":
    main()
