"""Tables of runs and of stopwatches: what they say, and that no text of a run becomes HTML."""

import math

import pytest

from speedkit.lab.tables import table_of_runs, table_of_timings
from speedkit.recipe import Recipe
from speedkit.run import Run
from speedkit.support.table import Table


def a_run(recipe=None, status="finished", **figures):
    """A run of four steps of 10 ms, the first one slower, a quarter of each waiting."""
    run = Run(recipe or Recipe(batch_size=50))
    run.status = status
    for step_s in (0.5, 0.01, 0.01, 0.01):
        run.step(wait_s=step_s / 4, compute_s=step_s * 3 / 4, step_s=step_s, t=step_s)
    run.epoch(validation_accuracy=0.875)
    run.scalars |= figures
    return run


def test_one_row_per_run():
    table = table_of_runs(a_run(step_memory=3 * 2**20), a_run(Recipe(batch_size=50, cache="ram"), status="stopped"))
    assert table.heading[0] == "run"
    first, second = (dict(zip(table.heading, row, strict=True)) for row in table.rows)
    assert first == {
        "run": "baseline",
        "time per step": "10 ms",
        "waiting": "2.5 ms",
        "computing": "7.5 ms",
        "images/s": "5,000",
        "memory of a step": "3.0 MiB",
        "validation accuracy": "87.5%",
        "status": "finished",
    }
    assert (second["run"], second["status"], second["memory of a step"]) == ("ram cache", "stopped", "n/a")
    assert "without the first step" in table.caption
    assert "SPEEDKIT_SMOKE" not in table.caption


def test_a_gpus_peak_stands_beside_what_was_counted():
    on_gpu, here = a_run(step_memory=2**20, peak_memory=3 * 2**20), a_run(peak_memory=5 * 2**20)
    on_gpu.machine = {"device": "cuda:0"}
    table = table_of_runs(on_gpu, here)
    place = table.heading.index("memory of a step")
    assert table.heading[place + 1] == "peak memory"
    assert [row[place : place + 2] for row in table.rows] == [["1.0 MiB", "3.0 MiB"], ["n/a", "n/a"]]


def test_what_was_not_measured_is_not_available():
    row = table_of_runs(Run(Recipe())).rows[0]
    assert row == ["baseline", "n/a", "n/a", "n/a", "n/a", "n/a", "n/a", "new"]


def test_runs_that_look_alike_are_told_apart():
    other = a_run(Recipe(batch_size=50, data="jpeg", learning_rate=0.5))
    rows = table_of_runs(a_run(), other, a_run()).rows
    assert [row[0] for row in rows] == ["baseline", "baseline, learning_rate 0.5", "baseline (2)"]
    assert [row[1] for row in rows] == ["fashion-mnist", "jpeg", "fashion-mnist"]  # in a column, not in a label, too


def test_a_smoke_run_says_that_it_means_nothing(monkeypatch):
    monkeypatch.setenv("SPEEDKIT_SMOKE", "1")
    cut = a_run(Recipe())
    monkeypatch.delenv("SPEEDKIT_SMOKE")
    assert "Cut to a few steps by SPEEDKIT_SMOKE" in table_of_runs(a_run(), cut).caption


def test_texts_are_escaped():
    run = a_run(status="<script>alert(1)</script>")
    shown = table_of_runs(run)._repr_html_()
    assert "<script>" not in shown
    assert "&lt;script&gt;" in shown
    assert "&lt;b&gt;" in Table(["<b>"], [["x"]])._repr_html_()
    assert "&lt;i&gt;" in Table(["a"], [["x"]], "<i>")._repr_html_()
    link = Table(["a"], [["<i>"]], links=["'><script>"])._repr_html_()
    assert "<script>" not in link
    assert "&lt;i&gt;</a>" in link


