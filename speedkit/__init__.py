"""speedkit: see, on your own machine, what makes deep-learning training fast."""

import os

# With torch's threads spinning while they wait, one other busy process (a browser) can cut training to a tenth of
# its speed on two cores. Must be set before torch is loaded; a value that is set already is left alone.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from speedkit.hardware import CannotRun, machine
from speedkit.recipe import Recipe
from speedkit.run import Run
from speedkit.train import fit, train

__all__ = ["CannotRun", "Panel", "Recipe", "Run", "fit", "machine", "train"]


def __getattr__(name):
    if name == "Panel":  # the only part that needs a notebook
        from speedkit.lab.panel import Panel

        return Panel
    raise AttributeError(f"module 'speedkit' has no attribute {name!r}")
