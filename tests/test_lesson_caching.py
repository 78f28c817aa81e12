"""The lesson on caching: its counts are right, and its two wrong caches are wrong in the way that it says."""

import math

import pytest
import torch

from speedkit import loading
from speedkit.comparison.metrics import LOWER, NO_DIFFERENCE, TOO_FEW
from speedkit.comparison.stats import SMALL
from speedkit.lessons.caching import lesson
from speedkit.run import Run
from speedkit.tasks import images as data
from speedkit.techniques import augmentation, caching
from speedkit.train import fit


def run_of(recipe, accuracy=0.5, **columns):
    """A run with the given epoch columns."""
    run = Run(recipe)
    for row in zip(*columns.values(), strict=True):
        run.epoch(**dict(zip(columns, row, strict=True)), validation_accuracy=accuracy)
    return run


def test_the_hit_rate_counts_what_was_asked_for_and_not_read(quick):
    """4 steps per epoch with batches of 16: 64 images asked for in each; 16 + 32 of the 128 later ones were read."""
    run = run_of(quick, steps=[4, 8, 12], reads=[64, 16, 32], train_s=[1, 0.25, 0.75])
    assert lesson.hit_rate(run) == 1 - 48 / 128
    table = lesson.first_and_next(run)
    assert table.rows == [["baseline", "64", "24", "62.5%", "1 s", "500 ms", "n/a"]]


def test_a_run_of_one_epoch_has_no_hit_rate(quick):
    run = run_of(quick, steps=[4], reads=[64], train_s=[1])
    assert math.isnan(lesson.hit_rate(run))
    assert lesson.first_and_next(run).rows[0][2:4] == ["n/a", "n/a"]


def test_real_runs_read_once_what_the_cache_holds(quick):
    recipe = quick.but(data="sqlite", cache="ram", epochs=3)
    runs = [fit(recipe.but(cache_images=held)) for held in (None, 16)]
    assert [lesson.hit_rate(run) for run in runs] == [1, 16 / 64]
    picture = lesson.epochs_figure(*runs)
    bars = picture.figure.axes[0].patches
    assert [bar.get_height() for bar in bars] == [*runs[0].epoch_column("train_s"), *runs[1].epoch_column("train_s")]
    assert picture.png.startswith(b"\x89PNG")


def test_memory_is_counted_from_the_shapes(quick):
    """64 images of 3 x 28 x 28 bytes and a flag each; as float32 four times the pixels; stored at 32 x 32."""
    recipe = quick.but(data="sqlite")
    table = lesson.memory_paid(recipe)
    assert table.heading[1:4] == ["one image", "64 images", "all 55,000"]
    assert [row[2] for row in table.rows[1:]] == ["147.1 KiB", "588.0 KiB", "192.0 KiB"]
    assert [row[3] for row in table.rows[2:]] == ["493.5 MiB", "161.1 MiB"]
    source = lesson.source(recipe)
    assert 100 < float(table.rows[0][1].split()[0]) * (1024 if "KiB" in table.rows[0][1] else 1) < 3000
    assert len(source.labels) == 64


