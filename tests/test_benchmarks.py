"""What is timed is what is said: the other ways of loading and of training do the same work as the kit's."""

import importlib
import itertools
import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from speedkit.meter import Meter
from speedkit.recipe import Recipe
from speedkit.run import Run
from speedkit.tasks import images as data
from speedkit.tasks.images import build
from speedkit.techniques.precision import Precision
from speedkit.train import optimization
from tests import benchmarks
from tests.benchmarks import loading, null, ratio, readme, rivals, several, sizes, step_cost
from tests.benchmarks.by_hand import steps_by_hand


def windows(image, shift):
    """Every crop of an image after padding, and its mirror image: [crops, H, W]."""
    padded, (height, width) = F.pad(image, (shift,) * 4), image.shape[-2:]
    crops = [padded[0, y : y + height, x : x + width] for y, x in itertools.product(range(2 * shift + 1), repeat=2)]
    return torch.stack([*crops, *(crop.flip(-1) for crop in crops)])


def test_the_crop_by_masks_gives_windows_of_the_images_with_their_labels():
    images, labels = data.fashion_mnist("train")
    images, labels = images[:200], torch.arange(200)  # each its own label, so that it can be found again
    batch, numbers = next(loading.by_masks(images, labels))
    assert batch.shape == (loading.BATCH, 1, 28, 28)
    assert batch.dtype == torch.uint8
    shown = [
        (windows(images[n], loading.SHIFT) == image[0]).all(-1).all(-1) for image, n in zip(batch, numbers, strict=True)
    ]
    assert all(found.any() for found in shown)
    assert len({int(found.nonzero()[0]) for found in shown}) > 10  # and not always the same one


def test_the_newcomer_s_loader_gives_the_same_images_normalised(tmp_path):
    images, labels = data.fashion_mnist("train")
    plain = loading.torchvision_set(tmp_path, transform=loading.transforms.ToTensor())
    assert torch.equal((plain[7][0] * 255).round().to(torch.uint8), images[7])
    assert plain[7][1] == labels[7]
    batch, truth = next(loading.loaded(loading.torchvision_set(tmp_path, transform=loading.newcomer_transform())))
    assert batch.shape == (loading.BATCH, 1, 28, 28)
    assert abs(float(batch.mean())) < 0.3
    assert truth.shape == (loading.BATCH,)


def test_the_picture_files_hold_the_training_images(tmp_path):
    images, labels = data.fashion_mnist("train")
    opened = loading.png_files(tmp_path, count=3)
    assert all(torch.equal(opened[i][0], images[i]) for i in range(3))
    assert [opened[i][1] for i in range(3)] == labels[:3].tolist()


@pytest.mark.parametrize("cache", ["ram", "device"])
def test_the_kit_s_batches_go_on_without_end(quick, cache):
    batches = loading.kit(quick.but(cache=cache))
    assert sum(len(labels) for _, labels in itertools.islice(batches, 9)) == 9 * quick.batch_size


def test_the_schedule_of_the_others_is_the_kit_s():
    recipe = Recipe(schedule="one_cycle", learning_rate=0.06, epochs=2, steps=12)
    model = torch.nn.Linear(2, 2)
    optimizer, next_rate = optimization(recipe, model, batches=10)
    theirs = torch.optim.SGD(model.parameters(), lr=1.0)
    schedule = rivals.one_cycle(theirs, 0.06, 12)
    for _ in range(11):
        assert optimizer.param_groups[0]["lr"] == theirs.param_groups[0]["lr"]
        optimizer.step()
        theirs.step()
        next_rate()
        schedule.step()


def test_the_others_train_networks_of_the_kit_s_size():
    unit = torch.ones(1)
    count = {
        name: sum(p.numel() for p in network.parameters())
        for name, network in {
            "kit": build("small", (1, 28, 28), 10, mean=unit, std=unit, batchnorm=True),
            "kit without pixels": rivals.kit_network(),
        }.items()
    }
    assert len(set(count.values())) == 1
    images = torch.rand(2, 1, 28, 28)
    for network in (rivals.kit_network(), rivals.usual_network(True), rivals.usual_network(False)):
        assert network(images).shape == (2, 10)


