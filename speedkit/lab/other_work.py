"""What else this machine does while a panel's run is timed: other runs, its load, other processes on the GPU."""

import contextlib
import math
import os
import time

import torch

from speedkit import hardware
from speedkit.lab import queue
from speedkit.meter import Gpu
from speedkit.recipe import Recipe
from speedkit.support import errors
from speedkit.support.messages import ngettext, plural_message

LOOK = 2.0  # seconds between two looks, at least: each lists a folder and reads the load


class OtherWork:
    """Looks for other work before or during one run, and remembers the highest number of other runs."""

    def __init__(self, recipe: Recipe):
        self.own = 1 + recipe.workers
        self.gpu = None
        with contextlib.suppress(errors.CannotRun):  # the run itself will say so
            machine = hardware.machine(recipe.device)
            self.gpu = Gpu(torch.device(machine.device)) if machine.kind == "cuda" else None
        self.looked, self.runs = -math.inf, 0

    def due(self) -> bool:
        """Whether it is time for another look."""
        return time.monotonic() - self.looked >= LOOK

    def look(self) -> list[str]:
        """What would spoil times measured now, one sentence per cause."""
        self.looked = time.monotonic()
        found = queue.others()
        self.runs = max(self.runs, found.runs)
        sentences = [queue.others_warning(found), queue.load(self.own), self._gpu_warning()]
        return [sentence for sentence in sentences if sentence]

    def note(self) -> str:
        """A message for the run's notes; "" if no other run was seen."""
        if not self.runs:
            return ""
        return plural_message(
            "Up to {n} other speedkit run was active on this machine: run again when it is quiet before you trust "
            "these times.",
            "Up to {n} other speedkit runs were active on this machine: run again when it is quiet before you trust "
            "these times.",
            self.runs,
        )

    def _gpu_warning(self):
        count = other_processes(self.gpu) if self.gpu is not None else None
        if not count:
            return ""
        return ngettext("{n} other process is using this GPU.", "{n} other processes are using this GPU.", count)


def other_processes(gpu: Gpu) -> int | None:
    """How many other processes compute on a GPU now; None if that is not known."""
    try:
        import pynvml

        found = {process.pid for process in pynvml.nvmlDeviceGetComputeRunningProcesses(gpu.handle)}
    except Exception:
        return None
    if os.getpid() in found or not torch.cuda.is_initialized():
        return len(found - {os.getpid()})
    return len(found) - 1 if found else None  # in a container, NVML knows this process by another number
