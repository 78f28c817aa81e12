"""What else goes on on this machine while a panel's run is timed: other runs, its load, other processes on the GPU."""

import contextlib
import math
import time

import torch

from speedkit import hardware
from speedkit.lab import queue
from speedkit.meter import Gpu
from speedkit.recipe import Recipe
from speedkit.support import errors
from speedkit.support.messages import ngettext, plural_message

LOOK = 2.0  # seconds between two looks, at least: one lists a folder and reads the load


class OtherWork:
    """Looks around for one run, or before it, and remembers the most that it has seen."""

    def __init__(self, recipe: Recipe):
        self.own = 1 + recipe.workers
        self.gpu = None
        with contextlib.suppress(errors.CannotRun):  # the run itself will say so
            machine = hardware.machine(recipe.device)
            self.gpu = Gpu(torch.device(machine.device)) if machine.kind == "cuda" else None
        self.looked, self.runs = -math.inf, 0

    def due(self) -> bool:
        """Whether the last look is long enough ago."""
        return time.monotonic() - self.looked >= LOOK

    def look(self) -> list[str]:
        """What would spoil a time that is measured now, a sentence each."""
        self.looked = time.monotonic()
        found = queue.others()
        self.runs = max(self.runs, found.runs)
        sentences = [queue.others_warning(found), queue.load(self.own), self._on_the_gpu()]
        return [sentence for sentence in sentences if sentence]

    def note(self) -> str:
        """What the run is to keep of it, in an English sentence; "" where no other run was seen."""
        if not self.runs:
            return ""
        return plural_message(
            "Up to {n} other speedkit run was active on this machine: run again when it is quiet before you trust "
            "these times.",
            "Up to {n} other speedkit runs were active on this machine: run again when it is quiet before you trust "
            "these times.",
            self.runs,
        )

    def _on_the_gpu(self):
        count = self.gpu.others() if self.gpu is not None else None
        if not count:
            return ""
        return ngettext("{n} other process computes on this GPU.", "{n} other processes compute on this GPU.", count)
