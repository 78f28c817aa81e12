"""What one training produced: the recipe, the machine, and columns of what was measured."""

import contextlib
import math
from array import array
from collections.abc import Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np

from speedkit.recipe import Recipe
from speedkit.support.errors import NotFinite
from speedkit.support.messages import N_, Message, message_of
from speedkit.support.settings import smoke

STEP_COLUMNS = ("epoch", "t", "wait_s", "compute_s", "step_s", "memory", "loss", "reads")
STEP_COLUMNS += ("load_s", "read_s", "augment_s")
EPOCH_COLUMNS = ("steps", "t", "train_s", "evaluate_s", "reads")
EPOCH_COLUMNS += ("train_loss", "train_accuracy", "validation_loss", "validation_accuracy")
DISTURBED = 0.15  # above this share taken by other programs, a run's times cannot be trusted

# The context of every training. :mod:`speedkit.lab.queue` replaces it, to announce the training to other kernels.
announced = contextlib.nullcontext


class Step(NamedTuple):
    """Step ``n`` (from 0) has started; its figures are in the run's columns as soon as they are known."""

    n: int


class Epoch(NamedTuple):
    """Epoch ``n`` (from 0) has ended and has been evaluated."""

    n: int


class Run:
    """One training run. Seconds, bytes, and shares from 0 to 1; nan if a figure is not available.

    Step columns: ``epoch``; ``t``, seconds since the first step began; ``wait_s``, the device idle while the loop
    waits for data; ``compute_s``, transfer and computing (device time by events on CUDA and MPS, host time on a
    CPU); ``step_s``, the whole step; ``memory``, allocated on the device, or the resident set of the process and its
    workers on a CPU; ``loss``; ``reads``, images read from the source, not from a cache; ``load_s``, which the loop
    spent in the loader, whether or not the device was idle meanwhile; ``read_s`` and ``augment_s``, which reading (with
    decoding) and augmenting this step's batch took, wherever that was done.
    Epoch columns: ``steps`` and ``t`` at its end, ``train_s``, ``evaluate_s``, ``reads``, and losses and accuracies,
    all in evaluation mode except ``train_loss``, the mean over the epoch's steps. ``train_accuracy`` is that of the
    first thousand training images, without augmentation.
    """

    def __init__(self, recipe: Recipe, name: str = ""):
        """name: what tables and charts call it, if not by the switches of its recipe."""
        self.smoke = smoke()
        self.recipe, self.name = recipe, name
        self.machine: dict = {}
        self.status, self.reason = N_("new"), ""
        self.started = datetime.now(UTC).isoformat(timespec="seconds")
        self.notes: list[str] = []
        self.total_steps: int | None = None
        self.scalars: dict[str, float] = {}  # one value per run: prepare_s, peak_memory, energy_j ...
        self.steps = {name: array("d") for name in STEP_COLUMNS}
        self.epochs = {name: array("d") for name in EPOCH_COLUMNS}
        self.count = 0  # complete rows in steps: a reader in another thread stays below it
        self.paused_s = 0.0  # seconds so far in which another run had its turn: no part of this one's times

    # Recording, for the training loop

    @contextmanager
    def recording(self):
        """Keeps ``status`` and ``reason`` up to date, however the training inside ends."""
        self.status = N_("running")
        try:
            with announced(not self.smoke):
                yield self
        except (GeneratorExit, KeyboardInterrupt):
            self.status, self.reason = N_("stopped"), N_("stopped by hand")
            raise
        except BaseException as error:
            self.status, self.reason = N_("failed"), message_of(error)
            raise
        else:
            self.status = N_("finished")

    def step(self, **figures) -> Step:
        """Appends a row to the step columns; a figure that is not given is nan."""
        for name, column in self.steps.items():
            column.append(figures.get(name, math.nan))
        self.count += 1
        return Step(self.count - 1)

    def epoch(self, **figures) -> Epoch:
        """Appends a row to the epoch columns; a figure that is not given is nan."""
        for name, column in self.epochs.items():
            column.append(figures.get(name, math.nan))
        return Epoch(len(self.epochs["t"]) - 1)

    def note(self, sentence: str):
        """Adds a sentence for the run's reader, unless already there; a message is translated when it is shown."""
        if sentence not in self.notes:
            self.notes.append(sentence)

    def not_finite(self, step: int, value: float) -> NotFinite:
        """The error for a loss that is nan or infinite."""
        sentence = N_(
            "The loss became {value} at step {step}: lower the learning rate, or choose a precision with more range."
        )
        return NotFinite(Message(sentence, value=value, step=step))

    # Reading, safe from another thread while the run goes on

    def column(self, name: str) -> np.ndarray:
        """A copy of one step column so far: float64 [steps]; ``images_per_s``, of text bytes, is from ``step_s``."""
        if name == "images_per_s":
            return self.recipe.units_per_step / self.column("step_s")
        return np.frombuffer(self.steps[name][: self.count].tobytes())

    def epoch_column(self, name: str) -> np.ndarray:
        """A copy of one epoch column so far: float64 [epochs]."""
        whole = len(self.epochs[EPOCH_COLUMNS[-1]])  # the column that is appended last
        return np.frombuffer(self.epochs[name][:whole].tobytes())

    def columns(self, *names: str) -> dict[str, np.ndarray]:
        """Several step columns, cut to one length: between two calls of :meth:`column` a step may have been added."""
        count = self.count
        return {name: self.column(name)[:count] for name in names}

    def epoch_columns(self, *names: str) -> dict[str, np.ndarray]:
        """Several epoch columns, cut to one length."""
        count = len(self.epoch_column(EPOCH_COLUMNS[-1]))
        return {name: self.epoch_column(name)[:count] for name in names}

    @property
    def waiting_share(self) -> float:
        """The share of the step time in which the device waited for data; the first step, a warm-up, is left out."""
        wait, step = (column[1:] for column in self.columns("wait_s", "step_s").values())
        known = np.isfinite(wait) & np.isfinite(step)
        return float(wait[known].sum() / step[known].sum()) if known.any() else math.nan

    def mean(self, name: str) -> float:
        """The mean of a step column without the first step; nan if there is no other step.

        A mean, because workers deliver in bursts, which a median hides. ``images_per_s`` is the rate of the mean step.
        """
        if name == "images_per_s":
            return self.recipe.units_per_step / self.mean("step_s")
        values = self._after_the_first(name)
        return float(values.mean()) if len(values) else math.nan

    def median(self, name: str) -> float:
        """The median of a step column without the first step; nan if there is no other step."""
        values = self._after_the_first(name)
        return float(np.median(values)) if len(values) else math.nan

    def _after_the_first(self, name):
        values = self.column(name)[1:]
        return values[np.isfinite(values)]

    def last(self, name: str) -> float:
        """The last value of an epoch column; nan before the first epoch has ended."""
        values = self.epoch_column(name)
        return float(values[-1]) if len(values) else math.nan

    @property
    def seconds(self) -> float:
        """Seconds from the beginning of the first step to the end of the last step or evaluation."""
        ends = [column[-1] for column in (self.steps["t"], self.epochs["t"]) if len(column)]
        return max(ends, default=0.0)

    @property
    def memory_is_of_processes(self) -> bool:
        """Whether its memory is the resident set of the processes, not what a GPU's allocator holds."""
        return memory_is_of_processes(self.machine)

    @property
    def label(self) -> str:
        return self.name or self.recipe.label

    def where_time_goes(self) -> str:
        """Where a step's time goes, and therefore which techniques can help, in one to three short sentences."""
        from speedkit.run_words import where_time_goes  # here and below, because training shows nothing

        return where_time_goes(self)

    # Saving

    def to_frame(self):
        """The step columns as a pandas DataFrame, one row per step."""
        import pandas

        return pandas.DataFrame(self.columns(*STEP_COLUMNS, "images_per_s"))

    def epochs_to_frame(self):
        """The epoch columns as a pandas DataFrame, one row per epoch."""
        import pandas

        return pandas.DataFrame(self.epoch_columns(*EPOCH_COLUMNS))

    def save(self, path) -> Path:
        """Writes the run as JSON, the whole file or none, and returns the path."""
        from speedkit.run_file import save  # here, because training needs no files

        return save(self, path)

    @classmethod
    def load(cls, path) -> "Run":
        """The run that :meth:`save` wrote, also in an earlier format.

        Raises:
            ValueError: the file does not hold a run; the message names the file and the fault.
            OSError: the file cannot be read.
        """
        from speedkit.run_file import load

        return load(path)

    # Showing

    def summary(self) -> dict[str, str]:
        """The figures to read first: name, in English -> text with units, in the current language."""
        from speedkit.run_words import summary

        return summary(self)

    def __repr__(self):
        from speedkit.run_words import text

        return text(self)

    def _repr_html_(self):
        from speedkit.run_words import html

        return html(self)


def memory_is_of_processes(machine: dict) -> bool:
    """:attr:`Run.memory_is_of_processes` for all runs of one machine."""
    return not str(machine.get("device", "")).startswith(("cuda", "mps"))


def labels(runs: Sequence[Run]) -> list[str]:
    """A label for each run, all different: equal ones are told apart by the settings that differ, or by a number."""
    found: list[str] = []
    first: dict[str, Run] = {}
    for run in runs:
        label = run.label
        if label in first:
            changed = list(first[label].recipe.differences(run.recipe).items())[:2]
            label += "".join(f", {name} {value}" for name, (__, value) in changed)
        first.setdefault(run.label, run)
        distinct, copy = label, 2
        while distinct in found:
            distinct, copy = f"{label} ({copy})", copy + 1
        found.append(distinct)
    return found
