"""What the lesson on augmentation draws and counts."""

import math

import numpy as np
import pytest
import torch

from speedkit.lessons.augmentation import lesson
from speedkit.recipe import Recipe
from speedkit.run import Run
from speedkit.techniques.augmentation import BatchCropAndFlip, CropAndFlip
from speedkit.train import fit


def column(table, name):
    return [row[table.heading.index(name)] for row in table.rows]


def noise(count, channels=1, side=28):
    draw = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, channels, side, side), dtype=torch.uint8, generator=draw)


def test_variants_get_the_keys_of_the_loader():
    """A key is epoch * images + position."""
    seen = lesson.variants(lambda image, key: torch.full_like(image, key), noise(4), epochs=3)
    assert seen[:, :, 0, 0, 0].tolist() == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]


def test_the_images_are_those_that_a_run_is_trained_on(monkeypatch):
    few = lesson.images(5)
    assert few.shape == (5, 1, 28, 28)
    assert torch.equal(few, lesson.images(50)[:5])
    monkeypatch.setenv("SPEEDKIT_SMOKE", "1")
    assert len(lesson.images(500)) == 32


@pytest.mark.parametrize("channels", [1, 3])
def test_a_sheet_is_a_picture_of_rows_of_any_length(channels):
    picture = lesson.sheet("a $caption", stored=noise(3, channels), half_turn=noise(1, channels))
    assert picture._repr_png_().startswith(b"\x89PNG")
    assert repr(picture) == "a $caption: stored, half turn"


def test_a_sheet_of_variants_begins_with_what_is_stored(monkeypatch):
    rows = {}
    monkeypatch.setattr(lesson, "sheet", lambda caption, **found: rows.update(found) or caption)
    images = torch.zeros(2, 1, 28, 28, dtype=torch.uint8)
    caption = lesson.variants_sheet(lambda image, key: torch.full_like(image, key + 1), images, epochs=3)
    assert caption == "stored, then epochs 1 to 3"
    assert {name: row[:, 0, 0, 0].tolist() for name, row in rows.items()} == {
        "image 0": [0, 1, 3, 5],
        "image 1": [0, 2, 4, 6],
    }


def test_files_hold_every_pixel_and_are_deleted(tmp_path, monkeypatch):
    """PNG cannot make noise smaller, and packs a black image of 784 pixels into far less."""
    monkeypatch.setattr(lesson.tempfile, "tempdir", str(tmp_path))
    for images in (noise(10), noise(10, channels=3)):
        contents, blocks = lesson.on_disk(images)
        assert images.nbytes < contents < 1.5 * images.nbytes
        assert blocks % lesson.BLOCK == 0
    assert lesson.on_disk(torch.zeros(10, 1, 28, 28, dtype=torch.uint8))[0] < 2000
    assert list(tmp_path.iterdir()) == []


def test_ten_copies_beside_the_images_are_eleven_times_the_bytes():
    images = noise(20)
    windows = BatchCropAndFlip(images[:10], shift=1).windows
    table = lesson.bytes_kept(alone=images[:10], copies=noise(110), whole_batches=windows)
    # Padded to 30 x 30, and mirrored: 2 * 900 / 784. The view of its windows would be nine times as much.
    assert column(table, "memory, times the first row") == ["1.00", "11.00", f"{2 * 900 / 784:.2f}"]
    assert column(table, "PNG contents")[2] == "n/a"
    assert windows.nbytes > 9 * images[:10].nbytes


def test_a_rate_is_the_count_over_the_median(monkeypatch):
    class Readings:
        times = (0.1, 0.2, 0.4)

        def __init__(self, *_, **__):
            pass

        def blocked_autorange(self, min_run_time):
            return self

    monkeypatch.setattr(lesson, "Timer", Readings)
    table = lesson.images_per_s(20, one_way=None, other=None)
    assert column(table, "images/s, median") == ["100", "100"]
    assert column(table, "half of the readings")[0] == "67 to 133"  # quartiles 0.3 s and 0.15 s
    assert column(table, "time an image")[0] == "1e+04 µs"
    assert column(table, "times the first row") == ["1", "1"]


def test_every_way_is_really_called():
    calls = []
    lesson.images_per_s(1, min_s=0.001, way=lambda: calls.append(1))
    assert calls


