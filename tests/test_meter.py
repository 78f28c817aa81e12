"""Clocks and gauges: on a simulated device whose every second is known, and on this machine."""

import math
import multiprocessing
import os
import threading
import time
from collections import namedtuple
from pathlib import Path

import psutil
import pytest
import torch

from speedkit import events, meter, run_words
from speedkit.events import EventClock
from speedkit.meter import HostClock, Load, Meter
from speedkit.recipe import Recipe
from speedkit.run import EPOCH_COLUMNS, STEP_COLUMNS, Run
from speedkit.support import limits
from speedkit.support.errors import NotFinite
from speedkit.train import fit

NAN = math.nan


class Device:
    """A device that works through its queue by itself, and the host's clock. Seconds."""

    def __init__(self):
        self.now = self.free_at = 0.0
        self.waited, self.events = 0, 0

    def enqueue(self, seconds):
        self.free_at = max(self.free_at, self.now) + seconds

    def pass_time(self, seconds):
        self.now += seconds

    def event(self):
        self.events += 1
        return Event(self)


class Event:
    def __init__(self, device):
        self.device, self.at = device, None

    def record(self, stream=None):
        self.at = max(self.device.free_at, self.device.now)

    def query(self):
        return self.device.now >= self.at

    def synchronize(self):
        if not self.query():
            self.device.waited += 1
            self.device.now = self.at

    def elapsed_time(self, end):
        return (end.at - self.at) * 1000


@pytest.fixture
def device(monkeypatch):
    device = Device()
    for module in (meter, events):
        monkeypatch.setattr(module, "clock", lambda: device.now)
    return device


@pytest.fixture
def run():
    return Run(Recipe())


@pytest.fixture
def event_clock(device, run):
    return EventClock(run, torch.device("cpu"), device.event)


def step(clock, device, loading, computing, loss=1.0):
    """One step: the loader takes ``loading``, the device gets work for ``computing`` seconds."""
    asked = device.now
    device.pass_time(loading)
    clock.start(asked)
    device.enqueue(computing)
    clock.run.step(**clock.lap(torch.tensor(loss)))
    clock.collect()


def columns(run, *names):
    return [pytest.approx(run.column(name).tolist()) for name in names]


def test_a_busy_device_is_not_waiting(event_clock, device, run):
    """The loader takes 1 s, the device 10 s: after the first second it always has work queued."""
    for _ in range(5):
        step(event_clock, device, loading=1.0, computing=10.0)
    event_clock.collect(wait=True)
    assert columns(run, "compute_s", "wait_s", "step_s") == [[10.0] * 5, [1.0, 0, 0, 0, 0], [11.0, 10, 10, 10, 10]]


def test_an_idle_device_waits_for_what_loading_takes_longer(event_clock, device, run):
    """The loader takes 10 s, the device 4 s: it is idle for 6 s of each step except the first."""
    for _ in range(4):
        step(event_clock, device, loading=10.0, computing=4.0)
    event_clock.collect(wait=True)
    assert columns(run, "compute_s", "wait_s", "step_s") == [[4.0] * 4, [10.0, 6, 6, 6], [14.0, 10, 10, 10]]


def test_an_idle_gap_that_is_not_the_loaders_is_not_waiting_for_data(event_clock, device, run):
    """Between two steps the host does 7 s of something else, and the loader only 1 s."""
    step(event_clock, device, loading=1.0, computing=2.0)
    device.pass_time(7.0)
    step(event_clock, device, loading=1.0, computing=2.0)
    event_clock.collect(wait=True)
    assert columns(run, "wait_s", "step_s") == [[1.0, 1.0], [3.0, 8.0]]  # idle from 3 s to 9 s, then 2 s of work


def test_evaluation_between_epochs_is_not_part_of_any_step(event_clock, device, run):
    for _ in range(2):
        for _ in range(3):
            step(event_clock, device, loading=1.0, computing=2.0)
        device.enqueue(1000.0)  # evaluation, whose result is waited for
        device.pass_time(device.free_at - device.now)
        event_clock.collect(wait=True)
    assert columns(run, "step_s") == [[3.0, 2.0, 2.0] * 2]


