"""A recipe's training, written by hand: what ``train``, the meter and the panel are compared with."""

import itertools
import time
from contextlib import closing

import torch
from torch.nn.functional import cross_entropy

from speedkit import hardware
from speedkit.loading import drain, make_loader
from speedkit.tasks.images import load
from speedkit.train import new_model


def now() -> float:
    """The time once the GPU has finished all its work."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return time.perf_counter()


def steps_by_hand(recipe):
    """Trains without meter, record, evaluation or panel; a generator that yields after each step."""
    device = hardware.machine(recipe.device).device
    data = drain(load(recipe))
    model = new_model(recipe, data).to(device)
    options = {"momentum": 0.9, "nesterov": True, "fused": device.startswith("cuda")}
    optimizer = torch.optim.SGD(model.parameters(), lr=recipe.learning_rate, **options)
    with closing(drain(make_loader(recipe, data, device))) as loader:
        batches = (batch for epoch in range(recipe.epochs) for batch in loader.epoch(epoch))
        for images, labels, _ in itertools.islice(batches, recipe.steps):
            images, labels = images.to(device, non_blocking=True), labels.to(device, non_blocking=True)
            loss = cross_entropy(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            yield
