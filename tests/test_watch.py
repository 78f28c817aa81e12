"""sk.watch around loops that were not written for the kit."""

import math
import time

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

import speedkit as sk

READING, STEP = 0.002, 0.015


class Slow(torch.utils.data.Dataset):
    def __len__(self):
        return 60

    def __getitem__(self, position):
        time.sleep(READING)
        return torch.full((3,), float(position)), position % 2


def slow_loop(loader):
    for __ in loader:
        time.sleep(STEP)


def test_waiting_and_computing_are_those_of_the_loop():
    loader = sk.watch(DataLoader(Slow(), batch_size=5))
    slow_loop(loader)
    wait, compute = loader.run.column("wait_s"), loader.run.column("compute_s")
    assert len(wait) == 12
    assert (wait >= 5 * READING).all()
    assert (compute >= STEP).all()
    assert loader.run.column("step_s") == pytest.approx(wait + compute)
    assert loader.run.column("t")[-1] >= wait[1:].sum() + compute.sum()


def test_without_a_slow_loader_nothing_is_waiting():
    batches = [torch.zeros(4, 3)] * 8
    loader = sk.watch(batches)
    slow_loop(loader)
    assert loader.run.waiting_share < 0.5 < STEP / loader.run.mean("step_s") + 0.5
    assert loader.run.recipe.batch_size == 4


def test_batches_are_passed_on_unchanged_and_training_is_the_same():
    def weights(wrap):
        torch.manual_seed(0)
        network = nn.Linear(3, 2)
        optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
        loader = wrap(DataLoader(Slow(), batch_size=20, shuffle=True, generator=torch.Generator().manual_seed(1)))
        for __ in range(2):
            for inputs, labels in loader:
                loss = nn.functional.cross_entropy(network(inputs), labels)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        return network.weight

    assert torch.equal(weights(lambda loader: loader), weights(sk.watch))


def test_each_pass_is_an_epoch_of_one_run():
    loader = sk.watch(DataLoader(Slow(), batch_size=30), "mine")
    for __ in range(3):
        slow_loop(loader)
    run = loader.run
    assert run.epoch_column("steps").tolist() == [2, 4, 6]
    assert run.column("epoch").tolist() == [0, 0, 1, 1, 2, 2]
    assert (run.label, run.status, run.count) == ("mine", "finished", 6)


def test_what_a_loop_does_not_tell_is_not_available():
    loader = sk.watch([torch.zeros(4, 3)] * 30)
    slow_loop(loader)
    assert math.isnan(loader.run.last("validation_accuracy"))
    assert math.isnan(loader.run.mean("loss"))
    assert math.isnan(loader.run.scalars["reads"])
    assert loader.run.scalars["peak_memory"] > 0
    assert "n/a" in repr(sk.table_of_runs(loader.run))


def test_workers_are_counted_with_the_run():
    loader = sk.watch(DataLoader(Slow(), batch_size=30, num_workers=1))
    slow_loop(loader)
    assert loader.run.recipe.workers == 1
    assert loader.run.count == 2


@pytest.mark.parametrize(
    ("batch", "count"),
    [
        (torch.zeros(5, 3), 5),
        ([torch.zeros(5, 3), torch.zeros(5)], 5),
        ({"input_ids": torch.zeros(6, 9), "labels": torch.zeros(6)}, 6),
        ((torch.zeros(7), {"mask": torch.zeros(3)}), 7),
        ([["a", "b", "c"], torch.zeros(3)], 3),
        (7, 1),
        ([], 1),
    ],
)
def test_samples_are_counted_in_batches_of_all_kinds(batch, count):
    loader = sk.watch([batch] * 2)
    assert [received is batch for received in loader] == [True, True]
    assert loader.run.recipe.batch_size == count


def test_leaving_the_loop_keeps_what_was_measured():
    loader = sk.watch(DataLoader(Slow(), batch_size=5))
    for number, __ in enumerate(loader):
        if number == 3:
            break
    assert (loader.run.status, loader.run.count) == ("stopped", 3)