def test_the_text_is_aligned():
    lines = repr(Table(["a", "long heading"], [["wide cell", "b"], ["x", "c"]], "Caption.")).splitlines()
    assert lines == ["a          long heading", "wide cell  b", "x          c", "Caption."]


@pytest.mark.parametrize(
    "cells",
    [
        ["12.3 ms", "4 ms", "n/a"],
        ["2 min 5 s", "", "12.3 s"],
        ["× 0.512", "× 1.03e+04", "n/a"],
        ["87.5%", "-1.5 points", "+0.40"],
        ["12,800", "0", "2 of 3"],
        ["87.5\N{NO-BREAK SPACE}%", "12\N{NARROW NO-BREAK SPACE}800", "3 ms"],
        ["× 0.490 to × 0.510", "n/a", "0 to 0.1"],
    ],
)
def test_numbers_are_set_to_the_right(cells):
    table = Table(["run", "value"], [["first", cell] for cell in cells])
    width = max(map(len, ["value", *cells]))
    assert repr(table).splitlines()[1:] == [f"first  {cell:>{width}}".rstrip() for cell in cells]
    assert table._repr_html_().count("text-align:right") == 1 + len(cells)
    assert table._repr_html_().count("text-align:left") == 1 + len(cells)


def test_short_cells_are_not_broken_into_lines_and_long_ones_are():
    table = Table(["a", "b"], [["lower, × 0.5", "The direction is right. Next time, commit to a size, too."]])
    assert table._repr_html_().count("white-space:nowrap") == 2
    assert (
        "<th style='text-align:left;white-space:nowrap'>a</th><th style='text-align:left'>b</th>" in table._repr_html_()
    )


@pytest.mark.parametrize(
    "cells", [["lower", "n/a"], ["n/a", ""], ["3 ms", "not reached"], [], ["4 of 12 images agree"]]
)
def test_words_are_set_to_the_left_and_so_is_the_first_column(cells):
    table = Table(["1", "2"], [["1", cell] for cell in cells])
    assert "text-align:right" not in table._repr_html_()


def test_no_run_gives_an_empty_table():
    assert table_of_runs().rows == []
    assert "<table>" in table_of_runs()._repr_html_()


def test_stopwatches_are_multiples_of_the_last_one():
    table = table_of_timings(once=0.03, two_words=0.005, fair=0.01)
    assert table.rows == [["once", "30 ms", "× 3.00"], ["two words", "5 ms", "× 0.50"], ["fair", "10 ms", "× 1.00"]]


def test_no_reading_is_refused():
    with pytest.raises(ValueError, match="at least one reading"):
        table_of_timings()


@pytest.mark.parametrize("reference", [0.0, math.nan])
def test_a_stopwatch_without_a_reference_is_not_available(reference):
    assert [row[2] for row in table_of_timings(once=0.03, fair=reference).rows] == ["n/a", "n/a"]


def test_a_reading_that_is_missing_is_not_available():
    assert table_of_timings(once=math.nan, fair=0.01).rows[0] == ["once", "n/a", "n/a"]


def test_a_table_names_what_runs_differ_in_besides_the_switches():
    one, two = (Run(Recipe(subset=subset, epochs=2)) for subset in (640, None))
    assert table_of_runs(one, two).heading[:3] == ["run", "Training samples", "time per step"]
    assert [row[1] for row in table_of_runs(one, two).rows] == ["640", "all"]
    assert "Training samples" not in table_of_runs(one, one).heading


def test_a_disturbed_run_is_marked_and_the_mark_is_explained_first():
    quiet, busy = Run(Recipe()), Run(Recipe(cache="ram"))
    busy.scalars["others_share"] = 0.4
    table = table_of_runs(quiet, busy)
    assert [row[0] for row in table.rows] == ["baseline", "ram cache ⚠"]
    assert repr(table).startswith("⚠ Other programs competed with this run for the cores")
    assert table._repr_html_().startswith("<p>⚠ Other programs")
    assert "⚠" not in repr(table_of_runs(quiet))
