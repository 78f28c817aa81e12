"""speedkit: see, on your own machine, what makes deep-learning training fast."""

import logging
import os
import sys
import warnings
from contextlib import suppress
from importlib import import_module

# How long torch's threads spin while they wait for each other; read when torch is loaded. If they spin for long, one
# other busy process (a browser) can cut training on two cores to a tenth of its speed. If they sleep immediately, steps
# are slower, and slower still in a second thread. In GNU's OpenMP, "active" with a small count means microseconds.
if "torch" not in sys.modules and "OMP_WAIT_POLICY" not in os.environ:
    os.environ["OMP_WAIT_POLICY"] = "ACTIVE" if sys.platform == "linux" else "PASSIVE"
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")

from speedkit.hardware import machine
from speedkit.recipe import Recipe
from speedkit.run import Run
from speedkit.support.errors import CannotRun
from speedkit.support.messages import language
from speedkit.train import first_batch, fit, train

# torch warns twice, in red, about more workers than cores; run.notes says it instead.
warnings.filterwarnings("ignore", "This DataLoader will create")
# With a CUDA toolkit but no GPU, torch's Timer would print a red warning in the middle of a lesson.
logging.getLogger("torch.utils.cpp_extension").addFilter(lambda record: "No CUDA runtime" not in record.getMessage())

_WHERE = {  # loaded on first use: a terminal or a GPU server needs none of it
    "CLAIMS": "comparison.metrics",
    "Claim": "comparison.metrics",
    "METRICS": "comparison.metrics",
    "Comparison": "comparison.result",
    "comparing": "comparison.runs",
    "compare": "lab.compare",
    "Panel": "lab.panel",
    "profile": "lab.profile",
    "table_of_runs": "lab.tables",
    "table_of_timings": "lab.tables",
    "watch": "lab.watch",
    "Prediction": "classroom.prediction",
    "predict": "classroom.prediction",
    "score_prediction": "classroom.prediction",
    "save_result": "classroom.saved",
    "saved_comparisons": "classroom.saved",
    "Board": "classroom.board.widget",
    "Sharing": "classroom.board.widget",
    "share": "classroom.board.results",
    "exercises": "lessons.exercise",
    "source_of": "lessons.shared",
    "clear_disk_cache": "tasks.cache_file",
}

__all__ = [
    "CLAIMS",
    "METRICS",
    "Board",
    "CannotRun",
    "Claim",
    "Comparison",
    "Panel",
    "Prediction",
    "Recipe",
    "Run",
    "Sharing",
    "clear_disk_cache",
    "compare",
    "comparing",
    "exercises",
    "first_batch",
    "fit",
    "language",
    "machine",
    "predict",
    "profile",
    "save_result",
    "saved_comparisons",
    "score_prediction",
    "share",
    "source_of",
    "table_of_runs",
    "table_of_timings",
    "train",
    "watch",
]


def __getattr__(name):
    if name not in _WHERE:
        raise AttributeError(f"module 'speedkit' has no attribute {name!r}")
    return getattr(import_module(f"speedkit.{_WHERE[name]}"), name)


def __dir__():
    return __all__


if "ipykernel" in sys.modules:
    with suppress(ImportError):  # training alone can do without the lab
        __getattr__("watch")  # what trains in a notebook's cell is shown there