def test_by_hand_trains_and_ends_after_the_steps_asked_for(quick):
    assert len(list(steps_by_hand(quick.but(steps=3)))) == 3
    torch.manual_seed(0)
    model, batch = rivals.usual_network(False), (torch.rand(64, 1, 28, 28), torch.full((64,), 3))
    optimizer, batches = torch.optim.SGD(model.parameters(), lr=0.1), itertools.repeat(batch)
    rivals.by_hand(model, batches, optimizer, steps=20)
    assert rivals.accuracy(model, [batch]) == 1.0


def test_the_loop_that_is_added_up_records_every_step():
    run = Run(Recipe())
    nothing = step_cost.Nothing("cpu", 50)
    with Precision("fp32", "cpu") as precision, Meter(run, "cpu") as meter:
        for _ in step_cost.train_around(nothing, precision, meter, run):
            pass
    assert run.count == 50


def test_ratios_and_durations_come_with_their_interval():
    found = ratio({"a": [2.0, 4.0, 6.0], "b": [1.0, 2.0, 3.0]})
    assert (found["ratio"], found["pairs"]) == (2.0, 3)
    assert found["interval"] == pytest.approx([2.0, 2.0])
    low, high = several([1.0, 2.0, 4.0])["interval"]
    assert low < 2.0 < high
    assert sizes([2**20, 2**21, 2**22])["bytes"] == pytest.approx(2**21)
    assert sizes([2**20, 2**21, 2**22])["interval"] == pytest.approx([low * 2**20, high * 2**20])


def test_the_readme_shows_what_was_kept():
    text = readme.README.read_text(encoding="utf-8")
    assert text == readme.written(text), "run: python -m tests.benchmarks.readme"
    assert len(readme.rows()) > 10


# How often verdicts are wrong


def test_trials_are_kept_one_by_one_and_go_on_where_they_stopped(quick, tmp_path):
    raw = tmp_path / "null.jsonl"
    for wanted in (1, 2):
        null.measure(raw, "quiet", 10, wanted, quick.but(cache="device"), pairs=2)
        rows = null.read(raw)
        assert len(rows) == wanted * len(null.TRUTHS) * len(null.DESIGNS)
    with open(raw, "a") as file:
        file.write('{"condition": "quiet", "tru')  # stopped while it wrote
    assert null.read(raw) == rows
    assert {(row["truth"], row["design"], row["number"]) for row in rows} == {
        (truth, design, number) for truth in null.TRUTHS for design in null.DESIGNS for number in range(2)
    }
    for row in rows:
        assert sorted((seed, variant) for variant, seed, *__ in row["steps"]) == sorted(
            (seed, variant) for seed in {seed for __, seed, *__ in row["steps"]} for variant in (0, 1)
        )
        assert all(len(ends) == len(times) > 1 for __, __, ends, times in row["steps"])
        reads, accuracy = row["values"]["reads"], row["values"]["validation_accuracy"]
        assert all(baseline == variant for baseline, variant in reads + accuracy)  # the added work changes nothing
    assert len(null.table(null.summary(rows)).splitlines()) == 2 + 3  # a line per design, and one for how it was


def test_the_added_work_is_proportional_to_the_step(quick):
    work, done = null.Work(quick, rounds=3), []
    work.per_step, work._pass = 8.0, lambda: done.append(None)
    model = torch.nn.Linear(1, 1)
    work.into(model, 0.3)
    for __ in range(10):
        model(torch.zeros(1, 1))
    assert len(done) == 24
    model.eval()
    model(torch.zeros(1, 1))
    assert len(done) == 24


def made_up(lower, times, design="in turns", truth="none"):
    """A row of the raw file: five pairs of two steps and a first; the variant takes ``times`` in µs, the other 100."""
    steps = []
    for seed in range(5):
        for variant, taken in enumerate((100, times[seed])):
            ends = [10 * block + 5 * variant for block in range(3)]
            steps.append([variant, seed, ends, [999, taken, taken]])
    rows = {"step_s": [1.0, 0.9, 1.1, "lower" if lower else "no difference detected"], "energy_j": [0, 0, 0, "n/a"]}
    shares = [0.0] * 8 + [0.5] * 2
    found = {"condition": "quiet", "truth": truth, "design": design, "number": 0, "seconds": 4.0}
    return found | {"others_share": shares, "rows": rows, "steps": steps}


