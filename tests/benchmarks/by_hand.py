"""A recipe's training, written by hand: what ``train``, the meter and the panel are compared with."""

import itertools
import time
from contextlib import closing

import torch
from torch.nn.functional import cross_entropy

from speedkit import hardware
from speedkit.loading import drain, make_loader
from speedkit.tasks import module_of
from speedkit.train import new_model


def now() -> float:
    """The time once the GPU has finished all its work."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return time.perf_counter()


def steps_by_hand(recipe):
    """Trains without meter, record, evaluation or panel; a generator that yields after each step."""
    device = hardware.machine(recipe.device).device
    data = drain(module_of(recipe).load(recipe))
    model = new_model(recipe, data).to(device)
    options = {"lr": recipe.learning_rate, "fused": device.startswith("cuda")}
    if recipe.optimizer == "adam":
        optimizer = torch.optim.AdamW(model.parameters(), weight_decay=recipe.weight_decay, **options)
    else:
        optimizer = torch.optim.SGD(model.parameters(), momentum=0.9, nesterov=True, **options)
    with closing(drain(make_loader(recipe, data, device))) as loader:
        batches = (batch for epoch in range(recipe.epochs) for batch in loader.epoch(epoch))
        for inputs, labels, _ in itertools.islice(batches, recipe.steps):
            inputs, labels = inputs.to(device, non_blocking=True), labels.to(device, non_blocking=True)
            loss = cross_entropy(model(inputs), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            yield
