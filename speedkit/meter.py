"""Clocks and memory gauges that cost next to nothing and never make a step wait."""

import contextlib
import math
import time
from pathlib import Path

import psutil
import torch

from speedkit import hardware
from speedkit.run import DISTURBED, Run

clock = time.perf_counter
GAUGE_INTERVAL = 0.1  # seconds between two readings of memory
NOT_BUSY = ("idle", "iowait", "guest", "guest_nice")  # parts of a core's time; "user" already includes what guests use


class Meter:
    """Times the steps of one run and writes them into its columns. A context manager around the whole training.

    On a CPU the host's clock is right. CUDA queues its work: events are recorded around each step and read once they
    have happened, without synchronising, and so is the loss. There, waiting for data is the time in which the device
    was idle *and* the loop was blocked by the loader.
    """

    def __init__(self, run: Run, device: str, processes=list, *, gauge=None, event=None):
        """processes: () -> the worker processes, to count their memory.

        gauge: () -> bytes of memory: the most since it was last read, or those of now. event: () -> a new event with
        ``record(stream)``, ``query()``, ``synchronize()`` and ``elapsed_time(end)``. Default: those of the device.
        """
        self.run, self.kind, self.processes = run, device.split(":")[0], processes
        self.device = torch.device(device)
        if event or self.kind == "cuda":
            from speedkit.events import EventClock  # here, because a CPU has no use for it

            self.clock = EventClock(run, self.device, event)
        else:
            self.clock = HostClock(run, self.kind == "mps")
        self.gauge = gauge or {"cuda": self._allocated, "mps": self._of_driver}.get(self.kind, self.host_memory)
        self.memory, self.read_at, self.peak, self.reserved = math.nan, -math.inf, math.nan, math.nan
        self.epoch, self.reads, self.batch, self.gpu = 0, 0, 0, None

    def __enter__(self):
        if self.kind == "cuda":
            from speedkit.gpu import Gpu  # here, because a CPU has no use for it

            self.gpu = Gpu(self.device)
        self.own = psutil.Process()
        self.run.scalars["memory_at_start"] = self.gauge()
        self.load = Load()
        self.started = self.epoch_started = self.lapped = self.now()
        return self

    def now(self) -> float:
        """The run's own time: the clock without the seconds in which another run had its turn."""
        return clock() - self.run.paused_s

    def waiting(self, loader, epoch: int):
        """The batches of one epoch on the device, (images, labels); measures the time spent in the loader."""
        self.epoch, self.first_row, self.first_reads, self.epoch_started = epoch, self.run.count, self.reads, self.now()
        batches, beside = iter(loader.epoch(epoch)), {"non_blocking": self.kind == "cuda"}  # on MPS it spoils the batch
        while True:
            asked = clock()
            batch = next(batches, None)
            if batch is None:
                return
            images, labels, reads = batch
            self.reads, self.batch = self.reads + reads, reads
            self.clock.start(asked)
            yield images.to(self.device, **beside), labels.to(self.device, **beside)

    def lap(self, loss):
        """Ends the step: appends its row to the run. ``loss`` is a tensor with one value, or None if it is not known.

        Raises:
            NotFinite: a loss is nan or infinite; a GPU can report it some steps late.
        """
        row = {"epoch": self.epoch} | self.clock.lap(None if loss is None else loss.detach())
        now = clock()
        if now - self.read_at > GAUGE_INTERVAL:
            self.memory, self.read_at = self._read_gauge(), now
        self.lapped = now - self.run.paused_s
        row |= {"t": self.lapped - self.started, "memory": self.memory, "reads": self.reads - self.first_reads}
        row |= {name: getattr(self.batch, name, math.nan) for name in ("read_s", "augment_s")}
        step = self.run.step(**row)
        self.clock.collect()
        return step

    def end_steps(self):
        """Ends an epoch's steps: waits until the device has finished them. What follows is evaluation."""
        self.clock.collect(wait=True)
        self._read_gauge()
        self.lapped = self.now()

    def end_epoch(self, evaluated: dict):
        """Appends the epoch's row to the run. ``evaluated``: losses and accuracies, measured since the last step."""
        losses, now = self.run.column("loss")[self.first_row :], self.now()
        row = {"steps": self.run.count, "t": now - self.started, "reads": self.reads - self.first_reads}
        row |= {"train_s": self.lapped - self.epoch_started, "evaluate_s": now - self.lapped}
        row["train_loss"] = float(losses.mean()) if len(losses) else math.nan
        scalars, memory = self.run.scalars, self.gauge()  # of the evaluation: not part of the training's peak
        scalars["evaluate_memory"] = max(memory, scalars.get("evaluate_memory", memory))
        return self.run.epoch(**row, **evaluated)

    def _read_gauge(self):
        memory = self.gauge()
        self.peak = max(memory, self.peak) if self.peak == self.peak else memory
        return memory

    def _allocated(self):
        # Between two steps nothing but the weights is left, so the peak since the last reading is what counts.
        stats = torch.cuda.memory_stats(self.device)
        torch.cuda.reset_peak_memory_stats(self.device)
        before, reserved = self.run.scalars.get("memory_before", 0.0), float(stats.get("reserved_bytes.all.peak", 0))
        self.reserved = max(reserved, self.reserved) if self.reserved == self.reserved else reserved
        return max(0.0, stats.get("allocated_bytes.all.peak", 0) - before)

    def _of_driver(self):
        return float(torch.mps.driver_allocated_memory())

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
            self._read_gauge()
        share = self.load.others_share()
        scalars = {"peak_memory": self.peak, "host_memory": self.host_memory(), "reads": float(self.reads)}
        if self.gpu:
            scalars |= {"reserved_memory": self.reserved} | self.gpu.readings()
            if note := self.gpu.note():
                self.run.note(note)
        self.run.scalars |= scalars | {"others_share": share}
        if share > DISTURBED:
            from speedkit.run_words import disturbance  # here, because training says nothing

            self.run.note(disturbance(share, bool(self.load.waits)))


