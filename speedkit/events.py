"""The clock of a device that queues its work: events in the queue, read once they have happened."""

import math
import time
from collections import deque
from functools import partial
from typing import NamedTuple

import torch

clock = time.perf_counter
SLOTS = 4096  # steps that the device may be behind before the host waits for it
IDLE = 20e-6  # seconds: between two kernels that are both queued, a GPU is idle for less


class Pending(NamedTuple):
    """A step that the device has not finished yet."""

    row: int
    wait_s: float
    start: object
    end: object


class EventClock:
    """Step times by events in the device's queue, read once they have happened. Losses arrive in pinned memory.

    ``host_bound``, a scalar of the run: the share of steps before which the device had nothing to do although the batch
    was there, because the host orders work more slowly than the device does it.
    """

    def __init__(self, run, device, event=None):
        self.run, cuda = run, device.type == "cuda"
        self.stream = torch.cuda.current_stream(device) if cuda else None  # looking it up at each record takes longer
        self.event = event or partial(torch.cuda.Event, enable_timing=True)
        losses = torch.full((SLOTS,), math.nan, pin_memory=cuda)
        self.slots, self.losses = losses.unbind(), losses.numpy()  # both are views: indexing a tensor takes longer
        self.pending, self.spare, self.last_end = deque(), [], None
        self.host_bound, self.followed, self.reports = 0, 0, False

    def start(self, asked):
        self.wait_s = clock() - asked
        self.begun = self._event()
        self.begun.record(self.stream)

    def lap(self, loss):
        self.reports = loss is not None
        if self.reports:
            self.slots[self.run.count % SLOTS].copy_(loss, non_blocking=True)
        end = self._event()
        end.record(self.stream)
        self.pending.append(Pending(self.run.count, self.wait_s, self.begun, end))
        return {"load_s": self.wait_s}

    def collect(self, wait=False):
        """Fills in the rows of the steps that the device has finished; with ``wait``, waits for all of them."""
        if wait and self.pending:
            self.pending[-1].end.synchronize()
        while self.pending:
            row, wait_s, start, end = self.pending[0]
            if not end.query():
                if len(self.pending) < SLOTS - 1:
                    break
                end.synchronize()  # the ring is full
            self.pending.popleft()
            compute_s = start.elapsed_time(end) / 1000
            idle_s = self.last_end.elapsed_time(start) / 1000 if self.last_end else wait_s
            columns = self.run.steps
            columns["wait_s"][row], columns["compute_s"][row] = min(wait_s, idle_s), compute_s
            columns["step_s"][row] = idle_s + compute_s
            columns["loss"][row] = value = float(self.losses[row % SLOTS])
            if self.last_end:
                self.followed += 1
                self.host_bound += idle_s - wait_s > IDLE
                self.run.scalars["host_bound"] = self.host_bound / self.followed
            self.spare += [start] if self.last_end is None else [start, self.last_end]
            self.last_end = end
            if self.reports and not math.isfinite(value):
                raise self.run.not_finite(row, value)
        if wait and self.last_end:  # an epoch has ended: its evaluation is not part of the next step
            self.spare.append(self.last_end)
            self.last_end = None

    def _event(self):
        return self.spare.pop() if self.spare else self.event()
