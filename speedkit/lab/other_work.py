"""What else this machine does while a panel's run is timed: other runs, its load, other processes on the GPU."""

import contextlib
import math
import time

import torch

from speedkit import hardware
from speedkit.lab import queue
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
            if machine.kind == "cuda":
                from speedkit.gpu import Gpu  # here, because a CPU has no use for it

                self.gpu = Gpu(torch.device(machine.device))
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
        count = self.gpu.others() if self.gpu else None
        if not count:
            return ""
        return ngettext("{n} other process is using this GPU.", "{n} other processes are using this GPU.", count)