class HostClock:
    """Step times by the host's clock, for a device that computes while the host waits, as a CPU does."""

    def __init__(self, run, waits=False):
        """waits: the device queues its work, so a step ends when its loss has been read (MPS)."""
        self.run, self.waits = run, waits

    def start(self, asked):
        self.ready = clock()
        self.wait_s = self.ready - asked

    def lap(self, loss):
        end = clock()
        value = math.nan if loss is None else loss.item()
        end = clock() if self.waits else end
        if loss is not None and not math.isfinite(value):
            raise self.run.not_finite(self.run.count, value)
        step = {"wait_s": self.wait_s, "load_s": self.wait_s, "compute_s": end - self.ready, "loss": value}
        return step | {"step_s": self.wait_s + step["compute_s"]}

    def collect(self, wait=False):
        pass


class Load:
    """How much of the processor time that this process and its workers needed was taken by other programs.

    Linux counts how long each thread was ready to run but waited for a core. Not all of that is due to other programs:
    the threads of a run also wait for each other (four workers on two cores do), and in a container they all wait while
    its CPU quota is used up. So waiting counts only up to the core time that others used meanwhile on the cores that
    this process may use (or in its container, while the quota held it up), and only up to the core time that this
    process left unused: if it had all of its cores, it lost nothing.

    If the system does not count waiting (macOS, Windows), nobody knows who waited. But nobody waits while a core is
    idle. So what others used counts in that part of the time in which none can have been: with less than one of the
    cores idle on average, 1 - that part of a core. It is then said that they *may* have taken it.
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
        waited = sum(max(0.0, now - self.waits.get(thread, 0.0)) for thread, now in waits.items())
        throttled = min(throttled, waited)
        lost = min(waited - throttled, max(0.0, others)) + min(throttled, max(0.0, container - own))
        if not waits:
            from speedkit.support import limits  # here, because most systems count what was waited

            idle = len(limits.allowed_cores()) - busy / elapsed  # cores, on average
            lost = max(0.0, others) * min(1.0, max(0.0, 1 - idle))
        lost = min(lost, unused)
        return lost / (own + lost) if lost else 0.0


def _core_seconds():
    """Core seconds so far: (busy on the cores that we may use, used by our container, held up by its quota)."""
    from speedkit.support import limits

    busy = math.nan
    with contextlib.suppress(psutil.Error, OSError):  # a sandbox may hide them
        cores, allowed = psutil.cpu_times(percpu=True), limits.allowed_cores()
        if max(allowed) < len(cores):  # else the container renumbers them
            cores = [cores[number] for number in allowed]
        busy = sum(sum(times) - sum(getattr(times, name, 0.0) for name in NOT_BUSY) for times in cores)
    return busy, *limits.container_seconds()


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
