"""Text and ratings: batches a second, what a step costs, and the time to a fixed accuracy, against plain loops.

The plain loop for text has the settings that nanoGPT's README gives for a laptop's processor (Karpathy 2022): batches
of 12 windows, AdamW with a warm-up and a cosine to a tenth, gradients clipped at 1, around the same network. Windows
are cut as there, at random places of one array. The kit's recipe trains the same network, in larger batches and with a
rate that rises to fifteen times as much and falls within one pass (one_cycle).
``python -m tests.benchmarks.teams`` takes about eight minutes on two cores. Run nothing else meanwhile.
"""

import math
import sqlite3
import time

import numpy as np
import torch
from torch.utils.data import Dataset

import speedkit as sk
from speedkit.loading import drain, make_loader
from speedkit.tasks import module_of
from speedkit.tasks.data import correct
from speedkit.train import new_model, train
from tests.benchmarks import Figures, paired
from tests.benchmarks.loading import BATCH, PerThousand, loaded
from tests.benchmarks.step_cost import in_turns

TEXT = sk.Recipe(data="text", subset=None, augment="light", cache="device", batch_size=BATCH)
RATINGS = sk.Recipe(data="ratings", cache="device", batch_size=BATCH)
TARGET = 0.38  # of the next bytes of the validation plays: the plain loop takes more than half a minute
PAIRS = 11


def kit(recipe):
    """The kit's batches without end, after the first epoch."""
    loader = drain(make_loader(recipe, drain(module_of(recipe).load(recipe)), "cpu"))
    epoch = 0
    while True:
        for inputs, labels, _ in loader.epoch(epoch):
            if epoch:
                yield inputs, labels
        epoch += 1


class Sliced(Dataset):
    """One window of the text at a time, from a random place."""

    def __init__(self, recipe):
        self.text, self.context = drain(module_of(recipe).load(recipe)).train.text, recipe.context

    def __len__(self):
        return len(self.text) // self.context

    def __getitem__(self, index):
        begin = torch.randint(len(self.text) - self.context - 1, ())
        window = self.text[begin : begin + self.context + 1].long()
        return window[:-1], window[1:]


class Queried(Dataset):
    """One query a sample, from the indexed database."""

    def __init__(self, recipe):
        self.source = drain(module_of(recipe).load(recipe.but(data="ratings-sqlite", cache="off"))).train
        self.connection = sqlite3.connect(self.source.database.path)

    def __len__(self):
        return len(self.source)

    def __getitem__(self, index):
        length = self.source.stored[0]
        rows = self.connection.execute(self.source.QUERY, (*self.source.keys[index].tolist(), length)).fetchall()
        items = [row[0] for row in rows]
        target = items.pop(np.random.randint(len(items)))
        return torch.tensor(items + [0] * (length - len(items))), target


def seconds_to_target(recipe, target: float) -> float:
    """Seconds of the kit's training until an evaluation reaches the target, without the preparation."""
    run = sk.Run(recipe)
    for record in train(recipe, run):
        if isinstance(record, type(run.epoch)) or run.last("validation_accuracy") >= target:
            return float(run.epoch_column("t")[-1])
    return math.inf


def plain_seconds_to_target(recipe, target: float, most: int = 4000) -> float:
    """The same by the plain loop; what evaluating takes does not count."""
    data = drain(module_of(recipe).load(recipe))
    model, text, context = new_model(recipe, data), data.train.text, recipe.context
    array = text.numpy()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.99), weight_decay=0.1)
    spent, start = 0.0, time.perf_counter()
    for step in range(most):
        rate = 1e-3 * (step + 1) / 100 if step < 100 else 1e-4 + 4.5e-4 * (1 + math.cos(math.pi * (step - 100) / 1900))
        for group in optimizer.param_groups:
            group["lr"] = rate
        begins = torch.randint(len(text) - context - 1, (12,))
        windows = torch.stack([torch.from_numpy(array[i : i + context + 1].astype(np.int64)) for i in begins])
        loss = torch.nn.functional.cross_entropy(model(windows[:, :-1]), windows[:, 1:])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 50 == 49:
            spent += time.perf_counter() - start
            model.eval()
            with torch.no_grad():
                inputs, labels = data.validation
                right = sum(
                    int(correct(model(x), y)) for x, y in zip(inputs.split(256), labels.split(256), strict=True)
                )
            model.train()
            if right / labels.numel() >= target:
                return spent
            start = time.perf_counter()
    return math.inf


def main():
    figures = Figures("teams")
    ways = {
        "windows sliced one at a time": PerThousand(loaded(Sliced(TEXT)), 20_000),
        "windows from the device": PerThousand(kit(TEXT), 2_000_000),
    }
    figures["windows sliced one at a time / cache on the device"] = paired(ways, PAIRS)
    ways = {
        "a query a sample": PerThousand(loaded(Queried(RATINGS)), 10_000),
        "samples from the device": PerThousand(kit(RATINGS), 500_000),
    }
    figures["a query a sample / cache on the device"] = paired(ways, PAIRS)
    for name, recipe in {"text": TEXT.but(epochs=30), "ratings": RATINGS.but(epochs=30, batch_size=256)}.items():
        figures[f"train / by hand, a step of {name}"] = in_turns(recipe, turns=60, block=10)
    quick = TEXT.but(schedule="one_cycle", learning_rate=0.015, subset=12_000, epochs=1, batch_size=32)
    ways = {
        "plain loop": lambda: plain_seconds_to_target(TEXT, TARGET),
        "the kit's recipe": lambda: seconds_to_target(quick, TARGET),
    }
    figures["plain loop / the kit's recipe, to the same accuracy"] = paired(ways, 3)
    print(figures.path)


if __name__ == "__main__":
    main()