def test_figures_are_filled_in_when_the_device_is_done_and_not_waited_for(event_clock, device, run):
    for n in range(4):
        step(event_clock, device, loading=0.1, computing=5.0, loss=float(n))
    assert device.waited == 0
    assert run.column("loss").tolist() == pytest.approx([NAN] * 4, nan_ok=True)
    device.pass_time(11.0)  # at 11.4 s, two steps of 5 s are over
    event_clock.collect()
    assert device.waited == 0
    assert run.column("loss").tolist() == pytest.approx([0, 1, NAN, NAN], nan_ok=True)
    assert run.column("step_s").tolist() == pytest.approx([5.1, 5, NAN, NAN], nan_ok=True)
    event_clock.collect(wait=True)
    assert run.column("loss").tolist() == [0, 1, 2, 3]


def test_a_full_ring_waits_and_loses_nothing(event_clock, device, run, monkeypatch):
    monkeypatch.setattr(events, "SLOTS", 8)
    for n in range(30):
        step(event_clock, device, loading=0.0, computing=1.0, loss=float(n))
        assert len(event_clock.pending) < 8
    assert device.waited > 0
    event_clock.collect(wait=True)
    assert run.column("loss").tolist() == list(range(30))
    assert run.column("compute_s").tolist() == pytest.approx([1.0] * 30)


def test_events_are_used_again(event_clock, device):
    for _ in range(100):
        step(event_clock, device, loading=1.0, computing=0.5)
    assert device.events < 10


@pytest.mark.parametrize("bad", [NAN, math.inf, -math.inf])
def test_a_loss_that_is_not_finite_is_reported_with_its_own_step(event_clock, device, run, bad):
    for n in range(6):
        step(event_clock, device, loading=0.0, computing=1.0, loss=bad if n == 3 else 1.0)
    device.pass_time(3.0)
    event_clock.collect()  # three steps are over, all good
    with pytest.raises(NotFinite, match=r"at step 3: lower the learning rate"):
        event_clock.collect(wait=True)


@pytest.mark.parametrize("bad", [NAN, math.inf])
def test_the_hosts_clock_reports_it_at_once(device, run, bad):
    clock = HostClock(run)
    step(clock, device, loading=1.0, computing=0.0)
    with pytest.raises(NotFinite, match="at step 1"):
        step(clock, device, loading=1.0, computing=0.0, loss=bad)


def test_the_hosts_clock_splits_a_step(device, run):
    clock = HostClock(run)
    asked = device.now
    device.pass_time(2.0)
    clock.start(asked)
    device.pass_time(3.0)
    expected = {"wait_s": 2.0, "load_s": 2.0, "compute_s": 3.0, "step_s": 5.0, "loss": 0.5}
    assert clock.lap(torch.tensor(0.5)) == expected


class Batches:
    """A loader of ``count`` batches, each of which takes 2 s."""

    def __init__(self, device, count):
        self.device, self.count = device, count

    def epoch(self, number):
        for _ in range(self.count):
            self.device.pass_time(2.0)
            yield torch.full((4, 1), number), torch.zeros(4, dtype=torch.int64), 3


def test_the_meter_counts_time_and_reads_by_epoch(device, run, monkeypatch):
    monkeypatch.setattr(meter, "Load", lambda: Quiet())
    with Meter(run, "cpu") as measured:
        for epoch in range(2):
            for images, _ in measured.waiting(Batches(device, 2), epoch):
                assert images.unique().item() == epoch
                device.pass_time(1.0)
                measured.lap(torch.tensor(float(epoch)))
            measured.end_steps()
            device.pass_time(10.0)
            measured.end_epoch({"validation_loss": 0.5})
    assert run.column("epoch").tolist() == [0, 0, 1, 1]
    assert run.column("t").tolist() == [3, 6, 19, 22]
    assert run.column("wait_s").tolist() == [2] * 4
    assert run.column("step_s").tolist() == [3] * 4
    assert run.column("reads").tolist() == [3, 6, 3, 6]
    assert run.epoch_column("steps").tolist() == [2, 4]
    assert run.epoch_column("t").tolist() == [16, 32]
    assert run.epoch_column("train_s").tolist() == [6, 6]
    assert run.epoch_column("train_loss").tolist() == [0, 1]
    assert run.epoch_column("reads").tolist() == [6, 6]
    assert run.scalars["reads"] == 12


class Quiet:
    def __init__(self, share=0.0, waits=True):
        self.share, self.waits = share, waits

    def others_share(self):
        return self.share


@pytest.mark.parametrize(("share", "noted"), [(0.0, False), (0.15, False), (0.4, True), (NAN, False)])
def test_a_disturbed_run_is_flagged(device, run, monkeypatch, share, noted):
    monkeypatch.setattr(meter, "Load", lambda: Quiet(share))
    with Meter(run, "cpu"):
        pass
    assert any("Other programs took 40%" in note for note in run.notes) is noted
    assert bool(run_words.other_programs_note(["Another note.", *run.notes])) is noted
    assert run.scalars["others_share"] == pytest.approx(share, nan_ok=True)


