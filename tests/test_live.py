"""Charts in the cell that trains: with ``sk.fit`` and ``sk.compare``, in a real kernel and without one."""

import pytest
from nbclient import NotebookClient

from speedkit import Recipe, fit
from speedkit.lab import live
from speedkit.lab.compare import compare
from speedkit.run import Run
from tests.test_compare import PNG, TEXT, notebook_of

HTML = "text/html"
QUICK = {"subset": 256, "batch_size": 16, "epochs": 1, "device": "cpu"}


class Handle:
    def __init__(self, shown):
        self.shown = shown

    def update(self, output, raw):
        self.shown.append(output)


@pytest.fixture
def shown(monkeypatch):
    """A cell that runs and gets its first chart at once; what it shows, in order."""
    outputs = []
    monkeypatch.setattr(live, "display", lambda output, **__: outputs.append(output) or Handle(outputs))
    monkeypatch.setattr(live, "_cell", live._Cell())
    monkeypatch.setattr(live, "AFTER", 0.0)
    monkeypatch.setattr(live, "FRAME", 0.0)
    monkeypatch.setattr(live, "SHARE", 1000.0)
    return outputs


def fitted(recipe):
    """As ``fit`` does it in a notebook."""
    run = Run(recipe.effective())
    for __ in live.fitting(live.import_module("speedkit.train").train(recipe, run), run):
        pass
    return run


def test_the_runs_of_a_cell_share_one_chart_which_stays_as_a_picture(shown):
    first = fitted(Recipe(**QUICK))
    frames = len(shown)
    assert frames > 4
    second = fitted(Recipe(**QUICK, batchnorm=True))
    assert all(sorted(output) == [HTML, TEXT] for output in shown)
    assert "this run: baseline" in shown[0][HTML]
    assert "this run: batch norm" in shown[-1][HTML]
    assert "baseline" in shown[-1][HTML]
    assert live._cell.fitted == [first, second]
    live._end()
    assert sorted(shown[-1]) == [PNG, HTML, TEXT]
    assert "batch norm" in shown[-1][TEXT]


def test_the_first_run_of_a_cell_stays_on_the_axes_however_many_follow(shown, monkeypatch):
    drawn = {}

    def frame(cell, run, earlier):
        drawn[run.recipe.batch_size] = earlier
        return 0.0

    monkeypatch.setattr(live._Cell, "frame", frame)
    for size in (16, 17, 18, 19, 20, 21, 22):
        fitted(Recipe(**QUICK | {"batch_size": size}))
    assert [run.recipe.batch_size for run in drawn[22]] == [16, 19, 20, 21]
    assert [run.recipe.batch_size for run in live._cell.fitted] == [16, 19, 20, 21, 22]


def test_frames_take_none_of_a_run_s_time(shown, monkeypatch):
    monkeypatch.setattr(live._Cell, "frame", lambda *__: 100.0)  # it says so, and the run's clock must leave it out
    run = fitted(Recipe(**QUICK))
    assert (run.column("t")[1:] - run.column("t")[:-1] < -50).all()
    assert (run.column("step_s") > 0).all()


def test_a_comparison_shows_its_newest_pair_and_leaves_the_place_to_its_result(shown):
    compare(Recipe(**QUICK), Recipe(**QUICK, cache="ram"), 1, progress=False)
    both = [output for output in shown if "this run: ram cache" in output[HTML] and "baseline" in output[HTML]]
    assert both
    live._end()
    assert shown[-1] == {HTML: "", TEXT: ""}


def test_a_run_of_a_few_steps_is_not_shown_beside_others(shown):
    fitted(Recipe(**QUICK, steps=2))
    assert live._cell.fitted == []


def test_a_short_training_shows_nothing(shown, monkeypatch):
    monkeypatch.setattr(live, "AFTER", 3600.0)
    fitted(Recipe(**QUICK))
    live._end()
    assert shown == []


def test_outside_a_notebook_nothing_is_drawn():
    assert live.frame(Run(Recipe())) == 0.0
    records = iter(())
    assert live.fitting(records, Run(Recipe())) is records


def test_in_a_kernel_the_chart_is_an_output_of_the_cell_that_trains(generated, tmp_path):
    made = notebook_of(
        "import speedkit as sk",
        "from speedkit.lab import live\nlive.AFTER = 0.0",
        f"runs = [sk.fit(sk.Recipe(**{QUICK}, batchnorm=norm)) for norm in (False, True)]",
        f"quick = sk.Recipe(**{QUICK})\nresult = sk.compare(quick, quick.but(cache='ram'), 1, progress=False)",
        "1 + 1",
    )
    NotebookClient(made, timeout=120, resources={"metadata": {"path": str(tmp_path)}}).execute()
    __, __, trained, compared, nothing = made.cells
    assert [sorted(output.data) for output in trained.outputs] == [[PNG, HTML, TEXT]]
    assert [dict(output.data) for output in compared.outputs] == [{HTML: "", TEXT: ""}]
    assert [output.output_type for output in nothing.outputs] == ["execute_result"]


def test_fit_returns_the_run_and_passes_errors_on(shown, monkeypatch):
    monkeypatch.setattr(live.import_module("speedkit.train"), "shown", live.fitting)
    run = fit(Recipe(**QUICK))
    assert run.status == "finished"
    assert shown
    with pytest.raises(ValueError, match="no-such-set"):
        fit(Recipe(**QUICK, data="no-such-set"))
