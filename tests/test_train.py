"""The training loop: every switch works, alone and with others, and what should be equal is equal."""

import itertools
import sys
import threading
import time
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from speedkit import hardware, train
from speedkit.loading import drain
from speedkit.recipe import Recipe
from speedkit.run import Epoch, Run, Step
from speedkit.support import errors
from speedkit.support.errors import NotFinite
from speedkit.tasks import Progress
from speedkit.tasks import generated as generated_module
from speedkit.tasks import images as tasks_images
from speedkit.tasks.generated import rendered
from speedkit.tasks.images import load
from speedkit.train import fit

# Values of each switch that run on any processor; the first one is "off".
SWITCHES = {
    "precision": ("fp32", "bf16"),
    "early_stopping": (None, 1),
    "augment": ("off", "light", "heavy"),
    "batchnorm": (False, True),
    "workers": (0, 1, 2),
    "cache": ("off", "disk", "ram", "device"),
    "data": ("fashion-mnist", "jpeg", "sqlite"),
}


def losses(recipe):
    run = fit(recipe)
    return run.column("loss").tolist() + run.epoch_column("validation_loss").tolist()


# What is equal


@pytest.mark.parametrize(
    "changes",
    [{}, {"augment": "heavy", "batchnorm": True}, {"data": "jpeg"}, {"cache": "device", "augment": "light"}],
    ids=str,
)
def test_the_same_recipe_gives_the_same_losses_to_the_bit(quick, changes):
    recipe = quick.but(**changes)
    first = losses(recipe)
    assert len(first) == 8 + 2
    assert losses(recipe) == first
    assert losses(recipe.but(seed=1)) != first


@pytest.fixture
def two_cores(quick, monkeypatch):
    """As on a machine with two cores: one worker leaves torch one thread instead of two."""
    monkeypatch.setattr(hardware, "cores", lambda: 2)
    hardware.machine.cache_clear()
    return quick


@pytest.mark.parametrize(
    "changes",
    [{"workers": 1}, {"workers": 2, "cache": "ram"}, {"cache": "disk"}, {"cache": "ram"}, {"cache": "device"}],
    ids=str,
)
def test_workers_and_caches_do_not_change_the_losses(two_cores, changes):
    """The batches are bit-equal; with another number of threads, sums are taken in another order.

    Single precision rounds to 6e-8; sums of some thousand terms in a few steps grow that to less than 1e-4.
    """
    recipe = two_cores.but(model="mlp")
    assert losses(recipe.but(**changes)) == pytest.approx(losses(recipe), rel=1e-4)


def test_the_seed_decides_the_weights_whatever_the_generator_is(quick, loop):
    data = drain(load(quick))
    first = loop.new_model(quick, data)
    torch.rand(3)
    assert all(
        torch.equal(a, b) for a, b in zip(first.parameters(), loop.new_model(quick, data).parameters(), strict=True)
    )


def test_a_step_is_the_one_of_a_loop_written_by_hand(quick, loop):
    """Cross-entropy, SGD with Nesterov momentum 0.9, batches in the recipe's order."""
    data, recipe = drain(load(quick)), quick.but(epochs=1)
    model = loop.new_model(recipe, data)
    optimizer = torch.optim.SGD(model.parameters(), lr=recipe.learning_rate, momentum=0.9, nesterov=True)
    order = torch.randperm(64, generator=torch.Generator().manual_seed(0)).view(4, 16)
    expected = []
    for positions in order:
        loss = nn.functional.cross_entropy(model(data.train.images[positions]), data.train.labels[positions])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        expected.append(loss.item())
    assert fit(recipe).column("loss").tolist() == pytest.approx(expected, rel=1e-4)


# The switches


@pytest.mark.parametrize(("name", "value"), [(n, v) for n, values in SWITCHES.items() for v in values[1:]])
def test_each_switch_alone(quick, as_found, no_children, name, value):
    run = fit(quick.but(**{name: value}))
    assert run.status == "finished"
    assert run.count == 8
    assert len(run.epoch_column("t")) == 2
    assert all(torch.tensor(run.column("loss")).isfinite())


def pairwise(factors):
    """A few rows in which any two values of two factors meet: always add the row that brings the most new pairs."""

    def pairs(row):
        return set(itertools.combinations(enumerate(row), 2))

    rows = list(itertools.product(*factors))
    missing, chosen = set().union(*map(pairs, rows)), []
    while missing:
        chosen.append(max(rows, key=lambda row: len(pairs(row) & missing)))
        missing -= pairs(chosen[-1])
    return chosen


