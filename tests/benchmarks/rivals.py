"""The same training in the loops that people would otherwise use: a hand-written one, fast.ai's and Lightning's.

Only these benchmarks need fast.ai and Lightning: ``pip install -r tests/benchmarks/requirements.txt``.
"""

import contextlib
import io
import logging
import warnings

import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader

from speedkit import hardware
from speedkit.tasks.images import build

BATCH = 64


def usual_network(batchnorm: bool) -> nn.Sequential:
    """The kit's small network as tutorials write it: convolution, norm (if any), ReLU, pooling."""
    layers, channels = [], 1
    for width in (16, 32, 64):
        layers += [nn.Conv2d(channels, width, 3, padding=1), *[nn.BatchNorm2d(width)] * batchnorm]
        layers += [nn.ReLU(), nn.MaxPool2d(2)]
        channels = width
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(64 * 9, 10))


def kit_network() -> nn.Sequential:
    """The kit's small network with norms, but without the layer that normalises pixels: here the loader does that."""
    unused = torch.ones(1)
    return build("small", (1, 28, 28), 10, mean=unused, std=unused, batchnorm=True)[1:]


def loader(dataset, shuffle: bool = True, workers: int = 0) -> DataLoader:
    return DataLoader(dataset, batch_size=BATCH, shuffle=shuffle, drop_last=shuffle, num_workers=workers)


def one_cycle(optimizer, rate: float, steps: int):
    """The schedule of a recipe with ``schedule="one_cycle"``."""
    shape = {"pct_start": 0.26, "anneal_strategy": "linear", "cycle_momentum": False}
    return torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, steps, div_factor=10, final_div_factor=10, **shape)


@torch.no_grad()
def accuracy(model, batches) -> float:
    """The share of correct answers in evaluation mode."""
    device, right, count = next(model.parameters()).device, 0, 0
    training = model.training
    model.eval()
    for images, labels in batches:
        right += int((model(images.to(device)).argmax(1) == labels.to(device)).sum())
        count += len(labels)
    model.train(training)
    return right / count


def by_hand(model, batches, optimizer, schedule=None, steps: int | None = None):
    """Trains one epoch, or its first ``steps`` steps, by hand."""
    device = hardware.machine().device
    for step, (images, labels) in enumerate(batches):
        if step == steps:
            break
        loss = cross_entropy(model(images.to(device)), labels.to(device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if schedule:
            schedule.step()


def fastai_fit(model, batches, rate: float, epochs: int = 1):
    """fast.ai's ``fit_one_cycle`` with only its default callbacks (recorder and progress bar)."""
    from fastai.callback import progress, schedule  # noqa: F401 (they give Learner its progress bar and fit_one_cycle)
    from fastai.data.core import DataLoaders
    from fastai.learner import Learner

    dls = DataLoaders(batches, [])
    learner = Learner(dls, model.to(hardware.machine().device), loss_func=nn.CrossEntropyLoss())
    with quiet():
        learner.fit_one_cycle(epochs, rate)


def lightning_fit(model, batches, rate: float, steps: int, epochs: int = 1):
    """Lightning's ``Trainer`` with its default progress bar and a logged loss, but no files (logs, checkpoints)."""
    import lightning

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.model = model

        def training_step(self, batch, index):
            images, labels = batch
            loss = cross_entropy(self.model(images), labels)
            self.log("train_loss", loss, prog_bar=True)
            return loss

        def configure_optimizers(self):
            optimizer = torch.optim.SGD(self.parameters(), lr=rate, momentum=0.9, nesterov=True, weight_decay=5e-4)
            return [optimizer], [{"scheduler": one_cycle(optimizer, rate, steps), "interval": "step"}]

    with quiet():
        kind = hardware.machine().kind
        limits = {"max_epochs": epochs, "max_steps": steps, "accelerator": "gpu" if kind == "cuda" else kind}
        trainer = lightning.Trainer(**limits, devices=1, logger=False, enable_checkpointing=False)
        trainer.fit(Module(), batches)


@contextlib.contextmanager
def quiet():
    """Silences the other libraries."""
    for name in ("lightning", "lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        yield