def test_where_waiting_is_not_counted_it_is_not_claimed_either(device, run, monkeypatch):
    monkeypatch.setattr(meter, "Load", lambda: Quiet(0.4, waits=False))
    with Meter(run, "cpu"):
        pass
    (note,) = run.notes
    assert note.startswith("Other programs may have taken 40% of the processor time that this run needed")
    assert run_words.other_programs_note(run.notes) == note


OLD = {"a thread": 3.0, "one that ends": 2.0}  # seconds that each had waited before
# In 10 s on four cores: core seconds that were busy, those of them that were ours, seconds waited; what others took.
LOADS = {
    "quiet": ({"busy": 20, "own": 20, "waited": 0.1}, 0.0),
    "our own threads wait for each other": ({"busy": 40, "own": 40, "waited": 80}, 0.0),
    "as many threads of others as of ours": ({"busy": 40, "own": 20, "waited": 22}, 0.5),
    "others on cores that we did not want": ({"busy": 30, "own": 10, "waited": 0.5}, 0.5 / 10.5),
    "both at once": ({"busy": 40, "own": 30, "waited": 60}, 0.25),
    "our container's quota, which we used up ourselves, on a busy host": (
        {"busy": 400, "own": 40, "waited": 30, "throttled": 30, "container": 40},
        0.0,
    ),
    "our container's quota, half of which others in it used": (
        {"busy": 41, "own": 20, "waited": 20, "throttled": 18, "container": 40},
        0.5,
    ),
    "the clocks of two counters differ": ({"busy": 19, "own": 20, "waited": 1}, 0.0),
    "waiting is not counted": ({"busy": 40, "own": 20, "waited": None}, 0.5),
    "waiting is not counted, and a quarter of the cores was idle": ({"busy": 30, "own": 10, "waited": None}, 0.0),
    "waiting is not counted, and half a core was idle": ({"busy": 35, "own": 15, "waited": None}, 10 / 25),
    "waiting is not counted, and we may use a part of a full host": (
        {"busy": 160, "own": 38, "waited": None, "allowed": 16},
        0.05,
    ),
    "waiting is not counted, and others use a host's idle cores": (
        {"busy": 360, "own": 10, "waited": None, "allowed": 64},
        0.0,
    ),
    "others use a large node, where we wait for nobody": ({"busy": 360, "own": 40, "waited": 0.2, "allowed": 64}, 0.0),
    "nothing is counted": ({"busy": NAN, "own": 10, "waited": None}, NAN),
}


@pytest.mark.parametrize("case", LOADS)
def test_the_others_share_is_what_they_took_of_what_we_needed(device, monkeypatch, case):
    counted, expected = LOADS[case]
    later = {"a thread": 3.0 + (counted["waited"] or 0.0) / 2, "a new one": (counted["waited"] or 0.0) / 2}
    known = counted["waited"] is not None
    own = iter([(7.0, OLD if known else {}), (7.0 + counted["own"], later if known else {})])
    more = counted["busy"], counted.get("container", 0.0), counted.get("throttled", 0.0)
    cores = iter([(100.0, 50.0, 5.0), tuple(map(sum, zip((100.0, 50.0, 5.0), more, strict=True)))])
    monkeypatch.setattr(meter.hardware, "cores", lambda: 4)
    monkeypatch.setattr(limits, "allowed_cores", lambda: list(range(counted.get("allowed", 4))))
    monkeypatch.setattr(meter, "_own_seconds", lambda: next(own))
    monkeypatch.setattr(meter, "_core_seconds", lambda: next(cores))
    load = Load()
    device.pass_time(10.0)
    assert load.others_share() == pytest.approx(expected, nan_ok=True)


def test_the_others_share_of_a_moment_is_not_known(device):
    assert math.isnan(Load().others_share())


def test_only_the_cores_that_this_process_may_use_count_as_busy(monkeypatch):
    Times = namedtuple("Times", "user system idle iowait guest")
    cores = [Times(5.0, 1.0, 9.0, 2.0, 4.0), Times(100.0, 0.0, 0.0, 0.0, 0.0), Times(20.0, 3.0, 9.0, 0.0, 0.0)]
    monkeypatch.setattr(meter.psutil, "cpu_times", lambda percpu: cores)
    monkeypatch.setattr(limits, "container_seconds", lambda: (4.5, 0.25))
    monkeypatch.setattr(limits, "allowed_cores", lambda: [0, 2])
    assert meter._core_seconds() == (6.0 + 23.0, 4.5, 0.25)  # what a guest takes is in "user" already
    monkeypatch.setattr(limits, "allowed_cores", lambda: [4, 9])  # a container that lists its own only
    assert meter._core_seconds()[0] == 129.0


