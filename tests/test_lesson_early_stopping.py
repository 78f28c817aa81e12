"""The lesson on early stopping: patience replayed, and test scores that chose the epoch."""

import math

import numpy as np
import pytest
import torch

from speedkit.comparison.metrics import METRICS, TOO_FEW
from speedkit.comparison.result import ARMS, Comparison, RunResult
from speedkit.comparison.stats import judge_points
from speedkit.lab.picture import Picture
from speedkit.lessons.early_stopping import lesson
from speedkit.lessons.early_stopping.lesson import ScoredRun, StopEpoch
from speedkit.recipe import Recipe
from speedkit.run import Epoch, Run
from speedkit.support.errors import NotFinite
from speedkit.train import fit


def a_run(losses, accuracies=None, train_losses=None, seed=0):
    """A run with these validation losses, one per epoch."""
    run = Run(Recipe(seed=seed))
    for epoch, loss in enumerate(losses):
        accuracy = accuracies[epoch] if accuracies else 0.5
        trained = train_losses[epoch] if train_losses else 1.0
        run.epoch(validation_loss=loss, validation_accuracy=accuracy, train_loss=trained, t=float(epoch))
    return run


@pytest.mark.parametrize(
    ("losses", "patience", "min_delta", "stop"),
    [
        ([3, 2, 2.5, 1], 1, 0.0, StopEpoch(3, 2, True)),
        ([3, 2, 2.5, 1], 2, 0.0, StopEpoch(4, 4, False)),
        ([3, 2, 1], 1, 0.0, StopEpoch(3, 3, False)),
        ([3, 2.9, 2.8, 1], 1, 0.5, StopEpoch(2, 1, True)),
        ([math.nan, math.nan], 2, 0.0, StopEpoch(2, None, True)),
    ],
)
def test_a_replay_ends_where_the_technique_would(losses, patience, min_delta, stop):
    assert lesson.replay(losses, patience, min_delta) == stop


@pytest.mark.parametrize("patience", [1, 2])
def test_a_replay_does_what_a_real_run_does(quick, patience):
    recipe = quick.but(model="mlp", learning_rate=0.2, epochs=6)
    whole, stopped = fit(recipe), fit(recipe.but(early_stopping=patience))
    losses = whole.epoch_column("validation_loss")
    stop = lesson.replay(losses, patience)
    assert stop.ended == len(stopped.epoch_column("t")) < 6
    assert stop.best == stopped.scalars["best_epoch"] + 1
    assert losses[: stop.ended].tolist() == stopped.epoch_column("validation_loss").tolist()


def test_by_hand_shows_every_epoch_until_the_stop():
    table = lesson.by_hand([0.8, 0.5, 0.6, 0.55, 0.1], patience=2)
    assert [row[0] for row in table.rows] == ["1", "2", "3", "4"]
    assert [row[3] for row in table.rows] == ["0", "0", "1", "2"]
    assert [row[4] for row in table.rows] == ["continue", "continue", "continue", "stop"]
    assert "Best weights: those of epoch 2." in table.caption


def test_what_if_has_a_row_for_each_choice():
    table = lesson.what_if(a_run([3.0, 2.0, 2.5, 1.0]), patiences=(1, 3), min_deltas=(0.0, 5.0))
    assert [row[:5] for row in table.rows] == [
        ["1", "0", "3", "25%", "2"],
        ["3", "0", "4, the end", "0%", "4"],
        ["1", "5", "2", "50%", "1"],
        ["3", "5", "4", "0%", "1"],
    ]
    assert table.rows[0][5] == "2.000"
    assert "1.000" in table.caption


# Patience


def runs_of(curves, images=4):
    """Scored runs of (losses, accuracies) that got every test image wrong."""
    return [
        ScoredRun(a_run(*curve, seed=seed), np.zeros((len(curve[0]), images), bool))
        for seed, curve in enumerate(curves)
    ]


