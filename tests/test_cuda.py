"""What only a GPU can show. These tests run wherever there is one, and need no browser."""

import gc
import math
import threading
import time

import pytest
import torch

from speedkit import compare, fit
from speedkit.lessons.workers import lesson as workers_lesson
from speedkit.loading import DeviceLoader
from speedkit.recipe import Recipe
from speedkit.run import EPOCH_COLUMNS, STEP_COLUMNS, Run, Step
from speedkit.support.errors import CannotRun
from speedkit.techniques.precision import Precision
from speedkit.train import train

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU"),
]
HALF = "bf16" if torch.cuda.is_available() and torch.cuda.get_device_capability()[0] >= 8 else "fp16"
PRECISIONS = ["fp32", "fp16"] + (["tf32", "bf16"] if HALF == "bf16" else [])
BUSY = Recipe(model="wide", batch_size=512, cache="device", epochs=1)  # a step is long beside its orders


def steps_of(recipe, first: int, last: int):
    """The run after its steps from ``first`` to before ``last`` were made, and their seconds by the wall clock."""
    run = Run(recipe)
    records = train(recipe, run)
    for record in records:
        if isinstance(record, Step) and record.n == first - 1:
            torch.cuda.synchronize()
            start = time.perf_counter()
        if isinstance(record, Step) and record.n == last - 1:
            torch.cuda.synchronize()
            seconds = time.perf_counter() - start
            break
    records.close()
    return run, seconds


def test_a_run_fills_every_column(quick):
    run = fit(quick.but(device="cuda"))
    for name in STEP_COLUMNS:
        assert all(map(math.isfinite, run.column(name))), name
    for name in EPOCH_COLUMNS:
        assert all(map(math.isfinite, run.epoch_column(name))), name
    assert 0 < run.scalars["peak_memory"] <= run.scalars["reserved_memory"]


@pytest.mark.parametrize("recipe", [BUSY, Recipe(batch_size=64), Recipe(batch_size=8, cache="device")])
def test_the_steps_add_up_to_the_wall_clock(recipe):
    run, seconds = steps_of(recipe, 20, 80)
    assert run.column("step_s")[20:80].sum() == pytest.approx(seconds, rel=0.03)


@pytest.mark.parametrize(("loading", "computing"), [(0.02, 0.005), (0.005, 0.02)])
def test_waiting_is_what_loading_takes_longer_than_computing(monkeypatch, loading, computing):
    cycles = _cycles_per_second()
    epoch = DeviceLoader.epoch

    def slow(self, number):
        for batch in epoch(self, number):
            time.sleep(loading)
            yield batch

    monkeypatch.setattr(DeviceLoader, "epoch", slow)
    recipe = Recipe(cache="device", steps=60, epochs=1)
    run = Run(recipe)
    for record in train(recipe, run):
        if isinstance(record, Step):
            torch.cuda._sleep(int(cycles * computing))  # work of a known length, after the step's own
    wait = run.column("wait_s")[10:60].mean()
    assert wait == pytest.approx(max(0.0, loading - computing), abs=0.004)


def _cycles_per_second():
    torch.cuda._sleep(10**6)
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    torch.cuda._sleep(10**8)
    end.record()
    end.synchronize()
    return 10**8 / (start.elapsed_time(end) / 1000)


def test_the_peak_holds_the_activations(quick):
    """The first convolution alone keeps 512 x 64 x 28 x 28 numbers of four bytes for the backward pass."""
    run = fit(BUSY.but(steps=10))
    activations = 512 * 64 * 28 * 28 * 4
    assert activations < run.scalars["peak_memory"] < 20 * activations
    assert (run.column("memory")[1:] > activations).any()
    smaller = fit(BUSY.but(steps=10, batch_size=64)).scalars["peak_memory"]
    assert smaller < run.scalars["peak_memory"] / 4


def test_what_was_there_before_is_not_the_runs():
    alone = fit(BUSY.but(steps=5)).scalars["peak_memory"]
    held = torch.empty(2**28, dtype=torch.uint8, device="cuda")
    beside = fit(BUSY.but(steps=5))
    assert beside.scalars["memory_before"] >= held.numel()
    assert beside.scalars["peak_memory"] == pytest.approx(alone, rel=0.05)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("cache", ["device", "ram"])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_no_step_waits_for_the_device(precision, cache, optimizer):
    """torch itself tells: with this setting it raises where the host would wait for the GPU."""
    recipe = Recipe(cache=cache, epochs=1, precision=precision, optimizer=optimizer, learning_rate=0.001)
    records = (record for record in train(recipe) if isinstance(record, Step))
    for _ in range(5):
        next(records)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(30):
            next(records)
    finally:
        torch.cuda.set_sync_debug_mode("default")
        records.close()


@pytest.mark.parametrize("precision", PRECISIONS)
def test_each_format_has_its_own_error(precision):
    """Relative to float64. The mantissas have 23 bits in fp32, 10 in TF32 and fp16, and 7 in bf16."""
    draw = torch.Generator("cuda").manual_seed(0)
    left, right = (torch.randn(512, 512, device="cuda", generator=draw) for _ in range(2))
    exact = left.double() @ right.double()
    with Precision(precision, "cuda:0") as chosen, chosen.autocast():
        found = left @ right
    error = ((found.double() - exact).norm() / exact.norm()).item()
    low, high = {"fp32": (0, 1e-5), "tf32": (1e-5, 2e-3), "fp16": (1e-5, 2e-3), "bf16": (5e-4, 2e-2)}[precision]
    assert low <= error < high


def test_workers_and_a_second_thread_train_beside_cuda(quick):
    runs = []

    def background():
        runs.append(fit(quick.but(device="cuda", workers=2)))

    thread = threading.Thread(target=background)
    thread.start()
    thread.join(120)
    assert [run.status for run in runs] == ["finished"]
    assert all(math.isfinite(value) for value in runs[0].column("step_s"))


def test_after_running_out_of_memory_the_next_run_has_all_of_it():
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated()
    huge = Recipe(model="resnet18", image_size=512, batch_size=4096, subset=4096, steps=2, cache="off")
    with pytest.raises(torch.OutOfMemoryError) as error:
        fit(huge)
    assert any("batch size" in note for note in error.value.__notes__)
    gc.collect()
    assert torch.cuda.memory_allocated() <= before + 2**24
    assert fit(BUSY.but(steps=5)).status == "finished"


def test_a_device_cache_that_does_not_fit_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (2**20, 2**34))
    with pytest.raises(CannotRun, match=r"cache='device' needs \d+ MiB on the GPU, and 1 MiB are free"):
        fit(BUSY)


def test_a_comparison_reaches_a_verdict():
    found = compare(BUSY.but(steps=60), BUSY.but(steps=60, precision=HALF), progress=False)
    assert found.row("step_s").verdict == "lower"
    assert found.row("peak_memory").verdict == "lower"


def test_pinned_memory_is_timed(quick):
    table = workers_lesson.pinned(quick.but(device="auto"))
    assert all(row[1].endswith("s") for row in table.rows)
