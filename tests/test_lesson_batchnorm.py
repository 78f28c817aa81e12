"""The lesson on batch normalisation: sweeps, two modes, and a forgotten eval()."""

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn

from speedkit.lessons.batchnorm import lesson
from speedkit.lessons.batchnorm.lesson import Sweep
from speedkit.recipe import Recipe
from speedkit.support.errors import NotFinite
from speedkit.train import first_batch


@pytest.fixture
def batch(quick):
    """Images, labels and an untrained network with batch norm."""
    return first_batch(quick.but(batchnorm=True))


def state(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def unchanged(model, before):
    return all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


# One batch, two modes


def test_channels_are_shown_before_and_after_the_norm(batch):
    images, _, model = batch
    before = state(model.eval())
    picture = lesson.channels(model, images, shown=3)
    assert picture.png.startswith(b"\x89PNG")
    assert unchanged(model, before)
    assert not model.training
    into, out = picture.figure.axes
    assert [axes.get_title() for axes in (into, out)] == ["before the norm", "after the norm"]
    assert len(out.get_legend().texts) == 3
    for text in out.get_legend().texts:  # after the norm, mean 0 and standard deviation 1, up to eps
        assert float(text.get_text().split("mean ")[1].split(",")[0]) == pytest.approx(0, abs=0.01)
        assert float(text.get_text().split("std ")[1]) == pytest.approx(1, abs=0.02)
    assert {text.get_text() for text in into.get_legend().texts} != {t.get_text() for t in out.get_legend().texts}


def test_neighbours_matter_in_training_mode_only(batch):
    images, _, model = batch
    before = state(model)
    training, evaluation = lesson.neighbours(model, images).rows
    assert float(training[3]) > 0
    assert float(evaluation[3]) == 0
    assert evaluation[1] == evaluation[2]
    assert unchanged(model, before)


def test_without_a_norm_neighbours_do_not_matter(quick):
    images, _, model = first_batch(quick)
    assert [float(row[3]) for row in lesson.neighbours(model, images).rows] == [0, 0]


# Memory


def test_counted_memory_has_both_columns_and_the_norm_needs_more(quick):
    table = lesson.memory_table(quick, quick.but(batchnorm=True))
    assert table.heading[2:] == [f"{table.heading[1]}, batch norm", "ratio"]
    rows = {row[0].split()[0]: row for row in table.rows}
    assert rows["activations"][3].startswith("× ")
    assert float(rows["activations"][3][2:]) > 1
    assert float(rows["total"][3][2:]) > 1


# Sweeps


def swept(without, with_norm):
    return Sweep(Recipe(), (0.01, 0.1, 1.0), {False: np.array(without), True: np.array(with_norm)})


def test_the_best_rate_is_the_best_on_average_and_a_diverged_run_counts_as_zero():
    found = swept([[0.5, 0.5], [0.9, math.nan], [0.4, 0.5]], [[0.5, 0.7], [0.6, 0.8], [0.9, 0.4]])
    assert found.best(False) == 0.01
    assert found.best(True) == 0.1
    rows = found.table().rows
    assert rows[1] == ["0.1", "90.0%, diverged", "60.0%, 80.0%"]
    assert rows[3] == ["best rate", "0.01, at the edge: try rates beyond it", "0.1"]
    assert rows[4] == ["best minus worst", "5.0 points", "10.0 points"]


def test_the_figure_marks_diverged_runs():
    picture = swept([[0.5], [0.9], [math.nan]], [[0.5], [0.6], [0.7]]).figure()
    crosses = [line.get_xdata().tolist() for line in picture.figure.axes[0].lines if line.get_marker() == "x"]
    assert crosses == [[0.0], []]
    assert picture._repr_png_().startswith(b"\x89PNG")


def test_a_sweep_trains_every_combination_and_survives_a_diverged_run(quick, monkeypatch):
    made = []
    fit = lesson.fit

    def watched(recipe):
        made.append((recipe.batchnorm, recipe.learning_rate, recipe.seed))
        if recipe.learning_rate == 0.2 and not recipe.batchnorm:
            raise NotFinite("The loss became inf at step 1.")
        return fit(recipe)

    monkeypatch.setattr(lesson, "fit", watched)
    found = lesson.sweep(quick.but(seed=7, model="mlp"), (0.01, 0.2), seeds=2)
    assert sorted(made) == [(on, rate, seed) for on in (False, True) for rate in (0.01, 0.2) for seed in (7, 8)]
    assert np.isfinite(found.accuracies[True]).all()
    assert np.isfinite(found.accuracies[False]).all(axis=1).tolist() == [True, False]
    assert found.best(False) == 0.01


def test_a_smoke_sweep_is_short_and_says_so(quick, monkeypatch):
    monkeypatch.setenv("SPEEDKIT_SMOKE", "1")
    found = lesson.sweep(quick.but(model="mlp"), (0.01, 0.03, 0.1), seeds=3)
    assert found.accuracies[True].shape == (2, 1)
    assert "SPEEDKIT_SMOKE" in found.table().caption


# A forgotten eval()


class Blind(nn.Module):
    """Predicts class 1 for images above the mean: the batch's (train) or the running mean (eval)."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(1)

    def forward(self, images):
        above = self.norm(images.float().mean(dim=(1, 2, 3)).unsqueeze(1))
        return torch.cat([-above, above], dim=1)


def test_in_training_mode_the_answer_depends_on_the_batch():
    model = Blind()
    model.norm.running_mean.fill_(5.0)
    images = torch.tensor([0, 1, 9, 10], dtype=torch.uint8).view(4, 1, 1, 1)
    labels = torch.tensor([0, 0, 1, 1])
    assert lesson.accuracy_as_set(model.eval(), images, labels, 2) == 1
    assert lesson.accuracy_as_set(copy.deepcopy(model).train(), images, labels, 4) == 1
    # Two at a time and sorted, one of the two is always above their mean.
    assert lesson.accuracy_as_set(copy.deepcopy(model).train(), images, labels, 2) == 0.5


def test_the_shift_of_running_means_is_in_standard_deviations():
    model, later = nn.Sequential(nn.BatchNorm1d(2)), nn.Sequential(nn.BatchNorm1d(2))
    model[0].running_var.copy_(torch.tensor([4.0, 1.0]))
    later[0].running_mean.copy_(torch.tensor([2.0, -3.0]))
    assert lesson.mean_shift(model, model) == 0
    assert lesson.mean_shift(model, later) == pytest.approx((1 + 3) / 2, rel=1e-3)


def test_the_table_of_a_forgotten_eval_leaves_the_model_alone(quick):
    recipe = quick.but(batchnorm=True, learning_rate=0.02)
    model = lesson.trained(recipe)
    assert not model.training
    before = state(model)
    table = lesson.forgotten_eval(model, recipe, batches=(50, 2))
    rows = table.rows
    assert unchanged(model, before)
    assert "moved the running means by" in table.caption
    assert [row[1] for row in rows] == ["50", "50", "2", "50", "50"]
    assert rows[0][3] == ""
    for row in rows[1:]:
        difference = float(row[2].rstrip("%")) - float(rows[0][2].rstrip("%"))
        assert float(row[3]) == pytest.approx(difference, abs=0.11)
    assert rows[3][2] != rows[0][2] or rows[4][2] != rows[0][2]