def test_patience_costs_the_accuracy_that_the_best_weights_of_the_whole_run_would_have_had():
    runs = runs_of([([3, 2, 2.5, 1], [0.1, 0.6, 0.2, 0.8]), ([3, 2, 1, 4], [0.1, 0.2, 0.7, 0.9])])
    assert lesson.patience_lost(runs, 1) == pytest.approx([-20, 0])
    assert lesson.patience_lost(runs, 2) == pytest.approx([0, 0])
    table = lesson.patience_table(runs, patiences=(1, 2))
    assert [row[:4] for row in table.rows] == [["1", "3, 4", "12%", "1 of 2"], ["2", "4, 4", "0%", "0 of 2"]]
    assert [row[5] for row in table.rows] == [TOO_FEW, TOO_FEW]


@pytest.mark.parametrize("smoke", [False, True])
def test_both_tables_of_points_are_judged_by_the_one_rule(monkeypatch, smoke):
    """Patience 1 costs 20 points in each run; two sets of two images are each right in an epoch of their own."""
    seen = []
    monkeypatch.setattr(
        lesson, "judge_points", lambda points, cut: seen.append((list(points), cut)) or ("words", "verdict")
    )
    right = np.array([[1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 0, 0], [0, 0, 0, 0]], bool)
    runs = [ScoredRun(a_run([3, 2, 2.5, 1], [0.1, 0.6, 0.2, 0.8], seed=seed), right) for seed in range(5)]
    for run, _ in runs:
        run.smoke = smoke
    tables = lesson.patience_table(runs, patiences=(1,)), lesson.optimism_table(runs, sizes=(2,))
    assert seen == [(pytest.approx([-20] * 5), smoke), (pytest.approx([100] * 5), smoke)]
    assert [table.rows[0][-2:] for table in tables] == [["words", "verdict"]] * 2


def test_eight_seeds_are_enough_for_a_verdict():
    assert judge_points([-5.0] * lesson.SEEDS)[1] == "lower"


# Epochs chosen on a small test set


def test_a_set_reports_the_epoch_that_suits_it():
    # Two epochs, four images, sets of two: epoch 0 gets the first two right, epoch 1 the last two.
    right = np.array([[1, 1, 0, 0], [0, 0, 1, 1]], bool)
    reported, fresh = lesson.scores(right, 2)
    assert reported.tolist() == [100, 100]
    assert fresh.tolist() == [0, 0]
    reported, fresh = lesson.scores(right, 2, epoch=0)
    assert reported.tolist() == [100, 0]
    assert fresh.tolist() == [0, 100]


def test_images_beyond_the_last_whole_set_are_fresh_for_every_set():
    right = np.array([[1, 0, 1, 0, 1]], bool)
    reported, fresh = lesson.scores(right, 2)
    assert reported.tolist() == [50, 50]
    assert fresh == pytest.approx([200 / 3, 200 / 3])


def test_without_choosing_the_errors_cancel_and_with_choosing_they_do_not():
    # Guesses, right half of the time in every epoch: if the best of twenty is better, that is luck.
    right = np.random.default_rng(0).random((20, 10_000)) < 0.5
    assert np.mean(np.subtract(*lesson.scores(right, 100, epoch=3))) == pytest.approx(0, abs=1e-9)
    small, large = (np.mean(np.subtract(*lesson.scores(right, size))) for size in (100, 2500))
    # The mean of the largest of 20 normal values is 1.87 deviations, and one is 50 points / sqrt(100 images).
    assert small == pytest.approx(1.87 * 5, rel=0.1)
    assert 0 < large < small / 3


def test_the_table_leaves_out_sizes_with_too_few_fresh_images():
    runs = runs_of([([1.0, 2.0], None)] * 5, images=300)
    table = lesson.optimism_table(runs, sizes=(50, 150, 151))
    assert [row[0] for row in table.rows] == ["50", "150"]
    assert [row[1] for row in table.rows] == ["0.0 %", "0.0 %"]


def test_scoring_changes_no_run_and_covers_every_epoch(quick):
    recipe = quick.but(model="mlp")
    (one, two) = lesson.scored_runs(recipe, seeds=2)
    assert [one.run.recipe.seed, two.run.recipe.seed] == [0, 1]
    assert one.right.shape == (2, 10_000)
    assert one.right.dtype == bool
    assert 0.05 < one.right.mean() < 0.95
    assert one.run.column("loss").tolist() == fit(recipe).column("loss").tolist()


