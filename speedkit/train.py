"""The training loop on one page, with each of the six techniques in its place."""

import time
from contextlib import closing
from functools import cache

import torch
from torch import nn

from speedkit import hardware
from speedkit.loading import Images, drain, make_loader
from speedkit.meter import Meter
from speedkit.recipe import Recipe
from speedkit.run import Run
from speedkit.support.errors import CannotRun
from speedkit.support.messages import N_, Message
from speedkit.tasks import Progress
from speedkit.tasks.images import build, correct, load
from speedkit.techniques.early_stopping import EarlyStopping
from speedkit.techniques.precision import Precision, slowdown
from speedkit.techniques.workers import threads_for_training

EVALUATED = N_("images evaluated")
TOO_SLOW = 3  # times as long as in fp32: fp16 is then refused on a CPU, unless Recipe.allow_slow


def train(recipe: Recipe, run: Run | None = None, *, on_model=None, dataset=Images):
    """Trains as ``recipe`` says. A generator: it yields a record for each piece of preparation, step and epoch.

    Close it to stop early: that ends its workers, and what was measured stays in the run.

    run: a new ``Run(recipe)`` to record into, if you want to watch it. The generator returns it.
    on_model: called with the network when it is made, if you want to look at it between two records (after an epoch's
        it is in evaluation mode) or at the end.
    dataset: a class to use instead of :class:`speedkit.loading.Images`, for example to see a wrong one at work.

    Raises:
        CannotRun: this machine cannot do what the recipe asks.
        DataError: images are missing or damaged.
        NotFinite: the loss became nan or infinite.
        ValueError: ``run`` was made for another recipe.
    """
    recipe = recipe.effective()
    run = Run(recipe) if run is None else run
    if run.recipe.effective() != recipe:
        raise ValueError("The run was made for another recipe: give train the same one as Run.")
    run.recipe = recipe
    with run.recording():
        warm_up_torch()
        began = time.perf_counter()
        machine = hardware.machine(recipe.device)
        run.machine, device = machine.to_dict(), machine.device
        run.notes += machine.check(recipe)
        data = yield from load(recipe)
        model = new_model(recipe, data).to(device)
        if on_model:
            on_model(model)
        refuse_if_slow(recipe, machine, model, data)
        loader = yield from make_loader(recipe, data, device, dataset)
        optimizer, next_rate = optimization(recipe, model, len(loader))
        run.total_steps = total_steps(recipe, len(loader))
        run.scalars["prepare_s"] = time.perf_counter() - began - data.making_s
        stopper = EarlyStopping(recipe.early_stopping, recipe.min_delta)
        workers = 0 if recipe.cache == "device" else recipe.workers
        with (
            closing(loader),
            threads_for_training(workers, machine.cores),
            Precision(recipe.precision, device) as precision,
            Meter(run, device, loader.processes) as meter,
        ):
            for epoch in range(recipe.epochs):
                model.train()
                for images, labels in meter.waiting(loader, epoch):
                    with precision.autocast():
                        loss = nn.functional.cross_entropy(model(images), labels)
                    precision.step(loss, optimizer)
                    next_rate()
                    yield meter.lap(loss)
                    if run.count == run.total_steps:
                        break
                yield meter.end_epoch((yield from evaluate(model, data, precision)))
                if stopper.should_stop(run.last("validation_loss"), model) or run.count == run.total_steps:
                    break
        stopper.restore(model)
        if stopper.best_epoch is not None:
            run.scalars["best_epoch"] = float(stopper.best_epoch)
        if recipe.test_at_end:
            test = yield from data.read_test()
            _, run.scalars["test_accuracy"] = yield from score(model, *test, precision)
    return run


def fit(recipe: Recipe, *, on_model=None, dataset=Images) -> Run:
    """Trains to the end and returns the run; arguments and errors are those of :func:`train`.

    To watch the run or stop it, iterate over :func:`train` instead.
    """
    return drain(train(recipe, on_model=on_model, dataset=dataset))


