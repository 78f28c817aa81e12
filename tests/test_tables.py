"""Tables of runs and of stopwatches: what stands in them, and that no text of a run becomes HTML."""

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


def test_one_row_a_run():
    table = table_of_runs(a_run(peak_memory=3 * 2**20), a_run(Recipe(batch_size=50, cache="ram"), status="stopped"))
    assert table.heading[0] == "run"
    first, second = (dict(zip(table.heading, row, strict=True)) for row in table.rows)
    assert first == {
        "run": "baseline",
        "a step": "10 ms",
        "waiting": "2.5 ms",
        "computing": "7.5 ms",
        "images/s": "5,000",
        "peak memory": "3.0 MiB",
        "validation accuracy": "87.5%",
        "ended": "finished",
    }
    assert (second["run"], second["ended"], second["peak memory"]) == ("ram cache", "stopped", "n/a")
    assert "first step left out" in table.caption
    assert "SPEEDKIT_SMOKE" not in table.caption


def test_what_was_not_measured_is_not_available():
    row = table_of_runs(Run(Recipe())).rows[0]
    assert row == ["baseline", "n/a", "n/a", "n/a", "n/a", "n/a", "n/a", "new"]


def test_runs_that_look_alike_are_told_apart():
    names = [row[0] for row in table_of_runs(a_run(), a_run(Recipe(batch_size=50, data="jpeg")), a_run()).rows]
    assert len(set(names)) == 3
    assert names[0] == "baseline"
    assert "jpeg" in names[1]


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


def test_the_text_is_aligned():
    lines = repr(Table(["a", "long heading"], [["wide cell", "1"], ["x", "2"]], "Caption.")).splitlines()
    assert lines == ["a          long heading", "wide cell  1", "x          2", "Caption."]


def test_no_run_gives_an_empty_table():
    assert table_of_runs().rows == []
    assert "<table>" in table_of_runs()._repr_html_()


def test_stopwatches_are_multiples_of_the_last_one():
    table = table_of_timings(once=0.03, two_words=0.005, fair=0.01)
    assert table.rows == [["once", "30 ms", "3.00"], ["two words", "5 ms", "0.50"], ["fair", "10 ms", "1.00"]]


@pytest.mark.parametrize("reference", [0.0, math.nan])
def test_a_stopwatch_without_a_reference_is_not_available(reference):
    assert [row[2] for row in table_of_timings(once=0.03, fair=reference).rows] == ["n/a", "n/a"]


def test_a_reading_that_is_missing_is_not_available():
    assert table_of_timings(once=math.nan, fair=0.01).rows[0] == ["once", "n/a", "n/a"]
