"""Pictures and tables of the lesson on parallel loading: a timeline, start-up times, prefetch, pinned memory.

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
from speedkit.lab.tables import marked, warning
from speedkit.loading import Loader, drain
from speedkit.recipe import Recipe
from speedkit.run import Run, labels
from speedkit.support.table import Table
from speedkit.support.units import number, seconds, size
from speedkit.tasks.images import load

clock = time.perf_counter


class WhoPrepares(torch.utils.data.Dataset):
    """A dataset whose batches say which process prepared them."""

    def __getitems__(self, keys):
        worker = torch.utils.data.get_worker_info()
        return f"batch {keys[0]}: {'training process' if worker is None else f'worker {worker.id}'}"


# Waiting and computing


@drawn("Timeline of waiting and computing, one row per run.")
def timeline(*runs: Run, steps: int = 60) -> Picture:
    """Waiting and computing in the first ``steps`` steps on a common time axis, one row per run.

    A gap is the evaluation after an epoch. On a GPU, the two durations are measured on the device, and a step ends when
    the host has issued all of its work.
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
    axes.set_xlabel("seconds since the first batch was requested; gaps are evaluation", fontsize=9)
    figure.legend(loc="outside upper right", ncols=2, fontsize=9, frameon=False)
    return figure


def spans_of(run: Run, steps: int) -> tuple[list, list]:
    """(start, duration) in seconds of the waiting and of the computing, for each of the first ``steps`` steps."""
    end, wait, compute = (column[:steps] for column in run.columns("t", "wait_s", "compute_s").values())
    known = np.isfinite(wait) & np.isfinite(compute)
    end, wait, compute = end[known], wait[known], compute[known]
    waiting = list(zip((end - compute - wait).tolist(), wait.tolist(), strict=True))
    return waiting, list(zip((end - compute).tolist(), compute.tolist(), strict=True))


def by_workers(*runs: Run) -> Table:
    """One row per run: seconds to the first batch, means over the later steps, and relative step times."""
    rows = []
    for label, run in zip(labels(runs), runs, strict=True):
        wait, step, compute = (run.mean(name) for name in ("wait_s", "step_s", "compute_s"))
        first = run.column("wait_s")[0] if run.count else np.nan
        times = step / runs[0].mean("step_s")
        rows.append(
            [
                marked(label, run),
                seconds(first),
                seconds(wait),
                seconds(compute),
                seconds(step),
                f"× {times:.2f}" if np.isfinite(times) else "n/a",
                seconds(METRICS["seconds"].read(run, None)),
                size(run.scalars.get("host_memory")),
            ]
        )
    heading = ["run", "first batch after", "waiting", "computing", "step", "step relative to the first row"]
    heading += ["whole run", "main memory of all processes"]
    caption = "One run per row; means over all steps except the first. "
    caption += "Memory that several processes share is counted once for each of them."
    return Table(heading, rows, caption, warning=warning(*runs))


def prefetched(*runs: Run) -> Table:
    """One row per run: how many batches can be ready at a time, their bytes (from the shapes), and mean step times."""
    rows = []
    for run in runs:
        recipe = run.recipe
        ready = recipe.workers * recipe.prefetch
        side = recipe.image_size or 64
        held = ready * recipe.batch_size * 3 * side * side
        wait, step = run.mean("wait_s"), run.mean("step_s")
        rows.append([marked(str(recipe.prefetch), run), number(ready), size(held), seconds(wait), seconds(step)])
    heading = ["prefetch", "batches ahead, at most", "size of these batches", "waiting", "step"]
    return Table(heading, rows, "One run per row; means over all steps except the first.", warning=warning(*runs))


# Start-up


def start_up(recipe: Recipe, count: int = 2) -> Table:
    """Seconds to the first batch in the first and in the second epoch, for each start method of this system.

    The first row has no workers. Nothing is trained, so the processes are idle when the second epoch begins.
    """
    recipe = recipe.effective()
    loaded = drain(load(recipe))
    methods = multiprocessing.get_all_start_methods()
    named = {"no workers": recipe.but(workers=0)}
    for method in methods:
        default = " (Python's default here)" if method == methods[0] else ""
        named[f"{count} worker{'s' * (count != 1)}, {method}{default}"] = recipe.but(workers=count, start_method=method)
    rows = []
    for name, chosen in named.items():
        with closing(Loader(chosen, loaded, "cpu")) as loader:
            rows.append([name, *(seconds(_first_batch(loader, epoch)) for epoch in (0, 1))])
    return Table(["", "first batch, first epoch", "first batch, second epoch"], rows, "One reading per cell.")


def _first_batch(loader, epoch):
    """Seconds from the request to a loader's first batch. Takes the other batches too, so that the epoch ends."""
    batches = loader.epoch(epoch)
    start = clock()
    next(batches)
    taken = clock() - start
    for _ in batches:
        pass
    return taken


# Pinned memory


def pinned(recipe: Recipe) -> Table:
    """Seconds to copy one batch uint8 [B, 3, H, W] at its stored size to the GPU; "n/a" without a CUDA GPU."""
    recipe = recipe.effective()
    device = hardware.machine(recipe.device).device
    ways = {"ordinary": "x", "pinned in advance": "pinned", "pinned by hand, then copied": "x.pin_memory()"}
    heading = ["memory of the batch", "copy to the device"]
    if not device.startswith("cuda"):
        return Table(heading, [[name, "n/a"] for name in ways], "There is no CUDA GPU here, so nothing is timed.")
    from torch.utils.benchmark import Timer  # loads torch's compiler tools, which are not needed on a CPU

    x = torch.zeros((recipe.batch_size, 3, recipe.stored_size, recipe.stored_size), dtype=torch.uint8)
    known = {"x": x, "pinned": x.pin_memory(), "device": device}
    rows = []
    for name, batch in ways.items():
        timer = Timer(f"{batch}.to(device, non_blocking=True)", globals=known)  # waits for the device
        rows.append([name, seconds(timer.blocked_autorange().median)])
    return Table(heading, rows, f"{size(x.nbytes)} per batch.")