def test_an_error_in_the_loop_is_passed_on():
    def broken(loader):
        for number, __ in enumerate(loader):
            1 / (1 - number)

    loader = sk.watch(DataLoader(Slow(), batch_size=5))
    with pytest.raises(ZeroDivisionError):
        broken(loader)
    assert loader.run.count == 1


def test_it_looks_like_the_loader():
    inner = DataLoader(Slow(), batch_size=7)
    assert (len(sk.watch(inner)), sk.watch(inner).batch_size, sk.watch(inner).dataset) == (9, 7, inner.dataset)


def test_an_empty_loader_has_no_run():
    loader = sk.watch([])
    assert list(loader) == []
    assert loader.run is None


@pytest.mark.parametrize("loader", [None, 3, Slow])
def test_what_cannot_be_gone_through_is_refused(loader):
    with pytest.raises(TypeError, match=r"for loop can go through, such as a DataLoader, and got"):
        sk.watch(loader)


def test_a_watched_run_is_saved_and_loaded_with_its_name(tmp_path):
    loader = sk.watch([torch.zeros(4, 3)] * 3, "my script")
    slow_loop(loader)
    again = sk.Run.load(loader.run.save(tmp_path / "run.json"))
    assert again.label == "my script"
    assert again.column("step_s") == pytest.approx(loader.run.column("step_s"))


def loop_over(batches, reading):
    """A loop of one's own, with a known time to read a batch."""

    def my_loop():
        loader = sk.watch(Reading(batches, reading))
        for __ in loader:
            time.sleep(0.002)
        return loader

    return my_loop


class Reading:
    def __init__(self, batches, seconds):
        self.batches, self.seconds = batches, seconds

    def __iter__(self):
        for __ in range(self.batches):
            time.sleep(self.seconds)
            yield torch.zeros(4, 3)


def test_two_loops_are_compared_in_pairs(monkeypatch, tmp_path):
    monkeypatch.setenv("SPEEDKIT_SMOKE", "0")
    monkeypatch.setenv("SPEEDKIT_TURNS", "off")
    slow, quick = loop_over(20, 0.02), loop_over(20, 0.002)
    slow.__name__, quick.__name__ = "slow", "quick"
    result = sk.compare(slow, quick, progress=False)
    waiting, computing, whole = (result.row(name) for name in ("wait_s", "step_s", "seconds"))
    assert waiting.verdict == computing.verdict == whole.verdict == "lower"
    assert waiting.variant < 0.02 <= waiting.baseline
    assert whole.baseline >= 20 * 0.022
    assert math.isnan(result.row("validation_accuracy").effect)
    assert not result.in_turns
    assert "slow → quick: 5 of 5 pairs, finished" in repr(result)
    result.save(tmp_path / "loops.json")
    assert repr(sk.Comparison.load(tmp_path / "loops.json")) == repr(result)
    with pytest.raises(ValueError, match="class board"):
        sk.share(result, folder=tmp_path)


def test_both_loops_of_a_pair_draw_the_same_numbers_and_the_caller_s_generator_stays(monkeypatch):
    monkeypatch.setenv("SPEEDKIT_TURNS", "off")
    drawn = []

    def loop():
        loader = sk.watch([torch.zeros(4, 3)] * 3)
        for __ in loader:
            drawn.append(torch.rand(1).item())
        return loader

    torch.manual_seed(7)
    before = torch.get_rng_state()
    sk.compare(loop, loop, 2, progress=False)
    assert torch.equal(torch.get_rng_state(), before)
    __, __, first, second, third, fourth = (tuple(drawn[i : i + 3]) for i in range(0, 18, 3))
    assert first == second != third == fourth


def test_a_loop_that_does_not_return_its_loader_is_refused_with_a_sentence():
    def forgetful():
        for __ in sk.watch([torch.zeros(4, 3)] * 3):
            pass

    with pytest.raises(ValueError, match="forgetful must go through a loader"):
        sk.compare(forgetful, forgetful, progress=False)
    with pytest.raises(ValueError, match="leave them out"):
        sk.compare(forgetful, forgetful, target=0.5)