def first_batch(recipe: Recipe):
    """A recipe's first batch and its untrained network, on its device, to try things by hand.

    Returns images uint8 [B, C, H, W], labels int64 [B] and the network; errors as in :func:`train`.
    """
    device = hardware.machine(recipe.device).device
    data = drain(load(recipe))
    with closing(drain(make_loader(recipe, data, device))) as loader:
        images, labels, _ = next(iter(loader.epoch(0)))
    return images.to(device), labels.to(device), new_model(recipe, data).to(device)


def new_model(recipe, data) -> nn.Module:
    """The recipe's network with the weights of its seed; torch's global generator stays as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(recipe.seed)
        pixels = {"mean": data.mean, "std": data.std}
        model = build(recipe.model, data.shape, len(data.classes), **pixels, batchnorm=recipe.batchnorm)
    return model.to(memory_format=torch.channels_last) if recipe.channels_last else model


def refuse_if_slow(recipe, machine, model, data):
    """Raises CannotRun if fp16 is very slow on this CPU: torch emulates it without a warning. It times three steps."""
    if machine.kind != "cpu" or recipe.precision != "fp16" or machine.fp16 or recipe.allow_slow:
        return
    images, labels = data.probe
    batch = min(recipe.batch_size, 64)
    times = slowdown(recipe.precision, model, images[:batch], labels[:batch])
    if times > TOO_SLOW:
        raise CannotRun(
            Message(
                "Three fp16 steps took {times} times as long as three fp32 steps on this processor: choose bf16 or "
                "fp32, or set allow_slow=True to train in fp16 anyway.",
                times=f"{times:.0f}",
            )
        )


@cache
def warm_up_torch():
    """Triggers torch's lazy imports (about 1 s at a process's first optimizer), so that no run is charged for them."""
    torch.optim.SGD([torch.zeros(1, requires_grad=True)])


def optimization(recipe, model, batches: int):
    """The optimizer, and a function that moves its learning rate on by one step.

    Biases and norms get no weight decay.
    """
    weights = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": weights, "weight_decay": recipe.weight_decay}, {"params": others, "weight_decay": 0.0}]
    rate = recipe.learning_rate
    if recipe.optimizer == "adam":
        optimizer = torch.optim.AdamW(groups, lr=rate)
    else:
        optimizer = torch.optim.SGD(groups, lr=rate, momentum=0.9, nesterov=True)
    if recipe.schedule == "constant":
        return optimizer, lambda: None
    shape = {"anneal_strategy": "linear", "div_factor": 10, "final_div_factor": 10, "cycle_momentum": False}
    shape["pct_start"] = 0.26  # with 0.25, torch's schedule divides by zero in a run of four steps
    steps = total_steps(recipe, batches)
    return optimizer, torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, steps, **shape).step


def total_steps(recipe, batches: int) -> int:
    """The steps of a run that does not stop early."""
    return min(recipe.epochs * batches, recipe.steps or recipe.epochs * batches)


def evaluate(model, data, precision):
    """Losses and accuracies in evaluation mode, as a dict. A generator, like :func:`score`."""
    loss, accuracy = yield from score(model, *data.validation, precision)
    _, train_accuracy = yield from score(model, *data.probe, precision)
    return {"validation_loss": loss, "validation_accuracy": accuracy, "train_accuracy": train_accuracy}


def score(model, images, labels, precision, batch_size: int = 500):
    """Mean loss and accuracy of ``model`` on images uint8 [N, C, H, W] and labels int64 [N].

    A generator: it yields :class:`Progress` after each batch, so that a run can be stopped here too.
    """
    model.eval()
    device = next(model.parameters()).device
    totals = torch.zeros(2, device=device)
    for start in range(0, len(labels), batch_size):
        batch = slice(start, start + batch_size)
        truth = labels[batch].to(device)
        with torch.no_grad(), precision.autocast():
            logits = model(images[batch].to(device)).float()
        totals[0] += nn.functional.cross_entropy(logits, truth, reduction="sum")
        totals[1] += correct(logits, truth)
        yield Progress(EVALUATED, min(start + batch_size, len(labels)), len(labels))
    loss, accuracy = (totals / len(labels)).tolist()
    return loss, accuracy
