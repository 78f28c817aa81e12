"""The training loop on one page, with each of the six techniques in its place."""

import threading
import time
from contextlib import closing
from functools import wraps

import torch
from torch import nn

from speedkit import hardware
from speedkit.loading import Samples, drain, make_loader
from speedkit.meter import Meter
from speedkit.recipe import Recipe
from speedkit.run import Run
from speedkit.support import errors
from speedkit.support.errors import CannotRun
from speedkit.support.messages import N_, Message
from speedkit.tasks import Progress, module_of
from speedkit.tasks.data import at_once, correct
from speedkit.techniques.early_stopping import EarlyStopping
from speedkit.techniques.precision import Precision, slowdown
from speedkit.techniques.workers import threads_for_training

EVALUATED = N_("samples evaluated")
TOO_SLOW = 3  # times as long as in fp32: fp16 is then refused on a CPU, unless Recipe.allow_slow


def apart(make):
    """Makes a generator function compute under torch's own defaults, and the caller's be in force between records."""

    def apart_records(*args, **options):
        from speedkit.support.apart import records  # here, because it is about everything but training

        return records(make(*args, **options))

    return wraps(make)(apart_records)


@apart
def train(recipe: Recipe, run: Run | None = None, *, on_model=None, dataset=Samples):
    """Trains as ``recipe`` says. A generator: it yields a record for each piece of preparation, step and epoch.

    Close it to stop early: that ends its workers, and what was measured stays in the run.

    run: a new ``Run(recipe)`` to record into, if you want to watch it. The generator returns it.
    on_model: called with the network when it is made, if you want to look at it between two records (after an epoch's
        it is in evaluation mode) or at the end.
    dataset: a class to use instead of :class:`speedkit.loading.Samples`, for example to see a wrong one at work.

    Raises:
        CannotRun: this machine cannot do what the recipe asks.
        DataError: samples are missing or damaged.
        NotFinite: the loss became nan or infinite.
        ValueError: ``run`` was made for another recipe.
    """
    recipe = recipe.effective()
    run = Run(recipe) if run is None else run
    if run.recipe.effective() != recipe:
        raise ValueError("The run was made for another recipe: give train the same one as Run.")
    run.recipe = recipe
    with run.recording():
        machine = prepare(recipe, run)
        device, began = machine.device, time.perf_counter()
        data = yield from module_of(recipe).load(recipe)
        record_data(run, data)
        model = new_model(recipe, data).to(device)
        if on_model:
            on_model(model)
        refuse_if_slow(recipe, machine, model, data)
        loader = yield from make_loader(recipe, data, device, dataset)
        optimizer, next_rate = optimization(recipe, model, len(loader))
        run.total_steps = total_steps(recipe, len(loader))
        run.scalars["prepare_s"] = time.perf_counter() - began - data.making_s
        count_memory(run, data, device)
        stopper = EarlyStopping(recipe.early_stopping, recipe.min_delta)
        workers = 0 if recipe.cache == "device" else recipe.workers
        with (
            hardware.in_use(device),
            closing(loader),
            threads_for_training(workers, machine.cores, machine.threads),
            Precision(recipe.precision, device) as precision,
            Meter(run, device, loader.processes) as meter,
        ):
            for epoch in range(recipe.epochs):
                model.train()
                for inputs, labels in meter.waiting(loader, epoch):
                    with precision.autocast():
                        loss = nn.functional.cross_entropy(model(inputs), labels)
                    precision.step(loss, optimizer)
                    next_rate()
                    yield meter.lap(loss)
                    if run.count == run.total_steps:
                        break
                meter.end_steps()
                yield meter.end_epoch((yield from evaluate(model, data, precision)))
                if stopper.should_stop(run.last("validation_loss"), model) or run.count == run.total_steps:
                    break
        stopper.restore(model)
        if stopper.best_epoch is not None:
            run.scalars["best_epoch"] = float(stopper.best_epoch)
        if recipe.test_at_end:
            test = yield from data.read_test()
            _, run.scalars["test_accuracy"] = yield from score(model, *test, precision, data.at_once, data.top)
    return run


def shown(records, run: Run):
    """The records of a run that :func:`fit` makes. :mod:`speedkit.lab.live` replaces it, to draw a chart meanwhile."""
    return records


def fit(recipe: Recipe, *, on_model=None, dataset=Samples) -> Run:
    """Trains to the end and returns the run; arguments and errors are those of :func:`train`.

    In a notebook a chart moves in the running cell, if it trains for more than two seconds, and stays there as a
    picture. To watch the run yourself or stop it, iterate over :func:`train` instead.
    """
    run = Run(recipe.effective())
    with errors.releasing():
        return drain(shown(train(recipe, run, on_model=on_model, dataset=dataset), run))


def first_batch(recipe: Recipe):
    """A recipe's first batch and its untrained network, on its device, to try things by hand.

    Returns inputs, such as images uint8 [B, C, H, W], labels such as int64 [B], and the network; errors as in
    :func:`train`.
    """
    from speedkit.support.apart import Apart

    device = hardware.machine(recipe.device).device
    with errors.releasing(), Apart():
        data = drain(module_of(recipe).load(recipe))
        with closing(drain(make_loader(recipe, data, device))) as loader:
            inputs, labels, _ = next(iter(loader.epoch(0)))
        return inputs.to(device), labels.to(device), new_model(recipe, data).to(device)


