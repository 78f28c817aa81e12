"""speedkit: see, on your own machine, what makes deep-learning training fast."""

import os
import sys
from importlib import import_module

# With torch's threads spinning while they wait, one other busy process (a browser) can cut training to a tenth of
# its speed on two cores. It is read when torch is loaded; a value that is set already is left alone.
if "torch" not in sys.modules:
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # a few microseconds: most waits of an undisturbed step are shorter

from speedkit.hardware import CannotRun, machine
from speedkit.recipe import Recipe
from speedkit.run import Run
from speedkit.train import first_batch, fit, train

__all__ = [
    "CannotRun",
    "Panel",
    "Prediction",
    "Recipe",
    "Run",
    "beside",
    "exercises",
    "first_batch",
    "fit",
    "machine",
    "predict",
    "side_by_side",
    "stopwatches",
    "train",
]

_LAB = {  # what only a notebook needs
    "Panel": "panel",
    "Prediction": "predict",
    "beside": "predict",
    "exercises": "exercise",
    "predict": "predict",
    "side_by_side": "tables",
    "stopwatches": "tables",
}


def __getattr__(name):
    if name not in _LAB:
        raise AttributeError(f"module 'speedkit' has no attribute {name!r}")
    return getattr(import_module(f"speedkit.lab.{_LAB[name]}"), name)
