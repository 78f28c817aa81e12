"""Three tasks on one loop: the same switches, equal batches whatever prepares them, and a fourth task in one file."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from speedkit import Panel, fit
from speedkit.comparison.runs import comparing
from speedkit.lab import chart
from speedkit.loading import drain, make_loader
from speedkit.recipe import SOURCES, Recipe
from speedkit.tasks import TASKS, module_of, name_of, task_of
from speedkit.tasks.data import correct, drawn
from speedkit.train import first_batch, new_model

ROOT = Path(__file__).resolve().parent.parent
SMALL = {
    "text": {"data": "text", "subset": 64, "batch_size": 16, "context": 16, "device": "cpu"},
    "text-sqlite": {"data": "text-sqlite", "subset": 64, "batch_size": 16, "context": 16, "device": "cpu"},
    "ratings": {"data": "ratings", "subset": 64, "batch_size": 16, "history": 5, "device": "cpu"},
    "ratings-sqlite": {"data": "ratings-sqlite", "subset": 64, "batch_size": 16, "history": 5, "device": "cpu"},
}
OTHERS = ("text", "ratings")


def small(source, **changes):
    return Recipe(**SMALL[source] | changes)


def batches(recipe, epochs=2):
    """Inputs and labels of all batches of some epochs, and the samples read from the source in each of them."""
    data = drain(module_of(recipe).load(recipe))
    loader = drain(make_loader(recipe, data, "cpu"))
    try:
        found = [[batch for batch in loader.epoch(number)] for number in range(epochs)]
    finally:
        loader.close()
    reads = [sum(int(batch[2]) for batch in epoch) for epoch in found]
    whole = [torch.cat([batch[part] for epoch in found for batch in epoch]) for part in (0, 1)]
    return *whole, reads


@pytest.mark.parametrize("source", SMALL)
@pytest.mark.parametrize("augment", ["off", "light", "heavy"])
def test_batches_are_equal_whatever_cache_and_workers_there_are(generated, source, augment):
    inputs, labels, reads = batches(small(source, augment=augment))
    assert reads == [64, 64]
    assert len(inputs) == len(labels) == 128
    for cache, workers, expected in [
        ("ram", 0, [64, 0]),
        ("disk", 0, [64, 0]),
        ("disk", 2, [0, 0]),
        ("ram", 2, [64, 0]),
        ("off", 2, [64, 64]),
        ("device", 0, [0, 0]),
    ]:
        others = batches(small(source, augment=augment, cache=cache, workers=workers))
        assert torch.equal(others[0], inputs), (cache, workers)
        assert torch.equal(others[1], labels), (cache, workers)
        assert others[2] == expected, (cache, workers)


@pytest.mark.parametrize("name", OTHERS)
def test_the_database_gives_what_memory_gives(generated, name):
    for part, other in zip(batches(small(name)), batches(small(f"{name}-sqlite")), strict=True):
        assert part == other if isinstance(part, list) else torch.equal(part, other)


@pytest.mark.parametrize("name", OTHERS)
def test_without_augmentation_the_epochs_hold_the_same_and_with_it_fresh_variants(generated, name):
    def both(augment):
        inputs, labels, _ = batches(small(name, augment=augment))
        rows = torch.cat((inputs.long(), labels.view(len(labels), -1)), 1).tolist()
        return {tuple(row) for row in rows[:64]}, {tuple(row) for row in rows[64:]}

    first, second = both("off")
    assert first == second
    first, second = both("light")
    assert len(first & second) < 32


@pytest.mark.parametrize("name", OTHERS)
def test_the_same_recipe_gives_the_same_run_and_another_seed_another_one(generated, name):
    losses = [fit(small(name, augment="heavy", seed=seed)).column("loss").tolist() for seed in (0, 0, 1)]
    assert losses[0] == losses[1] != losses[2]


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize(
    "switches",
    [
        {},
        {"precision": "bf16"},
        {"precision": "fp16", "allow_slow": True},
        {"early_stopping": 1, "epochs": 3},
        {"augment": "heavy", "cache": "device"},
        {"workers": 2, "cache": "disk", "augment": "light", "precision": "bf16", "early_stopping": 3},
    ],
    ids=str,
)
def test_the_switches_work_alone_and_together(generated, name, switches):
    run = fit(small(name, **switches))
    assert run.status == "finished"
    assert 0 <= run.last("validation_accuracy") <= 1
    assert run.scalars["step_memory"] > 0
    assert 0 < run.scalars["trivial_accuracy"] < 1
    assert run.notes


@pytest.mark.parametrize("source", ["text", "ratings"])
def test_batch_norm_is_there_where_it_is_defined(generated, source):
    recipe = small(source, batchnorm=True, **({"model": "tcn"} if source == "text" else {}))
    layers = [type(layer).__name__ for layer in new_model(recipe, drain(module_of(recipe).load(recipe))).modules()]
    assert "BatchNorm1d" in layers
    assert fit(recipe).status == "finished"


def test_both_variants_start_from_the_same_weights(generated):
    data = drain(module_of(small("text")).load(small("text")))
    plain, with_norm = (
        dict(new_model(small("text", model="tcn", batchnorm=on), data).named_parameters()) for on in (False, True)
    )
    shared = plain.keys() & with_norm.keys()
    assert len(shared) >= 8
    assert all(torch.equal(plain[name], with_norm[name]) for name in shared)


# Recipes


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"data": "text", "model": "small"}, "model=small is not for data=text: give transformer | tcn."),
        ({"model": "tcn"}, "model=tcn is not for data=fashion-mnist: give small | wide | mlp | resnet18."),
        ({"data": "text", "shift": 3}, "shift=3 is not for data=text: leave it out."),
        ({"data": "ratings", "context": 32}, "context=32 is not for data=ratings: leave it out."),
        ({"history": 3}, "history=3 is not for data=fashion-mnist: leave it out."),
        (
            {"data": "ratings-sqlite", "channels_last": True},
            "channels_last=True is not for data=ratings-sqlite: leave it out.",
        ),
    ],
)
def test_what_a_task_has_no_use_for_is_refused(values, sentence):
    with pytest.raises(ValueError, match=r"\w+") as refusal:
        Recipe(**values)
    assert str(refusal.value) == sentence


def test_batch_norm_in_a_transformer_is_refused_with_the_reason():
    with pytest.raises(ValueError, match=r"batchnorm=True is not for model=transformer: .*layer norm.*batch"):
        Recipe(data="text", batchnorm=True)


def test_each_task_has_its_own_defaults_and_what_is_given_counts():
    assert (Recipe().model, Recipe().optimizer, Recipe().subset) == ("small", "sgd", None)
    text = Recipe(data="text")
    assert (text.model, text.optimizer, text.subset) == ("transformer", "adam", 10_000)
    assert Recipe(data="text", subset=None).subset is None
    assert Recipe(data="ratings", batch_size=8).batch_size == 8


def test_what_stands_at_its_default_follows_the_task_and_what_was_chosen_stays():
    changed = Recipe(epochs=7, augment="light").but(data="text")
    assert changed == Recipe(data="text", epochs=7, augment="light")
    assert changed.but(data="fashion-mnist") == Recipe(epochs=7, augment="light")
    assert Recipe(data="text", learning_rate=0.01).but(data="text-sqlite").learning_rate == 0.01
    assert Recipe(shift=3, seed=5).but(data="text") == Recipe(data="text", seed=5)
    with pytest.raises(ValueError, match="shift=3 is not for data=text"):
        Recipe().but(data="text", shift=3)


def test_a_recipe_of_before_loads():
    stored = {
        name: value for name, value in Recipe(cache="ram").to_dict().items() if name not in ("context", "history")
    }
    assert Recipe.from_dict(json.loads(json.dumps(stored))) == Recipe(cache="ram")


@pytest.mark.parametrize("name", [source for source in SOURCES if source.islower()])
def test_every_source_has_a_task_that_survives_a_smoke_run_of_itself(name):
    recipe = Recipe(data=name)
    assert task_of(recipe) is TASKS[name_of(name)]
    assert recipe.for_smoke().for_smoke() == recipe.for_smoke()
    assert recipe.for_smoke().subset == 256


# What a task says


@pytest.mark.parametrize(("name", "unit", "per_step"), [("text", "bytes/s", 256), ("ratings", "samples/s", 16)])
def test_throughput_and_accuracy_are_in_the_units_of_the_task(generated, name, unit, per_step):
    run = fit(small(name))
    assert run.column("images_per_s")[3] == pytest.approx(per_step / run.column("step_s")[3])
    assert unit in run.summary()["throughput"]
    words = chart.text(run)
    assert f"{unit.partition('/')[0]} per second" in words
    drawing = chart.svg(run)
    assert f"● {task_of(run.recipe).right} " in drawing
    assert 'data-series="trivial_accuracy"' in drawing


def test_runs_of_another_task_are_not_on_the_axes(generated):
    text, ratings = fit(small("text")), fit(small("ratings"))
    assert chart.text(text, [ratings]) == chart.text(text)
    assert "earlier, light augmentation" in chart.text(text, [ratings, fit(small("text", augment="light"))])


def test_a_comparison_names_what_it_counts(generated):
    recipe = small("ratings")
    *_, found = comparing(recipe, recipe.but(cache="ram"), pairs=1)
    assert found.row("reads").title == "histories read from the source while training"
    assert found.row("validation_accuracy").title == "validation hit@10"


def test_the_memory_of_a_step_is_that_of_real_tensors(generated):
    """The weights of the smallest network, by hand: item vectors and biases, and a perceptron of 64, 128 and 64."""
    run = fit(small("ratings"))
    items = len(drain(module_of(run.recipe).load(run.recipe)).classes)
    weights = 4 * (items * 65 + 64 * 128 + 128 + 128 * 64 + 64)
    assert run.scalars["step_memory_weights"] == weights
    assert run.scalars["step_memory_optimizer"] == pytest.approx(2 * weights, rel=0.001)  # Adam has two of each


def test_a_first_batch_is_in_the_shape_of_its_task(generated):
    inputs, labels, model = first_batch(small("text"))
    assert (inputs.shape, inputs.dtype, labels.shape, labels.dtype) == ((16, 16), torch.uint8, (16, 16), torch.int64)
    assert model(inputs).shape == (16, 256, 16)
    inputs, labels, model = first_batch(small("ratings"))
    assert (inputs.shape, labels.shape) == ((16, 6), (16,))
    assert model(inputs).shape[0] == 16


# The panel


def test_another_task_brings_its_networks_defaults_and_fields():
    panel = Panel(settings=("data", "subset", "epochs", "model", "learning_rate", "shift", "context"))
    controls = panel.controls
    assert [controls[name].disabled for name in ("shift", "context", "cache")] == [False, True, False]
    controls["epochs"].value = "5"
    controls["data"].value = "text"
    assert panel.read() == Recipe(data="text", epochs=5)
    assert [value for __, value in controls["model"].options] == ["transformer", "tcn"]
    assert [controls[name].disabled for name in ("shift", "context", "cache")] == [True, False, False]
    controls["model"].value = "tcn"
    controls["data"].value = "text-sqlite"
    assert panel.read() == Recipe(data="text-sqlite", model="tcn", epochs=5)
    controls["data"].value = "fashion-mnist"
    assert panel.read() == Recipe(epochs=5)


def test_a_panel_without_those_controls_takes_them_from_the_task(generated):
    panel = Panel(small("ratings"))
    assert panel.read() == small("ratings")
    panel.controls["data"].value = "text"
    assert (panel.read().model, panel.read().learning_rate) == ("transformer", 0.003)


def test_a_run_of_another_task_from_code_moves_the_controls(generated):
    panel = Panel(small("ratings"))
    run = panel.run(data="text", history=20, context=16)
    assert (run.recipe.data, panel.controls["data"].value) == ("text", "text")


# Parts


def test_drawn_numbers_are_even_and_differ_with_each_key_seed_and_salt():
    keys = torch.arange(70_000)
    numbers = drawn(7, 3, keys)
    counts = numbers.bincount(minlength=7)
    assert counts.shape == (7,)
    assert ((counts - 10_000).abs() < 500).all()  # five deviations of a binomial count
    for others in (drawn(7, 4, keys), drawn(7, 3, keys, salt=1), drawn(7, 3, keys + 1)):
        same = (numbers == others).sum()
        assert abs(int(same) - 10_000) < 500
    below = torch.tensor([1, 2, 1000])
    assert (drawn(below, 0, torch.arange(3)) < below).all()


def test_a_drawn_number_is_that_of_splitmix64():
    """The generator's second published output for seed 0 is the mixing of twice the golden ratio."""
    found = drawn(2**53, 0, torch.tensor([1, 2]))
    assert found.tolist() == [0xE220A8397B1DCDAF >> 11, 0x6E789E6AA1B965F4 >> 11]


