"""Runs that take turns: each is trained and timed as if it were alone, and load that lasts cannot favour either."""

import itertools
import math
import sys

import pytest
import torch

from speedkit import hardware, meter
from speedkit.comparison.metrics import METRICS, NOT_AVAILABLE, PROCESS_MEMORY
from speedkit.comparison.result import ARMS
from speedkit.comparison.runs import comparing, fill, plan
from speedkit.loading import drain
from speedkit.meter import Meter
from speedkit.recipe import Recipe
from speedkit.run import Run, Step
from speedkit.support.errors import NotFinite
from speedkit.tasks import Progress
from speedkit.train import train

BASELINE = Recipe(device="cpu")
VARIANT = BASELINE.but(prefetch=3)  # the same training, another recipe
RUNS = sys.modules["speedkit.comparison.runs"]


def is_variant(recipe):
    return recipe.prefetch == VARIANT.prefetch


@pytest.fixture(autouse=True)
def no_release(monkeypatch):
    """Memory is not released, which takes long beside all the modules of a test session."""
    monkeypatch.setattr(RUNS, "_release_memory", lambda: None)


# Trained as if alone


@pytest.mark.parametrize(
    "change",
    [
        {"augment": "heavy", "data": "fashion-mnist"},
        {"augment": "light", "cache": "device"},
        {"batchnorm": True, "precision": "bf16"},
        {"early_stopping": 1, "cache": "ram"},
        {"batch_size": 16, "epochs": 1},
    ],
    ids=str,
)
def test_weights_losses_and_accuracies_are_those_of_the_runs_alone(quick, monkeypatch, change):
    monkeypatch.setattr(RUNS, "BLOCK", 0.0)  # another turn after every record
    recipes = dict(zip(ARMS, (quick, quick.but(**change)), strict=True))
    found, order = {}, []

    def kept(recipe, run):
        models = []
        for record in train(recipe, run, on_model=models.append):
            order.append(recipe.prefetch if run.count else 0)
            yield record
        found[recipe] = figures(run, models[0])

    first, second = recipes["baseline"], recipes["variant"].but(prefetch=3)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    comparison = drain_all(comparing(first, second, 1, train=kept))
    assert comparison.in_turns
    assert torch.equal(torch.get_rng_state(), before)
    assert sum(a != b for a, b in itertools.pairwise(order)) > 8  # they did take turns
    for recipe in (first, second):
        models = []
        alone = drain(train(recipe, on_model=models.append))
        for name, value in figures(alone, models[0]).items():
            assert torch.equal(found[recipe][name], value), name


def figures(run, model):
    columns = {name: torch.tensor(run.column(name)) for name in ("loss", "reads", "epoch")}
    names = ("train_loss", "validation_loss", "validation_accuracy", "train_accuracy", "steps")
    columns |= {f"epochs: {name}": torch.tensor(run.epoch_column(name)) for name in names}
    return columns | {name: value.clone() for name, value in model.state_dict().items()}


def drain_all(generator):
    *__, last = generator
    return last


def test_threads_and_number_formats_are_as_before_whichever_run_ends_first(quick, loop, monkeypatch):
    cores, seen, real = hardware.cores(), [], loop.nn.functional.cross_entropy

    def watched(*args, **options):
        if type(args[0]).__name__ != "FakeTensor":  # not while the memory of a step is counted
            seen.append(torch.get_num_threads())
        return real(*args, **options)

    monkeypatch.setattr(loop.nn.functional, "cross_entropy", watched)
    threads, matmul = torch.get_num_threads(), torch.backends.cuda.matmul
    found = matmul.fp32_precision
    matmul.fp32_precision = "tf32"
    torch.set_num_threads(cores + 1)
    try:
        drain_all(comparing(quick, quick.but(epochs=1), 2))
        assert torch.get_num_threads() == cores + 1
        assert matmul.fp32_precision == "tf32"
        assert set(seen) == {cores}  # also of the longer run, after the shorter one has ended
    finally:
        torch.set_num_threads(threads)
        matmul.fp32_precision = found


# Timed as if alone