COUNTED = Path("/proc/self/schedstat").exists() and not Path("/proc/self/schedstat").read_text().startswith("0 0 0")


def spin(end):
    while time.monotonic() < end:
        sum(range(1000))


@pytest.mark.skipif(not COUNTED, reason="this system does not count how long threads wait for a core")
def test_the_waiting_of_threads_and_of_workers_is_counted(no_children):
    """A thread of this process and two children on one core: each waits for most of the time."""
    allowed, end = os.sched_getaffinity(0), time.monotonic() + 2.0
    os.sched_setaffinity(0, {min(allowed)})
    spinners = [multiprocessing.get_context("fork").Process(target=spin, args=(end,)) for _ in range(2)]
    spinners.append(threading.Thread(target=spin, args=(end,)))
    try:
        before, known = meter._own_seconds()
        for each in spinners:
            each.start()
        time.sleep(1.0)
        own, waits = meter._own_seconds()
        for each in spinners:
            each.join()
    finally:
        os.sched_setaffinity(0, allowed)
    waited = [seconds - known.get(thread, 0.0) for thread, seconds in waits.items()]
    assert sum(seconds > 0.1 for seconds in waited) >= 3
    assert own > before


def test_memory_is_ours_and_our_workers(run):
    class Gone:
        pid = 2**22 + 1

    with Meter(run, "cpu", lambda: [Gone(), psutil.Process()]) as measured:
        alone = psutil.Process().memory_info().rss
        assert measured.gauge() == pytest.approx(2 * alone, rel=0.2)
    assert run.scalars["peak_memory"] >= measured.memory or math.isnan(measured.memory)
    assert run.scalars["host_memory"] > 2**20


def test_the_peak_is_the_highest_reading_since_the_beginning(run, monkeypatch):
    readings = iter([3.0, 5.0, 9.0, 2.0])
    with Meter(run, "cpu", gauge=lambda: next(readings)) as measured:
        measured.end_steps()
        measured.end_steps()
    assert run.scalars["memory_at_start"] == 3.0
    assert run.scalars["peak_memory"] == 9.0


class Allocator:
    """A device's memory as torch counts it: bytes now, and the most since the last reset."""

    def __init__(self, monkeypatch, held=0):
        self.now = self.most = held
        monkeypatch.setattr(torch.cuda, "memory_stats", lambda device: self.stats())
        monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: self.reset())

    def stats(self):
        return {"allocated_bytes.all.peak": self.most, "reserved_bytes.all.peak": 2 * self.most}

    def reset(self):
        self.most = self.now

    def take(self, size):
        self.now += size
        self.most = max(self.most, self.now)

    def use(self, size):
        """Takes and gives back, as a step does with its activations."""
        self.take(size)
        self.take(-size)


def on_a_gpu(run, device, allocator):
    measured = Meter(run, "cpu", event=device.event)
    measured.gauge = measured._allocated
    return measured


def test_the_curve_and_the_peak_hold_what_a_step_frees_again(run, device, monkeypatch):
    """Weights of 10 bytes; a step's activations are 90; the evaluation needs 500. 1,000 bytes were there before."""
    monkeypatch.setattr(meter, "Load", lambda: Quiet())
    allocator = Allocator(monkeypatch, held=1000)
    run.scalars["memory_before"] = 1000.0
    with on_a_gpu(run, device, allocator) as measured:
        allocator.take(10)
        for epoch in range(2):
            for _ in measured.waiting(Batches(device, 3), epoch):
                allocator.use(90)
                device.enqueue(1.0)
                measured.lap(torch.tensor(1.0))
            measured.end_steps()
            allocator.use(500)
            measured.end_epoch({})
    assert run.column("memory").tolist() == [100] * 6  # each step takes 2 s: every one is read
    assert run.scalars["peak_memory"] == 100
    assert run.scalars["evaluate_memory"] == 510


def test_what_is_reserved_is_kept_over_resets(run, device, monkeypatch):
    allocator = Allocator(monkeypatch)
    measured = on_a_gpu(run, device, allocator)
    allocator.use(50)
    measured.gauge()
    allocator.use(20)
    measured.gauge()
    assert measured.reserved == 100


