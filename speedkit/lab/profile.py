"""What is in *computing*: forward, backward and optimizer, and the operators that take longest, by torch.profiler."""

import os
import time
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from markupsafe import Markup
from torch.optim import optimizer as torch_optimizer
from torch.profiler import ProfilerActivity

from speedkit.recipe import Recipe
from speedkit.run import Run, Step
from speedkit.support.messages import N_, _
from speedkit.support.settings import learner_folder, smoke
from speedkit.support.table import Table
from speedkit.support.units import number, percent, seconds
from speedkit.train import train

STEPS = (5, 20, 5)  # to warm up, timed, recorded by the profiler
SMOKE = (1, 3, 2)
LONGEST = 10
PHASES = (N_("forward"), N_("loss and backward"), N_("optimizer"))


class Profile:
    """Where the computing of a step goes.

    ``phases``: mean seconds of forward, of the loss and backward, and of the optimizer, over the timed steps: of the
    device on CUDA, of the host on a CPU. ``operators``: (name, calls per step, seconds per step) of the ten operators
    that take longest by themselves, without the operators they call; on CUDA, seconds of the device. ``trace``: the
    file for https://ui.perfetto.dev or ``chrome://tracing``.
    """

    def __init__(self, phases: dict, operators: list, whole: float, trace: Path):
        """whole: seconds per step of all operators together."""
        self.phases, self.operators, self.whole, self.trace = phases, operators, whole, trace

    def _tables(self):
        total = sum(self.phases.values())
        rows = [[_(name), seconds(value), percent(value / total)] for name, value in self.phases.items()]
        yield Table([_("computing"), _("time per step"), _("share")], rows)
        rows = [
            [name, number(calls), seconds(value), percent(value / self.whole)] for name, calls, value in self.operators
        ]
        yield Table([_("operator"), _("calls per step"), _("time per step"), _("share of all operators")], rows)

    def _sentence(self):
        return _(
            "The upper table was timed without the profiler, which slows every operator down. The trace is in {path}: "
            "open it at ui.perfetto.dev.",
            path=str(self.trace),
        )

    def __repr__(self):
        return "\n\n".join([*map(repr, self._tables()), self._sentence()])

    def _repr_html_(self):
        tables = Markup("").join(Markup(table._repr_html_()) for table in self._tables())
        return tables + Markup("<p>{}</p>").format(self._sentence())


def profile(recipe: Recipe, trace: str | Path | None = None) -> Profile:
    """Shows what is in *computing*: ``sk.profile(sk.Recipe(model="wide"))``.

    It trains 30 steps of the recipe, whatever its ``epochs`` and ``steps``: five to warm up, 20 in which the phases are
    timed, and five under ``torch.profiler``. With SPEEDKIT_SMOKE there are six steps.

    Args:
        recipe: what to train.
        trace: the file to write the trace to; ending in .json or .json.gz. Default: ``trace.json.gz`` in the folder
            for your runs.

    Returns:
        A :class:`Profile`, which shows two tables as a cell's last line.

    Raises:
        ValueError: ``trace`` has another ending. Errors of :func:`speedkit.train` are passed on.
    """
    path = Path(trace) if trace else learner_folder() / "trace.json.gz"
    if not path.name.endswith((".json", ".json.gz")):
        raise ValueError(_("trace={path} is not allowed: give a name that ends in .json or .json.gz.", path=str(path)))
    path.parent.mkdir(parents=True, exist_ok=True)
    warm_up, timed, recorded = SMOKE if smoke() else STEPS
    steps = warm_up + timed + recorded
    run = Run(recipe.but(epochs=10_000, steps=steps, early_stopping=None, test_at_end=False).effective())
    phases = _Phases()
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # else the profiler prints into the cell
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * torch.cuda.is_available()
    recorder = torch.profiler.profile(activities=activities)
    with closing(phases), closing(train(run.recipe, run, on_model=phases.watch)) as records:
        for record in records:
            if isinstance(record, Step) and record.n == warm_up + timed - 1:
                mean = phases.seconds(warm_up, warm_up + timed)
                recorder.start()
            elif isinstance(record, Step) and record.n == steps - 1:
                recorder.stop()
                break  # before an evaluation
    recorder.export_chrome_trace(str(path))
    return Profile(mean, *_operators(recorder, recorded, run.machine["device"]), path)


class _Phases:
    """Notes when forward and the optimizer begin and end in each step, by hooks that leave the loop as it is."""

    def __init__(self):
        self.marks, self.hooks = [], []

    def watch(self, model):
        self.cuda = next(model.parameters()).is_cuda
        self.hooks = [
            model.register_forward_pre_hook(lambda module, inputs: self._mark(module.training)),
            model.register_forward_hook(lambda module, inputs, output: self._mark(module.training)),
            torch_optimizer.register_optimizer_step_pre_hook(lambda *__: self._mark()),
            torch_optimizer.register_optimizer_step_post_hook(lambda *__: self._mark()),
        ]

    def _mark(self, training=True):
        if training:  # else it is an evaluation
            if self.cuda:
                event = torch.cuda.Event(enable_timing=True)
                event.record()
            self.marks.append(event if self.cuda else time.perf_counter())

    def seconds(self, first: int, last: int) -> dict:
        """Mean seconds of each phase over the steps from ``first`` to before ``last``."""
        steps = [self.marks[4 * step : 4 * step + 4] for step in range(first, last)]
        if self.cuda:
            torch.cuda.synchronize()
            lengths = [[a.elapsed_time(b) / 1000 for a, b in pairwise(step)] for step in steps]
        else:
            lengths = np.diff(steps, axis=1)
        return dict(zip(PHASES, np.mean(lengths, axis=0).tolist(), strict=True))

    def close(self):
        for hook in self.hooks:
            hook.remove()


def _operators(recorder, steps, device):
    """The operators that take longest, (name, calls, seconds) per step, and the seconds per step of all together."""
    kind = "device" if device.startswith("cuda") else "cpu"
    found = [
        (event.key, event.count / steps, getattr(event, f"self_{kind}_time_total") / 1e6 / steps)
        for event in recorder.key_averages()
        if event.key.startswith("aten::")
    ]
    found.sort(key=lambda operator: operator[2], reverse=True)
    return found[:LONGEST], sum(operator[2] for operator in found)