def test_correct_counts_labels_among_the_largest():
    logits = torch.tensor([[0.1, 0.9, 0.5], [0.3, 0.2, 0.1]])
    labels = torch.tensor([2, 0])
    assert correct(logits, labels) == 1
    assert correct(logits, labels, top=2) == 2
    assert correct(logits.unsqueeze(2).expand(2, 3, 5), labels.unsqueeze(1).expand(2, 5)) == 5


# A fourth task

PARITY = '''
"""Is the sum of four numbers even?"""

import torch
from torch import nn

from speedkit.tasks.data import OnDevice, Source, prepared, share_of_commonest


class Numbers(Source):
    stored = (4,)

    def __init__(self, seed, count):
        self.values = torch.randint(256, (count, 4), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
        self.labels = self.values.sum(1) % 2

    def read(self, position):
        return self.values[position]


def load(recipe):
    train, held, test = (Numbers(seed, 512) for seed in range(3))
    trivial = lambda inputs, labels: share_of_commonest(labels, train.labels)
    gather = lambda recipe, source, samples: OnDevice(source, samples, None)
    return (yield from prepared(recipe, train, held, test, ("odd", "even"), trivial=trivial, on_device=gather))


class Bits(nn.Linear):
    def forward(self, inputs):
        return super().forward((inputs % 2).float())


def network(recipe, shape, classes, inputs=None):
    return nn.Sequential(Bits(shape[0], 8), nn.ReLU(), nn.Linear(8, classes))
'''
ROW = """    "parity": Task(
        sources=("parity",), networks=("bits",), fields=(), defaults={"model": "bits"}, without_norm={},
        unit="sums/s", rate="sums per second: {rate}", accuracy="validation accuracy",
        target="time to {share}%", reads="sums read",
    ),
"""


