"""Early stopping ends a run when the loss no longer falls, and restores the best weights."""

import math

import pytest
import torch
from torch import nn

from speedkit.techniques.early_stopping import EarlyStopping
from speedkit.train import fit


class Marked(nn.Module):
    """A model whose one weight is the number of the epoch."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def at(self, epoch):
        with torch.no_grad():
            self.weight.fill_(float(epoch))
        return self


def fed(losses, **settings):
    """The stopper fed with these losses, the model, and the epoch (from 0) at which it stopped, or None."""
    stopper, model = EarlyStopping(**settings), Marked()
    for epoch, loss in enumerate(losses):
        if stopper.should_stop(loss, model.at(epoch)):
            return stopper, model, epoch
    return stopper, model, None


@pytest.mark.parametrize(
    ("patience", "losses", "stopped"),
    [
        (1, [3, 2, 2.5], 2),
        (2, [3, 2, 2.5, 2.4], 3),
        (2, [3, 2, 2.5, 1.9, 2, 2], 5),  # the better fourth epoch restarts the count
        (3, [3, 2, 2.5, 2.4], None),
        (1, [2, 2], 1),  # equal is not better
        (2, [1, math.nan, math.nan], 2),
        (2, [math.nan, math.nan], 1),
        (2, [math.nan, 5, math.nan, 4], None),
    ],
)
def test_patience_counts_epochs_without_a_better_loss(patience, losses, stopped):
    assert fed(losses, patience=patience)[2] == stopped


def test_min_delta_is_how_much_a_loss_must_fall():
    slow = [1.0, 0.95, 0.9, 0.85]
    assert fed(slow, patience=1)[2] is None
    assert fed(slow, patience=1, min_delta=0.1)[2] == 1
    # Small steps add up: 0.85 is more than 0.1 below 1.0, which is still the best loss that counted.
    assert fed(slow, patience=3, min_delta=0.1)[2] is None


@pytest.mark.parametrize(("losses", "best"), [([3, 1, 2, 2], 1), ([3, 2, 1], 2), ([3, 1, 2], 1), ([1, math.nan], 0)])
def test_the_best_weights_are_restored_whether_or_not_patience_ran_out(losses, best):
    stopper, model, _ = fed(losses, patience=2)
    stopper.restore(model)
    assert model.weight.item() == best
    assert stopper.best_epoch == best


def test_the_best_weights_are_copies():
    stopper, model, _ = fed([1], patience=5)
    model.at(9)
    stopper.restore(model)
    assert model.weight.item() == 0


def test_running_statistics_are_restored_too():
    model, stopper = nn.BatchNorm2d(1), EarlyStopping(1)
    stopper.should_stop(1.0, model)
    model(torch.ones(2, 1, 2, 2))
    assert model.running_mean.item() != 0
    stopper.restore(model)
    assert model.running_mean.item() == 0


def test_without_patience_it_does_nothing():
    stopper, model, stopped = fed([1, 2, 3, math.nan], patience=None)
    assert stopped is None
    assert stopper.weights is None
    assert stopper.best_epoch is None
    stopper.restore(model)
    assert model.weight.item() == 3


def test_without_any_better_epoch_the_last_weights_stay():
    stopper, model, _ = fed([math.nan, math.nan], patience=2)
    stopper.restore(model)
    assert model.weight.item() == 1


def fake_losses(monkeypatch, loop, losses):
    """Makes evaluation return these validation losses, one per epoch, and collects the weights it saw."""
    ahead, seen = iter(losses), []

    def evaluate(model, data, precision):
        seen.append([p.detach().clone() for p in model.parameters()])
        yield from ()
        return {"validation_loss": next(ahead), "validation_accuracy": 0.5, "train_accuracy": 0.5}

    monkeypatch.setattr(loop, "evaluate", evaluate)
    return seen


def test_a_run_ends_at_the_expected_epoch_with_the_best_weights(monkeypatch, loop, quick):
    seen, models = fake_losses(monkeypatch, loop, [3, 2, 2.5, 2.4, 1]), []
    run = fit(quick.but(early_stopping=2, epochs=5), on_model=models.append)
    assert run.status == "finished"
    assert run.epoch_column("validation_loss").tolist() == [3, 2, 2.5, 2.4]
    assert run.count == 4 * 4  # four epochs of four batches
    assert run.scalars["best_epoch"] == 1
    for now, best, last in zip(models[0].parameters(), seen[1], seen[3], strict=True):
        assert torch.equal(now, best)
        assert not torch.equal(now, last)


def test_a_run_whose_patience_never_runs_out_ends_with_the_best_weights_too(monkeypatch, loop, quick):
    seen, models = fake_losses(monkeypatch, loop, [3, 1, 2]), []
    fit(quick.but(early_stopping=5, epochs=3), on_model=models.append)
    assert len(seen) == 3
    assert all(torch.equal(now, best) for now, best in zip(models[0].parameters(), seen[1], strict=True))


def test_without_early_stopping_all_epochs_are_run(monkeypatch, loop, quick):
    fake_losses(monkeypatch, loop, [1, 2, 3])
    run = fit(quick.but(epochs=3))
    assert len(run.epoch_column("t")) == 3
    assert "best_epoch" not in run.scalars