class Clock:
    """A clock that only trains make go on."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


class Quiet:
    def others_share(self):
        return 0.0


class Trainer:
    """Trains nothing, under a real meter and a clock of its own: ``costs`` is seconds per step, by arm."""

    def __init__(self, clock, costs=(1.0, 2.0), steps=(6, 6), epochs=2, fail=None):
        self.clock, self.costs, self.steps, self.epochs, self.fail = clock, costs, steps, epochs, fail
        self.order, self.runs = [], []

    def __call__(self, recipe, run):
        variant = is_variant(recipe)
        cost, steps = self.costs[variant], self.steps[variant]
        self.runs.append(run)
        with run.recording():
            run.machine = {"device": "cpu"}
            run.total_steps = steps * self.epochs
            began = self.clock.now
            for done in range(3):
                self.clock.now += 0.5
                yield Progress("read", done, 3)
            run.scalars["prepare_s"] = self.clock.now - began
            with Meter(run, "cpu") as measured:
                for epoch in range(self.epochs):
                    for __ in measured.waiting(self.loader(steps, cost), epoch):
                        self.clock.now += cost / 2
                        if variant and run.count == self.fail:
                            raise NotFinite("The loss became nan.")
                        self.order.append(variant)
                        yield measured.lap(torch.tensor(0.5))
                    for done in range(3):
                        self.clock.now += 4 * cost
                        self.order.append(variant)
                        yield Progress("evaluated", done, 3)
                    yield measured.end_epoch({"validation_accuracy": 0.5})

    def loader(self, steps, cost):
        trainer = self

        class Batches:
            def epoch(self, number):
                for __ in range(steps):
                    trainer.clock.now += cost / 2
                    yield torch.zeros(1), torch.zeros(1), 1

        return Batches()


@pytest.fixture
def clock(monkeypatch):
    ticking = Clock()
    monkeypatch.setattr(meter, "clock", ticking)
    monkeypatch.setattr(RUNS, "clock", ticking)
    monkeypatch.setattr(meter, "Load", Quiet)
    return ticking


@pytest.mark.parametrize("block", [0.0, 3.0, 1000.0])
@pytest.mark.parametrize("steps", [(6, 6), (4, 9)])
def test_all_times_are_free_of_the_other_run_s(clock, monkeypatch, block, steps):
    monkeypatch.setattr(RUNS, "BLOCK", block)
    made = {}
    for in_turns in (False, True):
        trainer = Trainer(clock, steps=steps)
        made[in_turns] = trainer.runs
        comparison = drain_all(fill(plan(BASELINE, VARIANT, 1, (), 0.5), trainer, in_turns=in_turns))
        for name in ("step_s", "wait_s", "seconds", "target_s"):
            expected = {"step_s": (1, 2), "wait_s": (0.5, 1)}.get(name)
            if expected:
                assert comparison.values(name)[0].tolist() == pytest.approx(expected)
    for run in made[True][2:]:
        alone = next(each for each in made[False][2:] if each.recipe == run.recipe)
        for name in ("t", "wait_s", "step_s"):
            assert run.column(name) == pytest.approx(alone.column(name))
        for name in ("t", "train_s", "evaluate_s"):
            assert run.epoch_column(name) == pytest.approx(alone.epoch_column(name))
        assert run.seconds == pytest.approx(alone.seconds)
        assert run.scalars["prepare_s"] == alone.scalars["prepare_s"] == 1.5
    assert sum(run.paused_s > 0 for run in made[True]) == 2
    assert not any(run.paused_s for run in made[False])


def test_neither_run_is_ahead_by_more_than_a_block_and_the_lead_changes(clock, monkeypatch):
    monkeypatch.setattr(RUNS, "BLOCK", 4.0)
    trainer = Trainer(clock, costs=(1.0, 1.0), steps=(40, 40), epochs=1)
    drain_all(comparing(BASELINE, VARIANT, 1, train=trainer))
    counted = trainer.order[-2 * 43 :]
    ahead = [sum(1 if variant else -1 for variant in counted[:end]) for end in range(len(counted) + 1)]
    assert ahead[-1] == 0
    assert max(map(abs, ahead)) <= 5
    leads = [after for before, after in itertools.pairwise(ahead) if before == 0]
    assert leads[1:8] in ([1, -1, 1, -1, 1, -1, 1], [-1, 1, -1, 1, -1, 1, -1])


@pytest.mark.parametrize("slow", [(0, 20), (20, 60)])
def test_load_that_lasts_longer_than_a_block_slows_both_alike(clock, monkeypatch, slow):
    """The machine is three times as slow for a part of the time: one after the other, that passes for a difference."""
    monkeypatch.setattr(RUNS, "BLOCK", 0.5)

    class Busy(Clock):
        @property
        def now(self):
            return self._now

        @now.setter
        def now(self, value):
            passed = value - getattr(self, "_now", 0.0)
            share = getattr(self, "_now", 0.0) % 100
            self._now = value + (2 * passed if slow[0] <= share < slow[1] else 0)

    busy = Busy()
    for module in (meter, RUNS):
        monkeypatch.setattr(module, "clock", busy)
    ratios = {}
    for in_turns in (False, True):
        trainer = Trainer(busy, costs=(0.5, 0.5), steps=(60, 60), epochs=1)
        comparison = drain_all(fill(plan(BASELINE, VARIANT, 1, (), None), trainer, in_turns=in_turns))
        ratios[in_turns] = abs(comparison.effects("step_s")[0])
    assert ratios[True] < 0.05 < 0.1 < ratios[False]


# Who takes turns


@pytest.mark.parametrize(
    ("change", "machine", "expected"),
    [
        ({}, {}, True),
        ({"workers": 2}, {}, False),
        ({"workers": 2, "cache": "device"}, {}, True),  # then no worker is started
        ({}, {"device": "cuda:0"}, False),
        ({}, {"device": "mps"}, False),
        ({}, {"memory": 2.9e9}, False),
        ({}, {"memory": 4.1e9}, True),
    ],
)
def test_turns_are_taken_where_they_change_nothing(clock, change, machine, expected):
    class Elsewhere(Trainer):
        def __call__(self, recipe, run):
            yield from super().__call__(recipe, run)
            run.machine = {"device": "cpu"} | (machine if is_variant(recipe) or "memory" in machine else {})
            run.scalars["peak_memory"] = 1e9

    trainer = Elsewhere(clock)
    comparison = drain_all(comparing(BASELINE, VARIANT.but(**change), 1, train=trainer))
    assert comparison.in_turns is expected
    assert any(run.paused_s for run in trainer.runs) is expected
    for name in PROCESS_MEMORY:
        assert math.isnan(comparison.values(name)[0, 0]) is expected
        if expected:
            row = comparison.row(name)
            assert (row.verdict, row.why) == (NOT_AVAILABLE, "both runs of a pair are in the process at once")


def test_a_loss_that_is_not_finite_ends_only_its_own_run(clock):
    comparison = drain_all(comparing(BASELINE, VARIANT, 2, train=Trainer(clock, fail=3)))
    assert comparison.status == "finished"
    assert comparison.done == [0, 1]
    assert all(math.isnan(comparison.values(name)[0, 1]) for name in METRICS)
    assert comparison.values("step_s")[0, 0] == pytest.approx(1.0)


def test_each_step_is_passed_on_with_the_run_whose_turn_it_is(clock, monkeypatch):
    monkeypatch.setattr(RUNS, "BLOCK", 0.0)
    words, currents = [], []
    for comparison in comparing(BASELINE, VARIANT, 1, train=Trainer(clock), each_step=True):
        words.append(comparison.now)
        currents.append(comparison.current)
    assert words[0] == "warm-up, baseline"
    assert "pair 1 of 1, both in turn" in words
    assert all(isinstance(run, Run) for run in currents[:-1])
    assert len({id(run) for run in currents[-12:-2]}) == 2
    assert comparison.current is None


def test_the_record_of_a_step_is_still_a_step(quick):
    assert any(isinstance(record, Step) for record in train(quick))