@pytest.mark.parametrize("values", pairwise(SWITCHES.values()), ids=lambda values: "-".join(map(str, values)))
def test_switches_in_pairs(quick, as_found, no_children, values):
    run = fit(quick.but(subset=32, **dict(zip(SWITCHES, values, strict=True))))
    assert run.status == "finished"
    assert run.count == 4
    assert all(torch.tensor(run.column("loss")).isfinite())


OTHERS = [
    {"model": "wide"},
    {"model": "mlp", "batchnorm": True},
    {"model": "resnet18"},
    {"optimizer": "adam"},
    {"channels_last": True, "batchnorm": True, "precision": "bf16"},
    {"weight_decay": 0.01},
    {"image_size": 16},
]


@pytest.mark.parametrize("changes", OTHERS, ids=str)
def test_the_other_settings_run(quick, changes):
    assert fit(quick.but(steps=2, **changes)).count == 2


def test_channels_last_is_how_filters_are_stored(quick, loop):
    model = loop.new_model(quick.but(channels_last=True), drain(load(quick)))
    filters = [m.weight for m in model.modules() if isinstance(m, nn.Conv2d)]
    assert len(filters) == 3
    assert all(weight.is_contiguous(memory_format=torch.channels_last) for weight in filters)
    assert losses(quick.but(channels_last=True)) == pytest.approx(losses(quick), rel=1e-3)


def test_biases_and_norms_get_no_weight_decay(quick, loop):
    recipe = quick.but(weight_decay=0.5, batchnorm=True)
    model = loop.new_model(recipe, drain(load(recipe)))
    optimizer, _ = loop.optimization(recipe, model, 4)
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert len(decay) == len(list(model.parameters()))
    assert all(decay[id(p)] == (0.5 if p.ndim > 1 else 0.0) for p in model.parameters())


def rates(recipe, loop, batches):
    """The learning rate at each step of a run."""
    optimizer, next_rate = loop.optimization(recipe, nn.Linear(2, 2), batches)
    found = []
    for _ in range(loop.total_steps(recipe, batches)):
        found.append({group["lr"] for group in optimizer.param_groups})
        optimizer.step()
        next_rate()
    assert all(len(rate) == 1 for rate in found)
    return [rate.pop() for rate in found]


def test_one_cycle_climbs_to_its_peak_and_falls_to_a_hundredth(loop):
    """Of 50 steps 13 climb in a line from a tenth to the peak; the others fall in a line to a hundredth."""
    found = rates(Recipe(schedule="one_cycle", learning_rate=0.4, epochs=2), loop, batches=25)
    assert found == pytest.approx(
        [*torch.linspace(0.04, 0.4, 13).tolist(), *torch.linspace(0.4, 0.004, 38).tolist()[1:]]
    )


def test_one_cycle_is_as_long_as_the_run(loop):
    found = rates(Recipe(schedule="one_cycle", learning_rate=0.4, epochs=9, steps=50), loop, batches=25)
    assert found == rates(Recipe(schedule="one_cycle", learning_rate=0.4, epochs=2), loop, batches=25)


@pytest.mark.parametrize("steps", range(1, 14))
def test_one_cycle_takes_any_number_of_steps(loop, steps):
    found = rates(Recipe(schedule="one_cycle", learning_rate=0.4, steps=steps, epochs=100), loop, batches=1)
    assert all(0 < rate <= 0.4 + 1e-9 for rate in found)
    assert max(found) >= 0.2 or steps < 4  # one or two steps hardly climb


def test_a_constant_rate_stays(loop):
    assert rates(Recipe(learning_rate=0.3), loop, batches=10) == [0.3] * 20


def test_one_cycle_trains(quick):
    assert fit(quick.but(schedule="one_cycle", steps=4)).status == "finished"


# How a run goes and ends


def test_records_come_in_order_and_the_run_is_returned(quick):
    generator, seen = train(quick.but(data="jpeg")), []
    try:
        while True:
            seen.append(next(generator))
    except StopIteration as stop:
        run = stop.value
    assert isinstance(run, Run)
    assert run.status == "finished"
    first_step = next(i for i, record in enumerate(seen) if isinstance(record, Step))
    assert first_step > 0
    assert all(isinstance(record, Progress) for record in seen[:first_step])
    assert [record.n for record in seen if isinstance(record, Step)] == list(range(8))
    assert [record.n for record in seen if isinstance(record, Epoch)] == [0, 1]
    steps_before = [sum(isinstance(r, Step) for r in seen[:i]) for i, r in enumerate(seen) if isinstance(r, Epoch)]
    assert steps_before == [4, 8]
    assert run.total_steps == 8
    assert run.scalars["prepare_s"] > 0
    assert run.machine["device"] == "cpu"