def a_run(waits, computes, accuracies=((0.5, 0.4), (0.9, 0.6))):
    run = Run(Recipe(batch_size=10, subset=100))
    for wait, compute in zip(waits, computes, strict=True):
        run.step(wait_s=wait, compute_s=compute, step_s=wait + compute, t=1.0, loss=1.0)
    for train, validation in accuracies:
        run.epoch(train_accuracy=train, validation_accuracy=validation)
    return run


def test_supply_and_demand_leave_the_first_step_out():
    table = lesson.supply_and_demand(a_run([9.0, 0.3, 0.3], [9.0, 0.1, 0.1]))
    assert column(table, "delivered, images/s") == ["33"]
    assert column(table, "taken, images/s") == ["100"]
    assert column(table, "waiting") == ["75.0%"]


def test_what_is_not_known_is_not_made_up():
    table = lesson.supply_and_demand(a_run([1.0], [1.0]), a_run([1.0, 0.0], [1.0, 1.0]))
    assert column(table, "delivered, images/s") == ["n/a", "n/a"]
    assert column(table, "waiting")[0] == "n/a"
    assert column(lesson.gap(a_run([1.0], [1.0], accuracies=())), "training above validation") == ["n/a"]


def test_the_gap_is_training_above_validation():
    run = a_run([1.0, 1.0], [1.0, 1.0])
    assert column(lesson.gap(run), "training above validation") == ["+30.0 points"]
    assert "training and validation" in repr(lesson.curves(run, *[a_run([1.0], [1.0]) for _ in range(7)]))


def test_ones_own_transform_takes_the_place_of_the_kits(quick):
    """The kit's own, given by hand, is the same run; black images teach nothing about the pixels."""
    own = lesson.train_with(CropAndFlip(quick.shift, quick.seed), quick)
    assert own.column("loss").tolist() == fit(quick.but(augment="light")).column("loss").tolist()
    plain = lesson.train_with(None, quick.but(augment="light"))
    assert plain.column("loss").tolist() == fit(quick).column("loss").tolist() != own.column("loss").tolist()


@pytest.mark.parametrize("change", [{"cache": "device"}, {"workers": 1}])
def test_a_transform_that_would_not_be_used_is_refused(quick, change):
    with pytest.raises(ValueError, match="cannot be used with a transform of your own"):
        lesson.train_with(lambda image, key: image, quick.but(**change))


def test_harm_compares_equal_seeds_and_finds_what_leaves_no_label(quick):
    """What is trained on black images only cannot tell the classes apart; what changes nothing differs by nothing."""
    recipe = quick.but(epochs=10, batchnorm=True, learning_rate=0.1)
    table = lesson.harm(recipe, seeds=3, same=lambda image, key: image, black=lambda image, key: image * 0)
    assert column(table, "transform") == ["no transform", "same", "black"]
    assert column(table, "points against no transform")[:2] == ["", "+0.0, +0.0, +0.0"]
    assert column(table, "")[1].startswith("Cannot tell")
    assert column(table, "")[2].startswith("It loses")


@pytest.mark.parametrize(
    ("points", "words"),
    [
        ([-0.5, -1, -9], "It loses"),
        ([-0.4, -1, -9], "Cannot tell: 2 seeds lost"),
        ([0.5, 1, 9], "It wins"),
        ([-0.3, 0.2, 0.4], "Cannot tell: 0 seeds lost"),
        ([-50, -50], "Too few"),
        ([math.nan, -9, -9], "Cannot tell"),
    ],
)
def test_no_sentence_claims_less_than_half_a_point_or_fewer_than_three_seeds(points, words, monkeypatch):
    assert lesson.verdict_of_seeds(points).startswith(words)
    monkeypatch.setenv("SPEEDKIT_SMOKE", "1")
    assert lesson.verdict_of_seeds(points) == "Too few seeds to judge."


def test_in_smoke_mode_no_figure_means_anything(quick, monkeypatch):
    monkeypatch.setenv("SPEEDKIT_SMOKE", "1")
    run = a_run([1.0, 1.0], [1.0, 1.0])
    for table in (lesson.gap(run), lesson.supply_and_demand(run), lesson.images_per_s(1, way=int)):
        assert lesson.CUT in table.caption
    table = lesson.harm(quick, same=lambda image, key: image)
    assert np.array(column(table, "points against no transform")).tolist() == ["", "+0.0"]