def test_the_queue_is_drained_before_the_evaluation_begins(run, device, monkeypatch):
    """The host orders two steps of 5 s in no time, and evaluates for 1 s."""
    monkeypatch.setattr(meter, "Load", lambda: Quiet())
    with Meter(run, "cpu", event=device.event, gauge=lambda: 0.0) as measured:
        batches = Batches(device, 2)
        for _ in measured.waiting(batches, 0):
            device.enqueue(5.0)
            measured.lap(torch.tensor(1.0))
        measured.end_steps()
        device.pass_time(1.0)
        measured.end_epoch({})
    assert run.epoch_column("train_s").tolist() == [12.0]  # 2 s until the first batch, then 10 s of work
    assert run.epoch_column("evaluate_s").tolist() == [1.0]


@pytest.mark.parametrize(("host", "computing", "share"), [(1.0, 0.3, 1.0), (0.1, 1.0, 0.0)])
def test_a_device_that_waits_for_its_orders_is_told_from_a_busy_one(event_clock, device, run, host, computing, share):
    """No time goes into loading. The host takes ``host`` seconds to order each step."""
    for _ in range(20):
        step(event_clock, device, loading=0.0, computing=computing)
        device.pass_time(host)
    event_clock.collect(wait=True)
    assert run.scalars["host_bound"] == share


def test_waiting_for_data_is_not_taken_for_slow_orders(event_clock, device, run):
    for _ in range(20):
        step(event_clock, device, loading=3.0, computing=1.0)
    event_clock.collect(wait=True)
    assert run.scalars["host_bound"] == 0
    assert run.column("load_s").tolist() == [3.0] * 20


def test_every_event_is_recorded_on_the_stream_of_the_runs_device(monkeypatch, run):
    streams = []

    class Noted:
        def record(self, stream):
            streams.append(stream)

    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: f"the stream of {device}")
    monkeypatch.setattr(torch, "full", lambda *size, pin_memory, **more: torch.empty(4))
    clock = EventClock(run, torch.device("cuda:1"), Noted)
    clock.start(0.0)
    clock.lap(None)
    assert streams == ["the stream of cuda:1"] * 2


def test_on_apples_gpu_a_step_ends_when_its_loss_is_there(run, monkeypatch):
    """It queues its work, like CUDA, but its events cannot be trusted: reading the loss waits for the device."""
    device = Device()
    monkeypatch.setattr(meter, "clock", lambda: device.now)

    class Loss:
        def item(self):
            device.now = max(device.now, device.free_at)
            return 0.5

    clock = HostClock(run, waits=True)
    clock.start(0.0)
    device.enqueue(4.0)
    assert clock.lap(Loss())["compute_s"] == 4.0
    assert not isinstance(Meter(run, "mps").clock, EventClock)


@pytest.mark.parametrize(("kind", "beside"), [("cpu", False), ("mps", False), ("cuda", True)])
def test_batches_are_copied_beside_other_work_on_cuda_only(run, kind, beside):
    class Tensor:
        def to(self, device, non_blocking):
            copied.append(non_blocking)

    class Loader:
        def epoch(self, number):
            yield Tensor(), Tensor(), 0

    copied, measured = [], Meter(run, "cpu")
    measured.kind = kind
    list(measured.waiting(Loader(), 0))
    assert copied == [beside] * 2


def test_a_real_run_fills_every_column(quick):
    run = fit(quick.but(workers=1))
    assert {len(column) for column in run.steps.values()} == {run.count} == {8}
    assert {len(column) for column in run.epochs.values()} == {2}
    for name in STEP_COLUMNS:
        assert all(map(math.isfinite, run.column(name))), name
    for name in EPOCH_COLUMNS:
        assert all(map(math.isfinite, run.epoch_column(name))), name
    torch.testing.assert_close(
        torch.tensor(run.column("wait_s") + run.column("compute_s")), torch.tensor(run.column("step_s").copy())
    )
    t = run.column("t").tolist()
    assert t == sorted(t)
    assert all(run.column("compute_s") > 0)
    assert all(run.column("memory") > 2**20)
    # A step's own time fits between the ends of two steps of the same epoch.
    assert all(
        step_s <= later - sooner for sooner, later, step_s in zip(t[:3], t[1:4], run.column("step_s")[1:4], strict=True)
    )
    assert run.epoch_column("train_loss")[1] == pytest.approx(run.column("loss")[4:].mean())
    assert run.epoch_column("reads").tolist() == [64, 64]
    assert run.scalars["peak_memory"] >= run.column("memory").max()
