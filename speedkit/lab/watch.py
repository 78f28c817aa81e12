"""Any PyTorch loop, watched: the same split into waiting and computing, memory and chart as for a recipe."""

import contextlib
import math

import torch

from speedkit import hardware
from speedkit.lab import live
from speedkit.meter import Meter, clock
from speedkit.recipe import Recipe
from speedkit.run import Run, Step
from speedkit.support.messages import N_, Message, _


class Watch:
    """A loader that is watched while a loop goes through it: ``for images, labels in sk.watch(loader): ...``.

    Each pass over it is an epoch of ``run``. ``len()`` and all other attributes are those of the loader.
    """

    def __init__(self, loader, name: str = "", device: str = "auto"):
        if not hasattr(type(loader), "__iter__"):
            raise TypeError(
                _(
                    "sk.watch needs something that a for loop can go through, such as a DataLoader, and got {kind}.",
                    kind=type(loader).__name__,
                )
            )
        self.loader, self.run, self._device, self._meter = loader, None, device, None
        self._name = name or _("my loop")

    def __len__(self):
        return len(self.loader)

    def __getattr__(self, name):
        return getattr(self.__dict__["loader"], name)

    def __iter__(self):
        asked = clock()
        batches = iter(self.loader)
        batch = next(batches, _END)
        if batch is _END:
            return
        if self._meter is None:
            self._begin(batch)
        self._meter.processes = lambda: getattr(batches, "_workers", [])
        yield from self._steps(batches, batch, asked)

    def _begin(self, batch):
        device = self._device
        if device == "auto":  # a network that is on a GPU has started CUDA
            device = f"cuda:{torch.cuda.current_device()}" if torch.cuda.is_initialized() else "cpu"
        recipe = Recipe(batch_size=_count(batch), workers=getattr(self.loader, "num_workers", 0))
        self.run = Run(recipe, self._name)
        machine = hardware.machine(device)
        self.run.machine, self.run.smoke = machine.to_dict(), False
        self._meter = Meter(self.run, machine.device).__enter__()
        self._meter.reads, self._meter.first_reads = math.nan, 0  # a loader of one's own does not count them

    def _steps(self, batches, batch, asked):
        run, meter, first = self.run, self._meter, self.run.count
        run.status, meter.epoch = "running", len(run.epochs["t"])
        began = clock()
        try:
            while batch is not _END:
                meter.clock.start(asked)
                yield batch
                meter.lap(None)
                run.paused_s += live.frame(run)
                asked = clock()
                batch = next(batches, _END)
            run.status = "finished"
        except BaseException:
            run.status, run.reason = N_("stopped"), N_("stopped by hand")
            raise
        finally:
            run.notes.clear()
            meter.__exit__(None)
            live.keep(run)
            if run.count > first:
                now = clock()
                run.epoch(steps=run.count, t=now - meter.started, train_s=now - began, reads=math.nan)


def runs_of(loop):
    """Makes ``train`` of a comparison out of a function that goes through a watched loader and returns it.

    The function is called once a run, with torch's global generator at the run's seed.
    """

    def train(recipe, run):
        with run.recording():
            began = clock()
            with torch.random.fork_rng():
                torch.manual_seed(recipe.seed)
                watched = loop()
            whole = clock() - began
            found = watched.run if isinstance(watched, Watch) else None
            if found is None or not found.count:
                words = N_("{loop} must go through a loader from sk.watch and return that loader.")
                raise ValueError(Message(words, loop=name_of(loop)))
            vars(run).update({name: getattr(found, name) for name in TAKEN})
            run.total_steps, run.scalars["prepare_s"] = run.count, max(0.0, whole - found.paused_s - found.seconds)
            yield Step(run.count - 1)
        return run

    return train


TAKEN = ("machine", "steps", "epochs", "scalars", "count")  # what a watched run measured


def name_of(loop) -> str:
    return getattr(loop, "__name__", type(loop).__name__)


_END = object()


def watch(loader, name: str = "", *, device: str = "auto") -> Watch:
    """Watches a training loop of your own: ``for images, labels in sk.watch(loader): ...`` is the only line to change.

    In a notebook, a chart moves in the running cell, if it trains for more than two seconds. The time in which the loop
    waits for the loader is *waiting*; the time until it asks for the next batch is *computing*, whatever it does in it.
    On a CUDA GPU both are those of the device, by events in its queue, without a synchronisation.

    To watch several epochs as one run, wrap the loader where it is made: ``loader = sk.watch(DataLoader(...))``.
    ``sk.compare`` compares two such loops.

    Args:
        loader: anything that a ``for`` loop can go through more than once: a ``DataLoader``, a list of batches.
        name: what tables and charts call the run. Default: "my loop".
        device: where the loop computes: "cpu", "cuda:0", or "auto", the current CUDA GPU if CUDA is in use.

    Returns:
        A :class:`Watch` around the loader. Its ``run`` is a :class:`speedkit.Run` with the figures so far, for
        ``print``, ``sk.table_of_runs`` and ``run.save``; None before the first batch. Losses and accuracies are n/a:
        they belong to the loop.

    Raises:
        TypeError: a ``for`` loop cannot go through ``loader``.
        CannotRun: the device does not exist here.
    """
    return Watch(loader, name, device=device)


def _count(batch) -> int:
    """How many samples a batch has: the length of the first tensor, array or list in it; 1 if there is none."""
    if isinstance(batch, dict):
        batch = list(batch.values())
    if isinstance(batch, list | tuple) and batch and not isinstance(batch[0], int | float | str):
        return _count(batch[0])
    with contextlib.suppress(TypeError):
        return max(1, len(batch))
    return 1
