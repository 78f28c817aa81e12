"""Clocks and memory gauges, made to cost next to nothing and to wait for nothing."""

import contextlib
import math
import os
import time
from collections import deque
from typing import NamedTuple

import psutil
import torch

from speedkit.run import Run
from speedkit.support.errors import NotFinite
from speedkit.support.messages import N_, Message, template

clock = time.perf_counter
GAUGE_INTERVAL = 0.1  # seconds between two readings of memory
OTHER_PROGRAMS = N_(
    "Other programs used {share}% of this machine's cores during the run: close them and run again before you trust "
    "its times."
)
SLOTS = 4096  # steps that may be under way on the device before the host waits for it


class Pending(NamedTuple):
    """A step that the device has not finished yet."""

    row: int
    wait_s: float
    start: object
    end: object


class Meter:
    """Times the steps of one run and writes them into its columns. A context manager around the whole training.

    On a CPU the host's clock is right. On CUDA and MPS work is queued: events are recorded around each step and read
    once they have happened, without a synchronisation, and the loss follows the same way. There, waiting for data is
    the time in which the device was idle *and* the loop was blocked by the loader.
    """

    def __init__(self, run: Run, device: str, processes=list):
        """processes: () -> the worker processes, for their memory."""
        self.run, self.kind, self.processes = run, device.split(":")[0], processes
        self.device = torch.device(device)
        self.clock = HostClock(run) if self.kind == "cpu" else EventClock(run, self.kind)
        self.memory, self.read_at, self.peak = math.nan, -math.inf, math.nan
        self.epoch, self.reads = 0, 0

    def __enter__(self):
        if self.kind == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        self.gpu = Gpu(self.device) if self.kind == "cuda" else None
        self.own = psutil.Process()
        self.run.scalars["memory_at_start"] = self.gauge()
        self.load = Load()
        self.started = self.epoch_started = clock()
        return self

    def waiting(self, loader, epoch: int):
        """The batches of one epoch on the device, the time in the loader measured: (images, labels)."""
        self.epoch, self.first_row, self.first_reads, self.epoch_started = epoch, self.run.count, self.reads, clock()
        batches = iter(loader.epoch(epoch))
        while True:
            asked = clock()
            batch = next(batches, None)
            if batch is None:
                return
            images, labels, reads = batch
            self.reads += reads
            self.clock.start(asked)
            yield images.to(self.device, non_blocking=True), labels.to(self.device, non_blocking=True)

    def lap(self, loss):
        """Ends the step: appends its row to the run. ``loss`` is a tensor with one value.

        Raises:
            NotFinite: a loss is nan or infinite; on CUDA this can be noticed some steps late.
        """
        now = clock()
        if now - self.read_at > GAUGE_INTERVAL:
            self.memory, self.read_at = self.gauge(), now
        figures = self.clock.lap(loss.detach(), now)
        step = self.run.step(
            epoch=self.epoch, t=now - self.started, memory=self.memory, reads=self.reads - self.first_reads, **figures
        )
        self.clock.collect()
        return step

    def end_epoch(self, evaluated: dict):
        """Appends the epoch's row to the run. ``evaluated``: losses, accuracies and ``evaluate_s``."""
        self.clock.collect(wait=True)
        losses = self.run.column("loss")[self.first_row :]
        now = clock()
        return self.run.epoch(
            steps=self.run.count,
            t=now - self.started,
            train_s=now - self.epoch_started - evaluated["evaluate_s"],
            train_loss=float(losses.mean()) if len(losses) else math.nan,
            reads=self.reads - self.first_reads,
            **evaluated,
        )

    def gauge(self) -> float:
        """Bytes now: allocated on the device, or the resident set of this process and its workers."""
        if self.kind == "cuda":
            memory = torch.cuda.memory_allocated(self.device)
        elif self.kind == "mps":
            memory = torch.mps.current_allocated_memory()
        else:
            memory = self.host_memory()
        self.peak = max(memory, self.peak) if self.peak == self.peak else float(memory)
        return float(memory)

    def host_memory(self) -> float:
        """Bytes of main memory: resident set of this process and its workers; pages they share count for each.

        nan where the system does not tell.
        """
        try:
            memory = self.own.memory_info().rss
        except (psutil.Error, OSError):
            return math.nan
        for worker in self.processes():
            with contextlib.suppress(psutil.Error):
                memory += psutil.Process(worker.pid).memory_info().rss
        return float(memory)

    def __exit__(self, kind, *_):
        if kind is None or kind is GeneratorExit:
            self.clock.collect(wait=True)
        self.gauge()
        figures = {"peak_memory": self.peak, "host_memory": self.host_memory(), "reads": float(self.reads)}
        if self.kind == "cuda":
            figures["peak_memory"] = float(torch.cuda.max_memory_allocated(self.device))
            figures["reserved_memory"] = float(torch.cuda.max_memory_reserved(self.device))
            figures |= self.gpu.figures()
        figures["others_share"] = self.load.others_share()
        self.run.scalars |= figures
        if figures["others_share"] > 0.15:
            self.run.note(Message(OTHER_PROGRAMS, share=f"{100 * figures['others_share']:.0f}"))


def other_programs_note(notes: list[str]) -> str:
    """Of the notes of a run or a comparison, the one on other programs that took part of the cores; "" if none is."""
    return next((note for note in notes if template(note) == OTHER_PROGRAMS), "")


