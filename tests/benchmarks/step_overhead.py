"""What the training loops of the kit, fast.ai and Lightning add to a step, compared with a hand-written loop.

All train a tiny network, so that a step is little more than the loop. All record the loss of each step: the kit in the
run, with times and memory; fast.ai in its recorder; Lightning in its log.
``python -m tests.benchmarks.step_overhead`` takes about two minutes on two cores. Run nothing else meanwhile.
"""

import importlib.util

import torch
from torch import nn

from speedkit import hardware
from tests.benchmarks import keep, ratio, rivals, several
from tests.benchmarks.by_hand import now
from tests.benchmarks.step_cost import added_up

STEPS, WARM_UP, ROUNDS = 2_000, 100, 9


class Timed:
    """Repeats the same batch; notes when the first step after the warm-up and the last step begin."""

    def __init__(self):
        device = hardware.machine().device
        self.batch = torch.zeros(4, 1, device=device), torch.zeros(4, dtype=torch.int64, device=device)

    def __len__(self):
        return STEPS

    def __iter__(self):
        for step in range(STEPS):
            if step == WARM_UP:
                self.began = now()
            elif step == STEPS - 1:
                self.ended = now()
            yield self.batch

    @property
    def step_s(self) -> float:
        return (self.ended - self.began) / (STEPS - 1 - WARM_UP)


def next_to_nothing() -> nn.Module:
    return nn.Linear(1, 2).to(hardware.machine().device)


def by_hand() -> float:
    """Seconds per step by hand, with the optimizer and schedule that Lightning gets."""
    batches, model = Timed(), next_to_nothing()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, nesterov=True, weight_decay=5e-4)
    rivals.by_hand(model, batches, optimizer, rivals.one_cycle(optimizer, 0.01, STEPS))
    return batches.step_s


def by_hand_with_adam() -> float:
    """Seconds per step by hand, with fast.ai's optimizer; the schedule counts as part of fast.ai's loop."""
    from fastai.optimizer import Adam

    batches, model = Timed(), next_to_nothing()
    rivals.by_hand(model, batches, Adam(list(model.parameters()), lr=0.01))
    return batches.step_s


def lightning() -> float:
    batches = Timed()
    rivals.lightning_fit(next_to_nothing(), batches, 0.01, STEPS)
    return batches.step_s - by_hand()


def fastai() -> float:
    batches = Timed()
    rivals.fastai_fit(next_to_nothing(), batches, 0.01)
    return batches.step_s - by_hand_with_adam()


def main():
    figures, kit = {}, [added_up() for _ in range(ROUNDS)]
    figures["added to a step by the kit"] = several(kit)
    for name, way in {"lightning": lightning, "fastai": fastai}.items():
        if importlib.util.find_spec(name) is None:
            print(f"{name} skipped: not installed.")
            continue
        way()
        times = {name: [], "kit": []}
        for _ in range(ROUNDS):
            times[name].append(way())
            times["kit"].append(added_up())
        figures[f"added to a step by {name}"] = several(times[name])
        figures[f"added to a step, {name} / kit"] = ratio(times)
    print(keep("step_overhead", figures))


if __name__ == "__main__":
    main()
