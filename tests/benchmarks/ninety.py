"""Seconds to 90 % test accuracy on Fashion-MNIST: the last lesson's recipe against what people would otherwise run.

The recipe's steps are fixed in advance, and its whole run counts: loading, training and every evaluation. For the
others only loading and training count. They end after the first epoch with 90 % accuracy on the test images, which are
read between epochs with the clock stopped. Any unfairness is in their favour. The newcomer's loader crops and flips,
as in the tutorials; the others, like the recipe, do not.

``python -m tests.benchmarks.ninety`` takes about 25 minutes on two cores. Run nothing else meanwhile. If fast.ai or
Lightning is not installed, its row is left out.
"""

import importlib.util
import sys
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torchvision import transforms

import speedkit as sk
from speedkit import hardware
from tests.benchmarks import keep, ratio, rivals
from tests.benchmarks.by_hand import now
from tests.benchmarks.loading import newcomer_transform, torchvision_set

SEEDS = range(5)
TARGET = 0.9
MOST_EPOCHS = 20
# The last recipe of notebooks/07_all_together.ipynb if cache and channels_last pay, as they do on most machines.
RECIPE = sk.Recipe(cache="device", channels_last=True, batchnorm=True, epochs=2, steps=1200, test_at_end=True)
RECIPE = RECIPE.but(learning_rate=0.06, schedule="one_cycle", weight_decay=5e-4)


class Clock:
    """A clock that is stopped while accuracy is read."""

    def __init__(self):
        self.seconds, self.began = 0.0, now()

    def stop(self):
        self.seconds += now() - self.began

    def go(self):
        self.began = now()


def kit(seed: int, root: Path):
    """The last lesson's recipe, from start to end."""
    start = now()
    run = sk.fit(RECIPE.but(seed=seed))
    return now() - start, run.scalars["test_accuracy"]


def tensors(root: Path, train: bool, transform=None):
    """torchvision's dataset as the tutorials load it; without augmentation unless a transform is given."""
    steps = [transforms.ToTensor(), transforms.Normalize((0.286,), (0.353,))]
    return torchvision_set(root, train, transform or transforms.Compose(steps))


def to_the_target(seed: int, root: Path, network, train_epoch, transform=None):
    """Trains to the target; gives seconds and accuracy. ``train_epoch``: (model, loader, number) -> None."""
    torch.manual_seed(seed)
    test, clock = rivals.loader(tensors(root, train=False), shuffle=False), Clock()
    batches, model = rivals.loader(tensors(root, True, transform)), network().to(hardware.machine().device)
    for epoch in range(MOST_EPOCHS):
        train_epoch(model, batches, epoch)
        clock.stop()
        reached = rivals.accuracy(model, test)
        if reached >= TARGET:
            break
        clock.go()
    return clock.seconds, reached


def newcomer(seed: int, root: Path):
    """Batch size 64, Adam with its default learning rate, a common small network without norms."""
    state = {}

    def epoch(model, batches, number):
        optimizer = state.setdefault("optimizer", torch.optim.Adam(model.parameters(), lr=0.001))
        rivals.by_hand(model, batches, optimizer)

    network = partial(rivals.usual_network, batchnorm=False)
    return to_the_target(seed, root, network, epoch, newcomer_transform())


def same_recipe(seed: int, root: Path):
    """The kit's steps, learning rate and schedule by hand, with torchvision's loader and the usual order of layers."""
    torch.manual_seed(seed)
    start = now()
    batches = rivals.loader(tensors(root, train=True))
    model = rivals.usual_network(batchnorm=True).to(hardware.machine().device)
    rate = RECIPE.learning_rate
    optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9, nesterov=True, weight_decay=5e-4)
    schedule = rivals.one_cycle(optimizer, rate, RECIPE.steps)
    rivals.by_hand(model, batches, optimizer, schedule)
    rivals.by_hand(model, batches, optimizer, schedule, RECIPE.steps - len(batches))
    seconds = now() - start
    return seconds, rivals.accuracy(model, rivals.loader(tensors(root, train=False), shuffle=False))


def fastai(seed: int, root: Path):
    """``fit_one_cycle`` for one epoch, repeated until the target is reached."""
    return to_the_target(
        seed, root, rivals.kit_network, lambda model, batches, _: rivals.fastai_fit(model, batches, 0.01)
    )


def lightning(seed: int, root: Path):
    """The ``Trainer`` with the kit's steps, learning rate and schedule, repeated until the target is reached."""

    def cycle(model, batches, number):
        rivals.lightning_fit(model, batches, RECIPE.learning_rate, RECIPE.steps, epochs=2)

    return to_the_target(seed, root, rivals.kit_network, cycle)


OTHERS = {
    "newcomer's loop": newcomer,
    "the same recipe over torchvision's loader": same_recipe,
    "fast.ai's fit_one_cycle": fastai,
    "Lightning's Trainer": lightning,
}
PACKAGES = {fastai: "fastai.learner", lightning: "lightning"}


def measure(others: dict, root: Path) -> dict:
    """Runs every way with every seed, in random order."""
    ways, draw = {"kit": kit} | others, np.random.default_rng(0)
    found = {name: [] for name in ways}
    tensors(root, train=True)  # unpacks the files, outside everyone's time
    for seed in SEEDS:
        for name in draw.permutation(list(ways)):
            seconds, reached = ways[name](seed, root)
            found[name].append((seconds, reached))
            print(f"seed {seed}, {name}: {seconds:.1f} s, test accuracy {reached:.2%}", flush=True)
    figures = {}
    times = {name: [seconds for seconds, _ in runs] for name, runs in found.items()}
    for name in others:
        figures[f"{name} / the last recipe, to 90 %"] = ratio({name: times[name], "kit": times["kit"]})
    return figures | {"test accuracy": {name: [reached for _, reached in runs] for name, runs in found.items()}}


def main():
    others = {
        name: way
        for name, way in OTHERS.items()
        if way not in PACKAGES or importlib.util.find_spec(PACKAGES[way].partition(".")[0]) is not None
    }
    for package in {PACKAGES[way] for way in others.values() if way in PACKAGES}:
        importlib.import_module(package)  # outside its time
    if missing := OTHERS.keys() - others.keys():
        print(f"Skipped, because not installed: {', '.join(sorted(missing))}.", file=sys.stderr)
    with tempfile.TemporaryDirectory() as folder:
        print(keep("ninety", measure(others, Path(folder))))


if __name__ == "__main__":
    main()