def test_a_fourth_task_is_one_file_and_one_row(tmp_path):
    shutil.copytree(ROOT / "speedkit", tmp_path / "speedkit", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "speedkit" / "tasks" / "parity.py").write_text(PARITY)
    table = tmp_path / "speedkit" / "tasks" / "__init__.py"
    before = 'TASKS = {"images": IMAGES, "text": TEXT, "ratings": RATINGS}\n'
    assert before in table.read_text()
    table.write_text(table.read_text().replace(before, f"{before[:-2]},\n{ROW}}}\n"))
    settings = {"PYTHONPATH": str(tmp_path), "SPEEDKIT_RUNS": str(tmp_path / "runs")}
    settings |= {"SPEEDKIT_GENERATED": str(tmp_path / "generated"), "SPEEDKIT_TURNS": str(tmp_path / "turns")}
    command = [sys.executable, "-m", "speedkit", "--data", "parity", "--device", "cpu", "--epochs", "1"]
    for switches in ([], ["--workers", "2"], ["--cache", "device"], ["--cache", "disk"], ["--precision", "bf16"]):
        done = subprocess.run(
            [*command, *switches], capture_output=True, text=True, cwd=tmp_path, timeout=120, env=os.environ | settings
        )
        assert done.returncode == 0, done.stderr
        assert "sums/s" in done.stdout
    assert len(list((tmp_path / "runs").glob("*.json"))) == 5
