"""What is timed is what is said: the other ways of loading and of training do the same work as the kit's."""

import itertools

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
from tests.benchmarks import loading, ratio, readme, rivals, several, sizes, step_cost
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