def test_making_the_files_at_first_use_is_not_part_of_the_runs_preparation(quick, monkeypatch):
    clock, made = itertools.count(), []

    def an_hour(image, position, size):
        made.append(position)
        for _ in range(3600):
            next(clock)
        return rendered(image, position, size)

    monkeypatch.setattr(generated_module, "rendered", an_hour)
    for module in (generated_module, sys.modules["speedkit.train"]):
        monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: float(next(clock))))
    run = fit(quick.but(data="jpeg", steps=1))
    assert made
    assert 0 < run.scalars["prepare_s"] < 3600


@pytest.mark.parametrize(("steps", "count", "epochs"), [(1, 1, 1), (4, 4, 1), (5, 5, 2), (8, 8, 2), (100, 8, 2)])
def test_the_limit_of_steps(quick, steps, count, epochs):
    run = fit(quick.but(steps=steps))
    assert (run.count, run.total_steps, len(run.epoch_column("t"))) == (count, count, epochs)
    assert run.status == "finished"


@pytest.fixture
def held(monkeypatch, loop):
    """Holds every loader of the loop, so that its workers do not end merely because nothing refers to it any more."""
    loaders, make_loader = [], loop.make_loader

    def made(*args):
        loaders.append((yield from make_loader(*args)))
        return loaders[-1]

    monkeypatch.setattr(loop, "make_loader", made)
    return loaders


@pytest.mark.parametrize("after", [Progress, Step, Epoch])
def test_closing_stops_the_run_and_its_workers(quick, as_found, no_children, held, after):
    run = Run(quick.but(workers=2, data="jpeg"))
    generator = train(run.recipe, run)
    for record in generator:
        if isinstance(record, after):
            break
    generator.close()
    assert (run.status, run.reason) == ("stopped", "stopped by hand")
    assert run.count == {Progress: 0, Step: 1, Epoch: 4}[after]
    assert len(run.epoch_column("t")) == (after is Epoch)
    assert "computing" in repr(run)  # what was measured can be shown


def test_an_error_in_the_middle_is_recorded_and_raised(quick, as_found, no_children, held, monkeypatch, loop):
    run, steps = Run(quick.but(workers=1)), itertools.count()

    def fails(*args):
        if next(steps) == 2:
            raise RuntimeError("out of memory")
        return nn.functional.log_softmax(torch.zeros(1, 2, requires_grad=True), 1).sum()

    monkeypatch.setattr(loop.nn.functional, "cross_entropy", fails)
    with pytest.raises(RuntimeError, match="out of memory"):
        drain(train(run.recipe, run))
    assert (run.status, run.reason, run.count) == ("failed", "out of memory", 2)


def test_what_cannot_be_run_fails_before_the_first_step(quick):
    run = Run(quick.but(precision="tf32"))
    with pytest.raises(errors.CannotRun):
        drain(train(run.recipe, run))
    assert (run.status, run.count) == ("failed", 0)
    assert "tf32" in run.reason


def test_a_loss_that_is_not_finite_ends_the_run(quick, as_found):
    run = Run(quick.but(learning_rate=100.0, epochs=20, model="mlp"))
    with pytest.raises(NotFinite, match="lower the learning rate"):
        drain(train(run.recipe, run))
    assert run.status == "failed"
    assert "lower the learning rate" in run.reason


def test_the_test_set_is_read_at_the_end_if_asked_for(quick, monkeypatch, loop):
    seen = []
    score = loop.score

    def scored(model, images, labels, *more):
        seen.append(len(labels))
        return (yield from score(model, images, labels, *more))

    monkeypatch.setattr(loop, "score", scored)
    run = fit(quick.but(data="jpeg"))
    assert set(seen) == {100, 32}  # validation and probe
    assert "test_accuracy" not in run.scalars
    seen.clear()
    run = fit(quick.but(data="fashion-mnist", test_at_end=True, steps=1))
    assert seen == [100, 32, 10_000]
    assert 0 <= run.scalars["test_accuracy"] <= 1


def test_score_is_mean_loss_and_accuracy_in_evaluation_mode(loop):
    """Logits that are the pixels: class 1 is named for three of four images, and right for two."""
    images = torch.tensor([[0, 9], [0, 9], [0, 9], [9, 0]], dtype=torch.uint8).view(4, 1, 1, 2)
    labels = torch.tensor([1, 1, 0, 1])
    model = nn.Sequential(nn.Flatten(), Pixels())
    loss, accuracy = drain(loop.score(model, images, labels, loop.Precision("fp32", "cpu"), 3))
    right, wrong = torch.tensor([0.0, -9.0]).logsumexp(0).item(), torch.tensor([9.0, 0.0]).logsumexp(0).item()
    assert loss == pytest.approx((2 * right + 2 * wrong) / 4, rel=1e-5)
    assert accuracy == 0.5
    assert not model.training


