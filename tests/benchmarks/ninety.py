"""Seconds to 90 % test accuracy on Fashion-MNIST: the last lesson's recipe against what people would otherwise run.

The recipe's steps are fixed beforehand, and its whole run counts: loading, training, every evaluation. For the others
only loading and training count, and they end at the first epoch after which they have 90 % on the test images, looked
at between the epochs, off the clock: what is unfair in this is in their favour. The newcomer's loader crops and flips,
as the tutorials' do; the others, like the recipe, do without.

``python -m tests.benchmarks.ninety`` takes about 25 minutes on two cores. Nothing else should run meanwhile. Without
fast.ai and Lightning their rows are left out.
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
# What notebooks/07_all_together.ipynb ends with where cache and channels-last pay: the two that do on most machines.
RECIPE = sk.Recipe(cache="device", channels_last=True, batchnorm=True, epochs=2, steps=1200, test_at_end=True)
RECIPE = RECIPE.but(learning_rate=0.06, schedule="one_cycle", weight_decay=5e-4)


class Clock:
    """Seconds that are counted: stopped while an accuracy is read."""

    def __init__(self):
        self.seconds, self.began = 0.0, now()

    def stop(self):
        self.seconds += now() - self.began

    def go(self):
        self.began = now()


def kit(seed: int, root: Path):
    """The last lesson's recipe, whole."""
    start = now()
    run = sk.fit(RECIPE.but(seed=seed))
    return now() - start, run.scalars["test_accuracy"]


def tensors(root: Path, train: bool, transform=None):
    """torchvision's data set as the tutorials load it, by default without augmentation."""
    steps = [transforms.ToTensor(), transforms.Normalize((0.286,), (0.353,))]
    return torchvision_set(root, train, transform or transforms.Compose(steps))


def to_the_target(seed: int, root: Path, network, train_epoch, transform=None):
    """Epochs until the target is reached. ``train_epoch``: (model, loader, number) -> None."""
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
    """Batch 64, Adam with its usual rate, a common small network without norms."""
    state = {}

    def epoch(model, batches, number):
        optimizer = state.setdefault("optimizer", torch.optim.Adam(model.parameters(), lr=0.001))
        rivals.by_hand(model, batches, optimizer)

    network = partial(rivals.usual_network, batchnorm=False)
    return to_the_target(seed, root, network, epoch, newcomer_transform())


def same_recipe(seed: int, root: Path):
    """The kit's steps, rate and schedule by hand, over torchvision's loader, in the usual order of layers."""
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
    """``fit_one_cycle`` for one epoch; where that did not do, for one more, and so on."""
    return to_the_target(
        seed, root, rivals.kit_network, lambda model, batches, _: rivals.fastai_fit(model, batches, 0.01)
    )


def lightning(seed: int, root: Path):
    """The ``Trainer``, with the kit's steps, rate and schedule; where they did not do, the same again."""

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
    """Every seed by every way, in random order."""
    ways, draw = {"kit": kit} | others, np.random.default_rng(0)
    found = {name: [] for name in ways}
    tensors(root, train=True)  # unpacks the files, which is no part of anybody's time
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
        importlib.import_module(package)  # what loading it takes is no part of its time
    if missing := OTHERS.keys() - others.keys():
        print(f"Left out, as they are not installed: {', '.join(sorted(missing))}.", file=sys.stderr)
    with tempfile.TemporaryDirectory() as folder:
        print(keep("ninety", measure(others, Path(folder))))


if __name__ == "__main__":
    main()
