"""The lesson on parallel loading: its timeline shows the steps where they were, and its tables count right."""

import multiprocessing
from itertools import chain, pairwise

import numpy as np
import pytest

from speedkit import hardware
from speedkit.lessons.workers import lesson
from speedkit.run import Run
from speedkit.techniques import workers
from speedkit.train import fit


def run_of(recipe, wait, compute, gap=0.0):
    """A run whose steps follow each other, with a gap before the last one, as after an epoch."""
    run, now = Run(recipe), 0.0
    for i, (wait_s, compute_s) in enumerate(zip(wait, compute, strict=True)):
        now += wait_s + compute_s + gap * (i == len(wait) - 1)
        run.step(t=now, wait_s=wait_s, compute_s=compute_s, step_s=wait_s + compute_s)
    return run


def test_waiting_and_computing_follow_each_other(quick):
    run = run_of(quick, wait=[1, 2, 1], compute=[3, 4, 5], gap=10)
    waiting, computing = lesson.spans_of(run, steps=60)
    assert waiting == [(0, 1), (4, 2), (20, 1)]
    assert computing == [(1, 3), (6, 4), (21, 5)]
    assert [len(spans) for spans in lesson.spans_of(run, steps=2)] == [2, 2]


def test_a_step_without_figures_is_not_drawn(quick):
    run = run_of(quick, wait=[1, np.nan, 1], compute=[3, 4, np.nan])
    assert lesson.spans_of(run, steps=60)[0] == [(0, 1)]


def test_a_real_run_fills_its_timeline_without_overlap(quick):
    run = fit(quick)
    spans = sorted(chain(*lesson.spans_of(run, 60)))
    assert len(spans) == 16
    assert spans[0][0] == pytest.approx(0, abs=0.05)
    for (start, length), (following, _) in pairwise(spans):
        assert start + length <= following + 1e-6


def test_the_timeline_has_one_row_per_run(quick):
    runs = [run_of(quick.but(workers=n), [1, 2], [3, 4]) for n in (0, 2)]
    picture = lesson.timeline(*runs)
    axes = picture.figure.axes[0]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["2 workers", "baseline"]
    assert len(axes.collections) == 4  # waiting and computing of each run
    assert axes.get_xlim()[0] == 0
    assert picture.png.startswith(b"\x89PNG")


def test_the_table_leaves_the_first_step_out_of_its_means(quick):
    """Without workers: (2 + 4) / 2 waiting, 1 computing; with two: 1 and 1. The first batch has its own column."""
    without = run_of(quick, wait=[9, 2, 4], compute=[9, 1, 1])
    helped = run_of(quick.but(workers=2), wait=[5, 1, 1], compute=[9, 1, 1])
    table = lesson.by_workers(without, helped)
    assert [row[:6] for row in table.rows] == [
        ["baseline", "9 s", "3 s", "1 s", "4 s", "× 1.00"],
        ["2 workers", "5 s", "1 s", "1 s", "2 s", "× 0.50"],
    ]


def test_a_run_of_one_step_has_no_means(quick):
    assert lesson.by_workers(run_of(quick, [1], [1])).rows[0][1:6] == ["1 s", "n/a", "n/a", "n/a", "n/a"]


def test_batches_ahead_are_counted(quick):
    """2 workers with 3 batches each, of 16 images of 3 x 28 x 28 bytes."""
    run = run_of(quick.but(workers=2, prefetch=3), [1, 1], [1, 1])
    assert lesson.prefetched(run).rows[0][:3] == ["3", "6", "220.5 KiB"]


def test_a_batch_says_who_prepared_it(no_children):
    """Batches are dealt out in turn, and arrive in the order in which they were requested."""
    for count, makers in ((0, ["training process"] * 4), (2, ["worker 0", "worker 1"] * 2)):
        loader = workers.loader(lesson.WhoPrepares(), [[0], [1], [2], [3]], count)
        assert list(loader) == [f"batch {i}: {maker}" for i, maker in enumerate(makers)]
        workers.stop(loader)


def test_start_up_is_read_for_every_start_method_here(quick, no_children):
    table = lesson.start_up(quick, count=1)
    methods = multiprocessing.get_all_start_methods()
    names = ["no workers", *(f"1 worker, {method}" for method in methods)]
    names[1] += " (Python's default here)"
    assert [row[0] for row in table.rows] == names
    assert all(cell.endswith("s") for row in table.rows for cell in row[1:])


def test_timing_the_first_batch_takes_the_others_too(quick):
    taken = []

    class Loader:
        def epoch(self, number):
            for batch in range(3):
                taken.append((number, batch))
                yield batch

    assert lesson._first_batch(Loader(), 4) >= 0
    assert taken == [(4, 0), (4, 1), (4, 2)]


@pytest.mark.skipif(hardware.machine().kind == "cuda", reason="a GPU is here")
def test_pinned_memory_is_not_available_without_a_gpu(quick):
    table = lesson.pinned(quick)
    assert [row[1] for row in table.rows] == ["n/a"] * 3
    assert "no CUDA GPU" in table.caption


def test_smoke_runs_cut_the_recipe(quick, monkeypatch):
    monkeypatch.setenv("SPEEDKIT_SMOKE", "1")
    assert quick.but(subset=5000, epochs=9).effective().subset == 256
    monkeypatch.delenv("SPEEDKIT_SMOKE")
    assert quick.effective() == quick