class Pixels(nn.Module):
    def __init__(self):
        super().__init__()
        self.one = nn.Parameter(torch.ones(1))

    def forward(self, images):
        return images.float() * self.one


def test_training_goes_on_in_training_mode_after_an_evaluation(quick, monkeypatch, loop):
    modes, models = [], []
    build = tasks_images.network

    def watched(*args, **named):
        model = build(*args, **named)
        model.register_forward_pre_hook(lambda module, inputs: modes.append((module.training, len(inputs[0]))))
        return model

    monkeypatch.setattr(tasks_images, "network", watched)
    drain(train(quick, on_model=models.append))
    assert [training for training, count in modes if count == 16] == [True] * 8
    assert not any(training for training, count in modes if count != 16)
    assert len(models) == 1


def test_each_epoch_can_be_looked_at_without_changing_the_run(quick):
    recipe, models, seen = quick.but(batchnorm=True), [], []
    run = Run(recipe)
    for record in train(recipe, run, on_model=models.append):
        if isinstance(record, Epoch):
            seen.append((models[0].training, models[0][1].weight.flatten()[0].item()))
    (first, before), (second, after) = seen
    assert first is second is False
    assert before != after
    assert run.column("loss").tolist() == fit(recipe).column("loss").tolist()


def test_a_run_learns(quick):
    """Chance is 0.1; 128 images, seen often, are learned by heart."""
    run = fit(quick.but(subset=128, epochs=12, learning_rate=0.1, batchnorm=True))
    assert run.last("train_accuracy") > 0.5
    assert run.last("train_loss") < run.epoch_column("train_loss")[0]


def test_the_smoke_cut(quick, monkeypatch):
    monkeypatch.setenv("SPEEDKIT_SMOKE", "1")
    run = fit(Recipe(device="cpu", epochs=50, batch_size=512))
    assert run.smoke
    assert run.count == 6
    assert run.recipe.batch_size == 32


def test_nothing_global_is_changed(quick, as_found):
    found = torch.backends.cudnn.conv.fp32_precision, torch.is_grad_enabled(), torch.get_default_dtype()
    fit(quick.but(augment="heavy", batchnorm=True, workers=1))
    assert (torch.backends.cudnn.conv.fp32_precision, torch.is_grad_enabled(), torch.get_default_dtype()) == found


@pytest.mark.parametrize("changes", [{}, {"workers": 2, "cache": "ram", "augment": "light"}], ids=str)
def test_it_trains_in_a_daemon_thread(quick, no_children, changes):
    recipe, finished = quick.but(**changes), []
    thread = threading.Thread(target=lambda: finished.append(fit(recipe)), daemon=True)
    thread.start()
    thread.join(timeout=60)
    assert finished[0].status == "finished"
    assert finished[0].column("loss").tolist() == fit(recipe).column("loss").tolist()


def test_it_can_be_stopped_from_another_thread_between_steps(quick, no_children):
    run, stop = Run(quick.but(epochs=10_000, workers=1)), threading.Event()

    def drive():
        generator = train(run.recipe, run)
        for _ in generator:
            if stop.is_set():
                generator.close()

    thread = threading.Thread(target=drive, daemon=True)
    thread.start()
    deadline = time.monotonic() + 60
    while run.count < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    stop.set()
    thread.join(timeout=60)
    assert run.status == "stopped"
    assert 3 <= run.count < 40_000


@pytest.mark.parametrize("workers", [0, 1])
def test_reading_and_augmenting_are_timed_where_they_are_done(quick, workers, no_children):
    """In the worker, too; a full cache is not read from the source, and nothing is augmented if that is off."""
    first = fit(quick.but(workers=workers, augment="heavy", cache="ram", epochs=2))
    read, augment = (first.column(name) for name in ("read_s", "augment_s"))
    per_epoch = first.count // 2
    assert (read[:per_epoch] > 0).all()
    assert (read[per_epoch:] == 0).all()
    assert (augment > 0).all()
    if not workers:  # the loop itself did both, so it waited for longer than that
        assert (read + augment <= first.column("load_s")).all()


def test_what_is_on_the_device_is_not_read_and_only_augmenting_counts(quick):
    off, light = (fit(quick.but(cache="device", augment=augment)) for augment in ("off", "light"))
    assert not off.column("read_s").any()
    assert not off.column("augment_s").any()
    assert not light.column("read_s").any()
    assert (light.column("augment_s") > 0).all()
