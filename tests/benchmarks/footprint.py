"""What the kit itself takes: the time to import it, and the memory for the record and the chart of a long run.

``python -m tests.benchmarks.footprint`` takes about three minutes on two cores. Run nothing else meanwhile.
"""

import gc
import subprocess
import sys
import time
from functools import partial
from importlib import import_module

import psutil

from speedkit.recipe import Recipe
from speedkit.run import Run
from tests.benchmarks import Figures, paired, sizes

PAIRS = 15
PROCESSES = 7  # memory is measured once in each: memory freed earlier would hide what is taken next
STEPS = 100_000


def import_seconds(code: str) -> float:
    """Seconds from start to end of a new Python process that runs ``code``."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.perf_counter() - start


def record_and_chart(steps: int = STEPS) -> int:
    """Bytes by which this process grows when it holds the record of a long run, its live chart and its figure."""
    from speedkit.lab import chart

    def drawn(run):
        return chart.svg(run), chart.text(run), chart.png(run)

    drawn(_recorded(10))  # loads the drawing libraries before memory is read
    gc.collect()
    before = psutil.Process().memory_info().rss
    run = _recorded(steps)
    pictures = drawn(run)
    grown = psutil.Process().memory_info().rss - before
    assert run.count == steps
    assert all(pictures)
    return grown


def in_a_new_process() -> int:
    """The result of :func:`record_and_chart` in a new Python process."""
    code = "from tests.benchmarks.footprint import record_and_chart; print(record_and_chart())"
    return int(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout)


def _recorded(steps):
    run = Run(Recipe())
    for step in range(steps):
        run.step(epoch=0, t=step / 100, wait_s=0.001, compute_s=0.01, step_s=0.011, memory=1e9, loss=1.0, reads=0)
    return run


def main():
    import_module("ipywidgets")  # fails now if it is not installed: there would be nothing to compare with
    codes = {"speedkit": "import speedkit", "torch and ipywidgets": "import torch, ipywidgets"}
    ways = {name: partial(import_seconds, code) for name, code in codes.items()}
    for way in ways.values():
        way()
    figures = Figures("footprint")
    figures["import speedkit / import torch and ipywidgets"] = paired(ways, PAIRS)
    figures[f"record of {STEPS:,} steps, with its chart"] = sizes([in_a_new_process() for _ in range(PROCESSES)])
    print(figures.path)


if __name__ == "__main__":
    main()