def test_verdicts_are_counted_by_kind_and_metric():
    rows = [made_up(i < 2, [100] * 5, truth=truth) for truth in null.TRUTHS for i in range(5)]
    counted = null.summary(rows)["quiet | in turns | none"]
    assert (counted["trials"], counted["verdicts"]) == (5, {"step_s": {"lower": 2, "no difference detected": 3}})
    line = null.table(null.summary(rows)).splitlines()[2]
    assert line == "| nothing else | in turns | 2 of 5 | 2 of 5 | 0 of 5 | 0 of 5 | 4 | 4 s |"


def test_what_is_not_judged_now_is_judged_as_it_was_before():
    row = made_up(False, [110] * 5, "one after the other")
    row["rows"] = {"seconds": [1.1, math.nan, math.nan, "not judged"]}
    row["values"] = {"seconds": [[1.0, 1.1], [1.0, 1.1], [1.0, 1.11], [1.0, 1.09], [1.0, 1.1]]}
    counted = null.summary([row])
    assert counted["quiet | one after the other | none"]["verdicts"] == {"seconds": {"not judged": 1}}
    assert counted[f"quiet | {null.BEFORE} | none"]["verdicts"] == {"seconds": {"higher": 1}}


def test_the_estimators_agree_where_they_should():
    longer = [110, 111, 109, 110, 110]
    counted = null.estimators([made_up(False, longer, design) for design in null.DESIGNS])
    assert all(found["higher"] == 1 for found in counted.values()), counted
    assert len(counted) == len(null.ESTIMATORS)
    # Steps whose ratio is one on average: none of them finds a difference over pairs.
    even = null.estimators([made_up(False, [90, 1e4 / 90, 100, 80, 1e4 / 80], design) for design in null.DESIGNS])
    assert all(found["none"] == 1 for name, found in even.items() if "pairs" in name), even


def test_the_rank_interval_is_wilcoxon_s():
    from scipy.stats import wilcoxon

    draw = np.random.default_rng(0)
    for shift in np.linspace(0, 1.5, 40):
        samples = draw.normal(shift, 1.0, 12)
        low, high = null._rank(samples)
        assert (low > 0 or high < 0) == (wilcoxon(samples, method="exact").pvalue <= 0.05)
    assert null._rank(np.ones(5)) == (-math.inf, math.inf)  # five cannot reach 95 %


@pytest.mark.parametrize("condition", ["quiet", "bursts"])
def test_a_load_lasts_as_long_as_its_block(condition):
    import psutil

    def loads():
        children = psutil.Process().children(recursive=True)
        return [child for child in children if "--load" in child.cmdline()]

    with null.loaded(condition):
        assert len(loads()) == (condition != "quiet")
    assert not loads()


def test_a_benchmark_that_fails_loses_no_other_and_is_named(monkeypatch):
    main = importlib.import_module("tests.benchmarks.__main__")
    modules = {
        "tests.benchmarks.loading": SimpleNamespace(main=lambda: None),
        "tests.benchmarks.techniques": SimpleNamespace(main=lambda: 1 / 0),
    }
    monkeypatch.setattr(main, "import_module", lambda name: modules[name] if name in modules else missing(name))

    def missing(name):
        raise ModuleNotFoundError("No module named 'jupyter_client'", name="jupyter_client")

    assert main.run("loading") == ""
    assert main.run("techniques") == "techniques failed: ZeroDivisionError: division by zero"
    assert main.run("panel_cost") == "panel_cost skipped: jupyter_client is not installed."


def test_each_figure_is_saved_as_soon_as_it_is_there(monkeypatch, tmp_path):
    monkeypatch.setattr(benchmarks, "RESULTS", tmp_path)
    figures = benchmarks.Figures("a_benchmark")
    figures["first"] = {"ratio": 1.5}
    assert json.loads(figures.path.read_text())["figures"] == {"first": {"ratio": 1.5}}
    with pytest.raises(ZeroDivisionError):
        figures["second"] = 1 / 0
    assert json.loads(figures.path.read_text())["figures"] == {"first": {"ratio": 1.5}}