def test_a_run_that_breaks_is_left_out_with_a_line_that_says_so(quick, capsys, monkeypatch):
    def breaks(recipe, run, on_model):
        if recipe.seed == 1:
            raise NotFinite("The loss became nan at step 3.")
        on_model(torch.nn.Flatten())
        yield Epoch(0)

    monkeypatch.setattr(lesson, "train", breaks)
    monkeypatch.setattr(lesson, "_right", lambda model, images, labels: np.zeros(4, bool))
    assert [one.run.recipe.seed for one in lesson.scored_runs(quick, seeds=3)] == [0, 2]
    assert "Seed 1 is left out: The loss became nan at step 3." in capsys.readouterr().out
    with pytest.raises(NotFinite):
        lesson.scored_runs(quick.but(seed=1), seeds=1)


# Money


def comparison_of(off, on, joules=math.nan):
    result = Comparison(Recipe(epochs=5), Recipe(epochs=5, early_stopping=1), pairs=5, status="finished")
    for pair in range(5):
        for arm, value in zip(ARMS, (off, on), strict=True):
            values = dict.fromkeys(METRICS, math.nan) | {"seconds": value, "energy_j": joules}
            result.measured.append(RunResult(pair, arm, pair, values))
    return result


def test_savings_are_hours_times_the_price():
    table = lesson.savings(comparison_of(36.0, 18.0), price_per_hour=3.0, runs=100)
    assert table.rows[0][1:] == ["1.00", "0.50", "0.50"]
    assert table.rows[1][1:] == ["3.00", "1.50", "1.50"]
    assert table.rows[2][1:] == ["n/a", "n/a", "n/a"]
    assert "lower" in table.caption
    assert lesson.savings(comparison_of(1.0, 1.0, 3.6e6), 1, runs=2).rows[2][1] == "2.00 kWh"


@pytest.mark.parametrize(("price", "runs"), [(-1, 10), (math.nan, 10), (math.inf, 10), (1, 0)])
def test_an_impossible_price_is_refused(price, runs):
    with pytest.raises(ValueError, match="price"):
        lesson.savings(comparison_of(2.0, 1.0), price, runs)


# Figures


def test_the_figures_are_pictures_drawn_without_windows():
    runs = runs_of([([3, 2, 2.5, 1], [0.1, 0.2, 0.3, 0.4])] * 4, images=300)
    stopped = a_run([3, 2, 2.5], train_losses=[3, 2, 1])
    stopped.scalars["best_epoch"] = 1.0
    curves = lesson.curves(runs[0].run, stopped)
    for picture in (lesson.sketch(), curves, lesson.noise(runs), lesson.optimism_figure(runs)):
        assert isinstance(picture, Picture)
        assert picture._repr_png_().startswith(b"\x89PNG")
    assert [axes.get_title() for axes in curves.figure.axes] == ["early stopping off", "early stopping off"]
    final = [axes.lines[2].get_xydata()[0].tolist() for axes in curves.figure.axes]
    assert final == [[4, 1], [2, 2]]  # the last weights where nothing chose, the best where early stopping did
    assert len(lesson.noise(runs).figure.axes) == 3
    assert lesson.noise(runs).figure.get_suptitle() == "the first 3 of 4 runs"
    assert lesson.noise(runs[:3]).figure.get_suptitle() == ""


def test_smoke_runs_are_few_and_say_so(quick, monkeypatch):
    monkeypatch.setenv("SPEEDKIT_SMOKE", "1")
    runs = lesson.scored_runs(quick.but(model="mlp"), seeds=8)
    assert len(runs) == 2
    assert runs[0].right.shape[1] == 1000
    for table in (lesson.patience_table(runs), lesson.optimism_table(runs), lesson.what_if(runs[0].run)):
        assert "SPEEDKIT_SMOKE" in table.caption


def test_the_notebook_finds_all_it_calls_in_the_lesson():
    assert [name for name in lesson.__all__ if not callable(getattr(lesson, name))] == []