def new_model(recipe, data) -> nn.Module:
    """The recipe's network with the weights of its seed; torch's global generator stays as it was."""
    return new_network(recipe, data.shape, len(data.classes), data.probe[0])


def new_network(recipe, shape, classes: int, inputs=None) -> nn.Module:
    """The same for inputs of this shape, normalised by ``inputs`` if they are given and it does so."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(recipe.seed)
        model = module_of(recipe).network(recipe, shape, classes, inputs)
    return model.to(memory_format=torch.channels_last) if recipe.channels_last else model


def record_data(run, data):
    """Records what is known of the data before it is learnt."""
    run.notes += data.notes
    run.scalars["trivial_accuracy"] = data.trivial


def count_memory(run, data, device):
    """Counts the memory of a step, between the preparation and the first step, outside both."""
    from speedkit.counted import record  # here, because it is private to torch, and may be missing

    record(run, data, device)


def refuse_if_slow(recipe, machine, model, data):
    """Raises CannotRun if a format that torch emulates here, without a warning, is very slow. It times three steps.

    That is fp16 on a CPU, and bf16 on a GPU older than Ampere, where convolutions then leave cuDNN.
    """
    emulated = {"cpu": ("fp16", machine.fp16), "cuda": ("bf16", machine.bf16)}.get(machine.kind)
    if emulated is None or recipe.precision != emulated[0] or emulated[1] or recipe.allow_slow:
        return
    batch = min(recipe.batch_size, 64)
    some = (part[:batch].to(machine.device) for part in data.probe)
    times = slowdown(recipe.precision, model, *some)
    if times > TOO_SLOW:
        raise CannotRun(
            Message(
                "Three {precision} steps took {times} times as long as three fp32 steps on {name}: choose {other} or "
                "fp32, or set allow_slow=True to train in {precision} anyway.",
                times=f"{times:.0f}",
                precision=recipe.precision,
                name=machine.name,
                other=machine.half,
            )
        )


def prepare(recipe, run) -> hardware.Machine:
    """Looks at the machine and starts the device, so that no run is charged for it; errors as in :func:`train`."""
    machine = hardware.machine(recipe.device)
    run.machine = machine.to_dict()
    run.notes += machine.check(recipe)
    warm_up_torch(machine.device)
    if machine.kind == "cuda":  # other networks in this kernel, and the libraries' own memory
        run.scalars["memory_before"] = float(torch.cuda.memory_allocated(machine.device))
    return machine


def warm_up_torch(device: str = "cpu"):
    """Triggers what torch does late: imports (about 1 s), and on a GPU in each thread its libraries' start."""
    if device in vars(_warm):
        return
    with hardware.in_use(device):
        with torch.device("meta"):  # so that no weights are drawn from torch's global generator, which is the caller's
            layers = nn.Sequential(nn.Conv2d(1, 1, 3), nn.Flatten(), nn.Linear(36, 1))
        layers.to_empty(device=device)
        optimizer = torch.optim.SGD(layers.parameters(), lr=0.0)
        layers(torch.ones(1, 1, 8, 8, device=device)).sum().backward()
        optimizer.step()
        if device.startswith("cuda"):
            torch.cuda.synchronize()
    vars(_warm)[device] = True


_warm = threading.local()


def optimization(recipe, model, batches: int):
    """The optimizer, and a function that moves its learning rate on by one step.

    Biases and norms get no weight decay.
    """
    weights = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": weights, "weight_decay": recipe.weight_decay}, {"params": others, "weight_decay": 0.0}]
    # Fused: few kernels, and with fp16 it skips a step on the GPU, where the other kinds make the host wait to know.
    rate, fused = recipe.learning_rate, next(model.parameters()).is_cuda
    if recipe.optimizer == "adam":
        optimizer = torch.optim.AdamW(groups, lr=rate, fused=fused)
    else:
        optimizer = torch.optim.SGD(groups, lr=rate, momentum=0.9, nesterov=True, fused=fused)
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
    loss, accuracy = yield from score(model, *data.validation, precision, data.at_once, data.top)
    _, train_accuracy = yield from score(model, *data.probe, precision, data.at_once, data.top)
    return {"validation_loss": loss, "validation_accuracy": accuracy, "train_accuracy": train_accuracy}


def score(model, inputs, labels, precision, batch_size: int | None = None, top: int = 1):
    """Mean loss and accuracy of ``model`` on inputs [N, ...], images for example, and labels int64 [N, ...].

    batch_size: inputs at a time; default: as many as hold four million numbers, at least 32 and at most 500. top: how
    many guesses the network has for each label.

    A generator: it yields :class:`Progress` after each batch, so that a run can be stopped here too.
    """
    model.eval()
    device = next(model.parameters()).device
    batch_size = batch_size or at_once(inputs[0].numel())
    totals = torch.zeros(2, device=device)
    for start in range(0, len(labels), batch_size):
        batch = slice(start, start + batch_size)
        truth = labels[batch].to(device)
        with torch.no_grad(), precision.autocast():
            logits = model(inputs[batch].to(device)).float()
        totals[0] += nn.functional.cross_entropy(logits, truth, reduction="sum")
        totals[1] += correct(logits, truth, top)
        yield Progress(EVALUATED, min(start + batch_size, len(labels)), len(labels))
    loss, accuracy = (totals / labels.numel()).tolist()
    return loss, accuracy