class HostClock:
    """Step times by the host's clock, for a device that computes while the host waits: the CPU."""

    def __init__(self, run):
        self.run = run

    def start(self, asked):
        self.ready = clock()
        self.wait_s = self.ready - asked

    def lap(self, loss, now):
        value = loss.item()
        if not math.isfinite(value):
            raise _not_finite(value, self.run.count)
        compute_s = now - self.ready
        return {"wait_s": self.wait_s, "compute_s": compute_s, "step_s": self.wait_s + compute_s, "loss": value}

    def collect(self, wait=False):
        pass


class EventClock:
    """Step times by events on the device's queue, read when they have happened. Losses come along in pinned memory."""

    def __init__(self, run, kind):
        self.run = run
        self.event = torch.cuda.Event if kind == "cuda" else torch.mps.Event
        self.losses = torch.empty(SLOTS, pin_memory=kind == "cuda")
        self.pending, self.spare, self.last_end = deque(), [], None

    def start(self, asked):
        self.wait_s = clock() - asked
        self.begun = self._event()
        self.begun.record()

    def lap(self, loss, now):
        self.losses[self.run.count % SLOTS].copy_(loss, non_blocking=True)
        end = self._event()
        end.record()
        self.pending.append(Pending(self.run.count, self.wait_s, self.begun, end))
        return {}

    def collect(self, wait=False):
        """Fills in the rows of the steps that the device has finished; ``wait`` for all of them."""
        if wait and self.pending:
            self.pending[-1].end.synchronize()
        while self.pending and (len(self.pending) >= SLOTS - 1 or self.pending[0].end.query()):
            row, wait_s, start, end = self.pending.popleft()
            end.synchronize()  # returns at once but for a full ring
            compute_s = start.elapsed_time(end) / 1000
            idle_s = self.last_end.elapsed_time(start) / 1000 if self.last_end else wait_s
            columns = self.run.steps
            columns["wait_s"][row], columns["compute_s"][row] = min(wait_s, idle_s), compute_s
            columns["step_s"][row] = idle_s + compute_s
            columns["loss"][row] = value = float(self.losses[row % SLOTS])
            self.spare += [start] if self.last_end is None else [start, self.last_end]
            self.last_end = end
            if not math.isfinite(value):
                raise _not_finite(value, row)
        if wait and self.last_end:  # an epoch has ended: its evaluation is no part of the next step
            self.spare.append(self.last_end)
            self.last_end = None

    def _event(self):
        return self.spare.pop() if self.spare else self.event(enable_timing=True)


class Load:
    """How busy the machine's cores were with other people's work."""

    def __init__(self):
        self.began, self.busy, self.own = clock(), _busy_seconds(), _own_seconds()

    def others_share(self) -> float:
        """Share of all cores' time since the beginning that went to processes other than this one and its children."""
        elapsed = (clock() - self.began) * (psutil.cpu_count() or 1)
        others = (_busy_seconds() - self.busy) - (_own_seconds() - self.own)
        return min(1.0, max(0.0, others / elapsed)) if elapsed > 0.5 and math.isfinite(others) else math.nan


class Gpu:
    """Energy and utilisation of an NVIDIA GPU by NVML; nan where the driver or the library does not say."""

    def __init__(self, device):
        self.handle, self.joules = None, math.nan
        with contextlib.suppress(Exception):
            import pynvml

            pynvml.nvmlInit()
            uuid = f"GPU-{torch.cuda.get_device_properties(device).uuid}"
            self.handle = pynvml.nvmlDeviceGetHandleByUUID(uuid)
            self.joules = self._joules()

    def _joules(self):
        import pynvml

        return pynvml.nvmlDeviceGetTotalEnergyConsumption(self.handle) / 1000

    def figures(self) -> dict:
        """Joules since the beginning and the share of time in which the GPU was busy lately."""
        figures = {"energy_j": math.nan, "utilisation": math.nan}
        with contextlib.suppress(Exception):
            import pynvml

            figures["energy_j"] = self._joules() - self.joules
            figures["utilisation"] = pynvml.nvmlDeviceGetUtilizationRates(self.handle).gpu / 100
        return figures

    def others(self) -> int | None:
        """How many other processes compute on the GPU now; None where that is not known."""
        try:
            import pynvml

            found = {process.pid for process in pynvml.nvmlDeviceGetComputeRunningProcesses(self.handle)}
        except Exception:
            return None
        if os.getpid() in found or not torch.cuda.is_initialized():
            return len(found - {os.getpid()})
        return len(found) - 1 if found else None  # in a container this process has another number there


def _busy_seconds():
    try:
        times = psutil.cpu_times()
    except (psutil.Error, OSError):  # a sandbox may keep it to itself
        return math.nan
    idle = times.idle + getattr(times, "iowait", 0.0) + getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0)
    return sum(times) - idle


def _own_seconds():
    seconds = math.nan
    with contextlib.suppress(psutil.Error, OSError):
        own = psutil.Process()
        times = own.cpu_times()
        seconds = times.user + times.system + times.children_user + times.children_system
        for child in own.children(recursive=True):
            with contextlib.suppress(psutil.Error):
                times = child.cpu_times()
                seconds += times.user + times.system
    return seconds


def _not_finite(value, step):
    return NotFinite(
        Message(
            "The loss became {value} at step {step}: lower the learning rate, or choose a precision with more range.",
            value=value,
            step=step,
        )
    )
