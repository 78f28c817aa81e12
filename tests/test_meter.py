"""Clocks and gauges: on a simulated device whose every second is known, and on this machine."""

import math

import psutil
import pytest
import torch

from speedkit import meter
from speedkit.meter import EventClock, Gpu, HostClock, Load, Meter
from speedkit.recipe import Recipe
from speedkit.run import EPOCH_COLUMNS, STEP_COLUMNS, Run
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

    def event(self, enable_timing):
        assert enable_timing
        self.events += 1
        return Event(self)


class Event:
    def __init__(self, device):
        self.device, self.at = device, None

    def record(self):
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
    monkeypatch.setattr(meter, "clock", lambda: device.now)
    return device


@pytest.fixture
def run():
    return Run(Recipe())


@pytest.fixture
def event_clock(device, run):
    found = EventClock(run, "mps")  # whose losses need no pinned memory
    found.event = device.event
    return found


def step(clock, device, loading, computing, loss=1.0):
    """One step: the loader takes ``loading``, the device gets work for ``computing`` seconds."""
    asked = device.now
    device.pass_time(loading)
    clock.start(asked)
    device.enqueue(computing)
    clock.run.step(**clock.lap(torch.tensor(loss), device.now))
    clock.collect()


def columns(run, *names):
    return [pytest.approx(run.column(name).tolist()) for name in names]


def test_a_busy_device_is_not_waiting(event_clock, device, run):
    """The loader takes 1 s, the device 10 s: but for the first second it always has work queued."""
    for _ in range(5):
        step(event_clock, device, loading=1.0, computing=10.0)
    event_clock.collect(wait=True)
    assert columns(run, "compute_s", "wait_s", "step_s") == [[10.0] * 5, [1.0, 0, 0, 0, 0], [11.0, 10, 10, 10, 10]]


def test_an_idle_device_waits_for_what_loading_takes_longer(event_clock, device, run):
    """The loader takes 10 s, the device 4 s: it is idle for 6 s of each step but the first."""
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


def test_evaluation_between_epochs_is_not_a_part_of_any_step(event_clock, device, run):
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
    monkeypatch.setattr(meter, "SLOTS", 8)
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
    assert clock.lap(torch.tensor(0.5), device.now) == {"wait_s": 2.0, "compute_s": 3.0, "step_s": 5.0, "loss": 0.5}


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
            device.pass_time(10.0)
            measured.end_epoch({"evaluate_s": 10.0, "validation_loss": 0.5})
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
    def __init__(self, share=0.0):
        self.share = share

    def others_share(self):
        return self.share


@pytest.mark.parametrize(("share", "noted"), [(0.0, False), (0.15, False), (0.4, True), (NAN, False)])
def test_a_disturbed_run_is_flagged(device, run, monkeypatch, share, noted):
    monkeypatch.setattr(meter, "Load", lambda: Quiet(share))
    with Meter(run, "cpu"):
        pass
    assert any("Other programs used 40%" in note for note in run.notes) is noted
    assert run.scalars["others_share"] == pytest.approx(share, nan_ok=True)


def test_the_others_share_is_what_neither_we_nor_idleness_took(device, monkeypatch):
    """Of 4 cores in 10 s, 40 s of core time, 30 were busy and 10 of them ours: half went to others."""
    monkeypatch.setattr(meter.psutil, "cpu_count", lambda: 4)
    busy, own = iter([100.0, 130.0, 130.0]), iter([5.0, 15.0, 90.0])
    monkeypatch.setattr(meter, "_busy_seconds", lambda: next(busy))
    monkeypatch.setattr(meter, "_own_seconds", lambda: next(own))
    load = Load()
    device.pass_time(10.0)
    assert load.others_share() == 0.5
    assert load.others_share() == 0.0  # never negative


def test_the_others_share_of_a_moment_is_not_known(device):
    assert math.isnan(Load().others_share())


def test_memory_is_ours_and_our_workers(run):
    class Gone:
        pid = 2**22 + 1

    with Meter(run, "cpu", lambda: [Gone(), psutil.Process()]) as measured:
        alone = psutil.Process().memory_info().rss
        assert measured.gauge() == pytest.approx(2 * alone, rel=0.2)
    assert run.scalars["peak_memory"] >= measured.memory or math.isnan(measured.memory)
    assert run.scalars["host_memory"] > 2**20


def test_the_peak_is_the_highest_reading_since_the_beginning(run, monkeypatch):
    readings = iter([3.0, 5.0, 9.0, 2.0, 1.0, 1.0])
    monkeypatch.setattr(Meter, "host_memory", lambda self: next(readings))
    with Meter(run, "cpu") as measured:
        for _ in range(3):
            measured.gauge()
    assert run.scalars["memory_at_start"] == 3.0
    assert run.scalars["peak_memory"] == 9.0


def test_a_gpu_that_does_not_speak_is_nan(monkeypatch):
    def silent(device):
        raise RuntimeError("no driver")

    monkeypatch.setattr(torch.cuda, "get_device_properties", silent)
    figures = Gpu(torch.device("cuda:0")).figures()
    assert set(figures) == {"energy_j", "utilisation"}
    assert all(math.isnan(value) for value in figures.values())


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


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_a_run_on_a_gpu_fills_every_column(quick):
    run = fit(quick.but(device="cuda"))
    for name in STEP_COLUMNS:
        assert all(map(math.isfinite, run.column(name))), name
    assert run.scalars["peak_memory"] > 0
    assert run.scalars["reserved_memory"] >= run.scalars["peak_memory"]
