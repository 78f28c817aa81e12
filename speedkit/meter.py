"""Clocks and memory gauges that cost next to nothing and never make a step wait."""

import contextlib
import math
import time
from collections import deque
from pathlib import Path
from typing import NamedTuple

import psutil
import torch

from speedkit import hardware
from speedkit.run import Run
from speedkit.support.errors import NotFinite
from speedkit.support.messages import N_, Message, template

clock = time.perf_counter
GAUGE_INTERVAL = 0.1  # seconds between two readings of memory
SLOTS = 4096  # steps that the device may be behind before the host waits for it
DISTURBED = 0.15  # above this share taken by other programs, a run's times cannot be trusted
NOT_BUSY = ("idle", "iowait", "guest", "guest_nice")  # parts of a core's time; "user" already includes what guests use
OTHER_PROGRAMS = N_(
    "Other programs took {share}% of the processor time that this run needed: close them and run again before you "
    "trust its times."
)


class Pending(NamedTuple):
    """A step that the device has not finished yet."""

    row: int
    wait_s: float
    start: object
    end: object


class Meter:
    """Times the steps of one run and writes them into its columns. A context manager around the whole training.

    On a CPU the host's clock is right. CUDA and MPS queue their work: events are recorded around each step and read
    once they have happened, without synchronising, and so is the loss. There, waiting for data is the time in which
    the device was idle *and* the loop was blocked by the loader.
    """

    def __init__(self, run: Run, device: str, processes=list):
        """processes: () -> the worker processes, to count their memory."""
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
        self.started = clock()
        return self

    def waiting(self, loader, epoch: int):
        """The batches of one epoch on the device, (images, labels); measures the time spent in the loader."""
        self.epoch, self.first_row, self.first_reads = epoch, self.run.count, self.reads
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
            NotFinite: a loss is nan or infinite; a GPU can report it some steps late.
        """
        now = clock()
        if now - self.read_at > GAUGE_INTERVAL:
            self.memory, self.read_at = self.gauge(), now
        row = {"epoch": self.epoch, "t": now - self.started - self.run.paused_s, "memory": self.memory}
        row |= {"reads": self.reads - self.first_reads} | self.clock.lap(loss.detach(), now)
        step = self.run.step(**row)
        self.clock.collect()
        return step

    def end_epoch(self, evaluated: dict):
        """Appends the epoch's row to the run. ``evaluated``: losses and accuracies, measured since the last step."""
        self.clock.collect(wait=True)
        losses, now = self.run.column("loss")[self.first_row :], clock() - self.started - self.run.paused_s
        began, trained = (ends[-1] if ends else 0.0 for ends in (self.run.epochs["t"], self.run.steps["t"]))
        row = {"steps": self.run.count, "t": now, "reads": self.reads - self.first_reads}
        row |= {"train_s": trained - began, "evaluate_s": now - trained}
        row["train_loss"] = float(losses.mean()) if len(losses) else math.nan
        return self.run.epoch(**row, **evaluated)

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
        """Bytes of main memory: the resident sets of this process and its workers; shared pages count once per process.

        nan if the system does not report it.
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
        share = self.load.others_share()
        scalars = {"peak_memory": self.peak, "host_memory": self.host_memory(), "reads": float(self.reads)}
        if self.kind == "cuda":
            scalars["peak_memory"] = float(torch.cuda.max_memory_allocated(self.device))
            scalars["reserved_memory"] = float(torch.cuda.max_memory_reserved(self.device))
            scalars |= self.gpu.readings()
        self.run.scalars |= scalars | {"others_share": share}
        if share > DISTURBED:
            self.run.note(Message(OTHER_PROGRAMS, share=f"{100 * share:.0f}"))


def other_programs_note(notes: list[str]) -> str:
    """The note on other programs among those of a run or a comparison; "" if there is none."""
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
    """Step times by events in the device's queue, read once they have happened. Losses arrive in pinned memory."""

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
        """Fills in the rows of the steps that the device has finished; with ``wait``, waits for all of them."""
        if wait and self.pending:
            self.pending[-1].end.synchronize()
        while self.pending and (len(self.pending) >= SLOTS - 1 or self.pending[0].end.query()):
            row, wait_s, start, end = self.pending.popleft()
            end.synchronize()  # waits only when the ring is full
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
        if wait and self.last_end:  # an epoch has ended: its evaluation is not part of the next step
            self.spare.append(self.last_end)
            self.last_end = None

    def _event(self):
        return self.spare.pop() if self.spare else self.event(enable_timing=True)


