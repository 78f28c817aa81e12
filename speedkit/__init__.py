"""speedkit: see, on your own machine, what makes deep-learning training fast."""

import logging
import os
import sys
from importlib import import_module

# How long torch's threads spin while they wait for each other; read when torch is loaded. Where they spin long, one
# other busy process (a browser) can cut training to a tenth of its speed on two cores. Where they sleep at once, steps
# are slower, and slower still in a second thread. To GNU's OpenMP, "active" with a small count means microseconds.
if "torch" not in sys.modules and "OMP_WAIT_POLICY" not in os.environ:
    os.environ["OMP_WAIT_POLICY"] = "ACTIVE" if sys.platform == "linux" else "PASSIVE"
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")

from speedkit.hardware import CannotRun, machine
from speedkit.recipe import Recipe
from speedkit.run import Run
from speedkit.train import first_batch, fit, train
from speedkit.words import language

# Where a CUDA toolkit lies without a GPU, torch's Timer would say so in red, in the middle of a lesson.
logging.getLogger("torch.utils.cpp_extension").addFilter(lambda record: "No CUDA runtime" not in record.getMessage())

__all__ = [
    "Board",
    "CannotRun",
    "Panel",
    "Prediction",
    "Recipe",
    "Run",
    "Sharing",
    "beside",
    "exercises",
    "first_batch",
    "fit",
    "keep",
    "language",
    "machine",
    "predict",
    "share",
    "side_by_side",
    "stopwatches",
    "train",
]

_LAB = {  # what only a notebook needs
    "Board": "board",
    "Panel": "panel",
    "Prediction": "predict",
    "Sharing": "board",
    "beside": "predict",
    "exercises": "exercise",
    "keep": "kept",
    "predict": "predict",
    "share": "board_files",
    "side_by_side": "tables",
    "stopwatches": "tables",
}


def __getattr__(name):
    if name not in _LAB:
        raise AttributeError(f"module 'speedkit' has no attribute {name!r}")
    return getattr(import_module(f"speedkit.lab.{_LAB[name]}"), name)