def test_the_page_cache_is_read_twice_or_not_available(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_bytes(bytes(3 * 2**20))
    table = lesson.page_cache(path, times=2)
    assert "3.0 MiB" in table.heading[0]
    assert all("s" in row[1] for row in table.rows)
    monkeypatch.delattr(lesson.os, "posix_fadvise", raising=False)
    assert lesson.page_cache(path, times=1).rows[0][1] == "n/a"


def dataset(kind, count=4, side=12):
    images = torch.randint(
        0, 256, (count, 1, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
    )
    source = data.Arrays(images, torch.arange(count))
    return kind(source, caching.Ram(images.shape, shared=False), augmentation.per_image("light", 3, 0))


def test_the_wrong_order_freezes_the_first_variant_and_the_right_one_does_not():
    right, wrong = (lesson.variants(dataset(kind), 2, 20) for kind in (loading.Samples, lesson.AugmentThenCache))
    assert len(wrong.flatten(1).unique(dim=0)) == 1
    assert len(right.flatten(1).unique(dim=0)) > 10  # of 98 that are possible
    assert right.shape == wrong.shape == (20, 1, 12, 12)


def test_the_wrong_order_is_random_across_images():
    """Otherwise it would be a fixed shift of all images, which is another mistake."""
    found = dataset(lesson.AugmentThenCache, count=1)
    images = torch.stack([found.augment(found.source.read(0), key=position) for position in range(20)])
    assert len(images.flatten(1).unique(dim=0)) > 10
    wrong = dataset(lesson.AugmentThenCache)
    gathered, labels, reads = wrong.__getitems__([3, 1])
    assert reads == 2
    assert labels.tolist() == [3, 1]
    assert torch.equal(gathered[1], wrong.augment(wrong.source.read(1), key=1))
    assert wrong.__getitems__([4 + 1, 8 + 3])[2] == 0


def test_the_figure_counts_the_different_pictures(quick):
    figure = lesson.same_picture(quick.but(augment="light", shift=3), epochs=6).figure
    titles = [part.get_suptitle() for part in figure.subfigs]
    assert titles[1] == "augment, then cache (different images in 6 epochs: 1)"
    assert int(titles[0].rstrip(")").split()[-1]) > 1
    assert len(figure.axes) == 12


def test_another_dataset_can_be_trained_on(quick):
    """The loop takes the class that it is given: every image comes back as the constant 7."""
    seen = []

    class Constant(loading.Samples):
        def __getitems__(self, keys):
            images, labels, reads = super().__getitems__(keys)
            seen.append(len(keys))
            return torch.full_like(images, 7), labels, reads

    run = fit(quick, dataset=Constant)
    assert seen == [16] * 8
    assert run.count == 8


@pytest.fixture
def fitted(monkeypatch):
    """Lets ``frozen`` get made-up runs, whose wrong order differs by ``fitted.points``; records what it trained."""

    class Fitted(list):
        points = (0.0,) * 9

        def __call__(self, recipe, *, dataset):
            wrong = dataset is lesson.AugmentThenCache
            points = self.points[len(self) // 2] if wrong else 0
            self.append((recipe.seed, dataset))
            return run_of(recipe, accuracy=0.5 + points / 100, steps=[4])

    made = Fitted()
    monkeypatch.setattr(lesson, "fit", made)
    return made


def test_frozen_pairs_the_seeds(quick, fitted):
    table = lesson.frozen(quick.but(seed=3), pairs=2, progress=False)
    assert fitted == [(seed, kind) for seed in (3, 4) for kind in (loading.Samples, lesson.AugmentThenCache)]
    assert table.rows == [["3", "50.0%", "50.0%", "+0.00 points"], ["4", "50.0%", "50.0%", "+0.00 points"]]
    assert f"{TOO_FEW}, 5 are needed" in table.caption


def test_frozen_trains_for_real(quick):
    table = lesson.frozen(quick.but(augment="light", cache="ram"), pairs=1, progress=False)
    assert all(0 <= float(value.rstrip("%")) <= 100 for value in table.rows[0][1:3])


@pytest.mark.parametrize(
    ("points", "middle", "verdict"),
    [
        ([-3, -2, -2.5, -3.5, -2], "-2.60", LOWER),
        ([3, -2, 1, -1, 0.5], "+0.30", NO_DIFFERENCE),
        ([-0.2, -0.21, -0.19, -0.2, -0.2], "-0.20", SMALL),
        ([-3, -2, -2.5, -3.5], "-2.75", f"{TOO_FEW}, 5 are needed"),
    ],
)
def test_a_difference_is_judged_by_its_interval(quick, fitted, points, middle, verdict):
    """The wrong order less the right one, by the rule that every lesson uses."""
    fitted.points = points
    caption = lesson.frozen(quick, pairs=len(points), progress=False).caption
    assert f": {middle}" in caption
    assert caption.endswith(f"Verdict: {verdict}.")


def test_a_smoke_run_carries_no_verdict(quick, fitted, monkeypatch):
    monkeypatch.setenv("SPEEDKIT_SMOKE", "1")
    fitted.points = (-3.0,) * 9
    table = lesson.frozen(quick, pairs=9, progress=False)
    assert len(table.rows) == 2
    assert f"Verdict: {TOO_FEW}" in table.caption
    assert "SPEEDKIT_SMOKE" in table.caption


def test_every_worker_fills_its_own_dictionary(quick, no_children):
    """Workers that stay alive read an image again only if the other one read it; new ones read all of them."""
    table = lesson.one_copy_per_worker(quick.but(data="sqlite", workers=2), epochs=3)
    reads = [[int(value) for value in row[1:]] for row in table.rows]
    assert reads[0] == [64, 0, 0, 64]
    assert reads[2] == [64, 64, 64, 64]
    first, second, third, held = reads[1]
    assert first == 64
    assert 0 < second < 64
    assert third < 64
    assert first + second + third == held <= 2 * 64


def test_without_workers_a_dictionary_works(quick):
    loaded = loading.drain(data.load(quick))
    with_dictionary = loading.Loader(quick, loaded, "cpu", lesson.Dictionary)
    assert lesson._reads(with_dictionary.epoch, 2) == [64, 0]
    plain = loading.Loader(quick, loaded, "cpu")
    for (one, labels, _), (other, expected, _) in zip(with_dictionary.epoch(1), plain.epoch(1), strict=True):
        assert torch.equal(one, other)
        assert torch.equal(labels, expected)