class Load:
    """How much of the processor time that this process and its workers needed was taken by other programs.

    Linux counts how long each thread was ready to run but waited for a core. Not all of that is due to other programs:
    the threads of a run also wait for each other (four workers on two cores do), and in a container they all wait while
    its CPU quota is used up. So waiting counts only up to the core time that others used meanwhile on the cores that
    this process may use (or in its container, while the quota held it up), and only up to the core time that this
    process left unused: if it had all of its cores, it lost nothing.

    If the system does not count waiting (macOS, Windows), all use by others counts, as a share of the cores' time.
    """

    def __init__(self):
        self.began, self.seconds, (self.own, self.waits) = clock(), _core_seconds(), _own_seconds()

    def others_share(self) -> float:
        """The share so far, from 0 to 1; nan if it is not known, or if it is too early to tell."""
        elapsed, (own, waits) = clock() - self.began, _own_seconds()
        busy, container, throttled = (now - then for now, then in zip(_core_seconds(), self.seconds, strict=True))
        own, available = own - self.own, elapsed * hardware.cores()
        others, unused = busy - own, max(0.0, available - own)
        if elapsed < 0.5 or not math.isfinite(others):
            return math.nan
        if not waits:
            return min(max(0.0, others), unused) / available
        waited = sum(max(0.0, now - self.waits.get(thread, 0.0)) for thread, now in waits.items())
        throttled = min(throttled, waited)
        lost = min(waited - throttled, max(0.0, others)) + min(throttled, max(0.0, container - own))
        lost = min(lost, unused)
        return lost / (own + lost) if lost else 0.0


class Gpu:
    """Energy and utilisation of an NVIDIA GPU, by NVML; nan if the driver or the library does not report them."""

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

    def readings(self) -> dict:
        """Joules used so far, and the share of recent time in which the GPU was busy."""
        readings = {"energy_j": math.nan, "utilisation": math.nan}
        with contextlib.suppress(Exception):
            import pynvml

            readings["energy_j"] = self._joules() - self.joules
            readings["utilisation"] = pynvml.nvmlDeviceGetUtilizationRates(self.handle).gpu / 100
        return readings


def _core_seconds():
    """Core seconds so far: (busy on the cores that we may use, used by our container, held up by its quota)."""
    busy = math.nan
    with contextlib.suppress(psutil.Error, OSError):  # a sandbox may hide them
        cores, allowed = psutil.cpu_times(percpu=True), hardware.allowed_cores()
        if max(allowed) < len(cores):  # else the container renumbers them
            cores = [cores[number] for number in allowed]
        busy = sum(sum(times) - sum(getattr(times, name, 0.0) for name in NOT_BUSY) for times in cores)
    container = dict(line.split() for line in hardware.lines_of("/sys/fs/cgroup/cpu.stat"))
    return busy, *(int(container.get(name, 0)) / 1e6 for name in ("usage_usec", "throttled_usec"))


def _own_seconds():
    """Core seconds that this process and its workers have used, and the seconds that each thread waited for a core."""
    waits = {}
    try:
        this = psutil.Process()
        seconds = sum(this.cpu_times()[:4])  # user and system, with children that have ended
        for process in (this, *this.children(recursive=True)):
            with contextlib.suppress(psutil.Error, OSError):
                seconds += 0.0 if process is this else sum(process.cpu_times()[:2])
                for path in Path(f"/proc/{process.pid}/task").glob("*/schedstat"):
                    ran, waited, *_ = (*hardware.lines_of(path), "0 0")[0].split()
                    if ran != "0":  # else nothing is counted here, or the thread has just ended
                        waits[path.parent.name] = int(waited) / 1e9
    except (psutil.Error, OSError):  # a sandbox may hide them
        return math.nan, {}
    return seconds, waits


def _not_finite(value, step):
    return NotFinite(
        Message(
            "The loss became {value} at step {step}: lower the learning rate, or choose a precision with more range.",
            value=value,
            step=step,
        )
    )
