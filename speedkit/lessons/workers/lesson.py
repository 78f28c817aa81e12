"""What the lesson on workers draws and times: waiting and computing on a time axis, start-up, prefetch, pinned memory.

Sources: PyTorch's notes on ``torch.utils.data``, "Multiprocessing best practices", and the tutorial on pinned memory;
Python's ``multiprocessing`` for the start methods.
"""

import multiprocessing
import time
from contextlib import closing

import numpy as np
import torch
from matplotlib.figure import Figure

from speedkit import hardware
from speedkit.comparison.metrics import METRICS
from speedkit.lab.picture import COMPUTING, WAITING, Picture, drawn
from speedkit.loading import Loader, drain
from speedkit.recipe import Recipe
from speedkit.run import Run, labels
from speedkit.support.table import Table
from speedkit.support.units import number, seconds, size
from speedkit.tasks.images import load

clock = time.perf_counter


class WhoPrepares(torch.utils.data.Dataset):
    """A data set whose batches say by which process they were prepared."""

    def __getitems__(self, keys):
        worker = torch.utils.data.get_worker_info()
        return f"batch {keys[0]}: {'training process' if worker is None else f'worker {worker.id}'}"


# Waiting and computing


@drawn("Waiting and computing along the seconds, one row per run.")
def timeline(*runs: Run, steps: int = 60) -> Picture:
    """Waiting and computing along one axis of seconds, a row a run, its first ``steps`` steps.

    Gaps are what lies between two steps: the evaluation after an epoch. On a GPU the two durations are the device's,
    and the end of a step is when the host had ordered it.
    """
    figure = Figure(figsize=(9, 0.9 + 0.55 * len(runs)), layout="constrained")
    axes = figure.subplots()
    for height, run in enumerate(reversed(runs)):
        for name, spans in zip(("waiting for data", "computing"), spans_of(run, steps), strict=True):
            colour = WAITING if name == "waiting for data" else COMPUTING
            axes.broken_barh(spans, (height - 0.35, 0.7), color=colour, label=name if height == 0 else "")
    axes.set_yticks(range(len(runs)), labels(runs)[::-1], fontsize=9)
    axes.set_ylim(-0.5, len(runs) - 0.5)
    axes.set_xlim(0, None)
    axes.set_xlabel("seconds since the first batch was asked for; gaps are evaluation", fontsize=9)
    figure.legend(loc="outside upper right", ncols=2, fontsize=9, frameon=False)
    return figure


def spans_of(run: Run, steps: int) -> tuple[list, list]:
    """(beginning, duration) in seconds of the waiting and of the computing in each of the first ``steps`` steps."""
    end, wait, compute = (column[:steps] for column in run.columns("t", "wait_s", "compute_s").values())
    known = np.isfinite(wait) & np.isfinite(compute)
    end, wait, compute = end[known], wait[known], compute[known]
    waiting = list(zip((end - compute - wait).tolist(), wait.tolist(), strict=True))
    return waiting, list(zip((end - compute).tolist(), compute.tolist(), strict=True))


def by_workers(*runs: Run) -> Table:
    """A row a run: seconds until the first batch, means of the steps after it, and the step against the first run's."""
    rows = []
    for label, run in zip(labels(runs), runs, strict=True):
        wait, step, compute = (_mean(run, name) for name in ("wait_s", "step_s", "compute_s"))
        first = run.column("wait_s")[0] if run.count else np.nan
        times = step / _mean(runs[0], "step_s")
        rows.append(
            [
                label,
                seconds(first),
                seconds(wait),
                seconds(compute),
                seconds(step),
                f"× {times:.2f}" if np.isfinite(times) else "n/a",
                seconds(METRICS["seconds"].read(run, None)),
                size(run.scalars.get("host_memory")),
            ]
        )
    heading = ["run", "first batch after", "waiting", "computing", "a step", "step, times the first row's"]
    heading += ["whole run", "main memory, processes"]
    caption = (
        "Means over the steps but the first, one run each. The main memory counts pages that processes share once for "
        "each of them."
    )
    return Table(heading, rows, caption)


def _mean(run, column):
    values = run.column(column)[1:]
    values = values[np.isfinite(values)]
    return float(values.mean()) if len(values) else np.nan


def prefetched(*runs: Run) -> Table:
    """A row a run: batches that may lie ready at a time, their bytes (counted from the shapes), and a mean step."""
    rows = []
    for run in runs:
        recipe = run.recipe
        ready = recipe.workers * recipe.prefetch
        side = recipe.image_size or 64
        held = ready * recipe.batch_size * 3 * side * side
        wait, step = _mean(run, "wait_s"), _mean(run, "step_s")
        rows.append([str(recipe.prefetch), number(ready), size(held), seconds(wait), seconds(step)])
    heading = ["prefetch", "batches ahead, at most", "their pixels", "waiting", "a step"]
    return Table(heading, rows, "Means over the steps but the first, one run each.")


# Start-up


def start_up(recipe: Recipe, count: int = 2) -> Table:
    """Seconds until the first batch is there, in the first epoch and in the second, for each start method here.

    The first row has no workers. Nothing is trained, so that in the second epoch the processes are idle when asked.
    """
    recipe = recipe.effective()
    loaded = drain(load(recipe))
    methods = multiprocessing.get_all_start_methods()
    named = {"no workers": recipe.but(workers=0)}
    for method in methods:
        default = " (what Python takes here)" if method == methods[0] else ""
        named[f"{count} worker{'s' * (count != 1)}, {method}{default}"] = recipe.but(workers=count, start_method=method)
    rows = []
    for name, chosen in named.items():
        with closing(Loader(chosen, loaded, "cpu")) as loader:
            rows.append([name, *(seconds(_first_batch(loader, epoch)) for epoch in (0, 1))])
    return Table(["", "first batch, first epoch", "first batch, second epoch"], rows, "One reading each.")


def _first_batch(loader, epoch):
    """Seconds from asking a loader until its first batch; then takes the others, so that the epoch ends."""
    batches = loader.epoch(epoch)
    start = clock()
    next(batches)
    taken = clock() - start
    for _ in batches:
        pass
    return taken


# Pinned memory


def pinned(recipe: Recipe) -> Table:
    """Seconds to copy one batch uint8 [B, 3, H, W] at its stored size to the GPU; "n/a" where there is no CUDA GPU."""
    recipe = recipe.effective()
    device = hardware.machine(recipe.device).device
    ways = {"ordinary memory": "x", "page-locked already": "pinned", "page-locked first, by hand": "x.pin_memory()"}
    heading = ["the batch lies in", "copy to the device"]
    if not device.startswith("cuda"):
        return Table(heading, [[name, "n/a"] for name in ways], "There is no CUDA GPU here: nothing to copy to.")
    from torch.utils.benchmark import Timer  # loads torch's compiler tools, which a CPU has no use for here

    x = torch.zeros((recipe.batch_size, 3, recipe.stored_size, recipe.stored_size), dtype=torch.uint8)
    known = {"x": x, "pinned": x.pin_memory(), "device": device}
    rows = []
    for name, batch in ways.items():
        timer = Timer(f"{batch}.to(device, non_blocking=True)", globals=known)  # waits for the device
        rows.append([name, seconds(timer.blocked_autorange().median)])
    return Table(heading, rows, f"{size(x.nbytes)} a batch.")
