"""The lesson on augmentation: its pictures, what it counts, and its verdicts."""

import pytest
import torch

from speedkit.comparison.metrics import LOWER, TOO_FEW
from speedkit.comparison.stats import SMALL
from speedkit.lab.picture import COMPUTING, WAITING
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


def test_the_images_are_the_first_training_images(monkeypatch):
    few = lesson.images(5)
    assert few.shape == (5, 1, 28, 28)
    assert torch.equal(few, lesson.images(50)[:5])
    monkeypatch.setenv("SPEEDKIT_SMOKE", "1")
    assert len(lesson.images(500)) == 32


@pytest.mark.parametrize("channels", [1, 3])
def test_a_sheet_is_a_picture_with_rows_of_any_length(channels):
    picture = lesson.sheet("a $caption", stored=noise(3, channels), half_turn=noise(1, channels))
    assert picture._repr_png_().startswith(b"\x89PNG")
    assert repr(picture) == "a $caption: stored, half turn"


def test_a_sheet_of_variants_begins_with_the_stored_image(monkeypatch):
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
    """PNG cannot make noise smaller, but packs a black image of 784 pixels into far less."""
    monkeypatch.setattr(lesson.tempfile, "tempdir", str(tmp_path))
    for images in (noise(10), noise(10, channels=3)):
        contents, blocks = lesson.on_disk(images)
        assert images.nbytes < contents < 1.5 * images.nbytes
        assert blocks % lesson.BLOCK == 0
    assert lesson.on_disk(torch.zeros(10, 1, 28, 28, dtype=torch.uint8))[0] < 2000
    assert list(tmp_path.iterdir()) == []


def test_ten_copies_and_the_images_are_eleven_times_the_bytes():
    images = noise(20)
    windows = BatchCropAndFlip(images[:10], shift=1).windows
    table = lesson.bytes_stored(alone=images[:10], copies=noise(110), whole_batches=windows)
    # Padded to 30 x 30, and mirrored: 2 * 900 / 784. Copied out, its windows would take nine times as much.
    assert column(table, "memory relative to the first row") == ["1.00", "11.00", f"{2 * 900 / 784:.2f}"]
    assert column(table, "PNG contents")[2] == "n/a"
    assert windows.nbytes > 9 * images[:10].nbytes


def test_a_rate_is_the_count_over_the_median(monkeypatch):
    class Readings:
        def __init__(self, *_, globals, **__):
            self.times = [globals["way"] * seconds for seconds in (0.1, 0.2, 0.4)]

        def blocked_autorange(self, min_run_time):
            return self

    monkeypatch.setattr(lesson, "Timer", Readings)
    table = lesson.images_per_s(20, one_way=1, faster=0.5, slower=4, much_slower=279)  # times that of the first
    assert column(table, "images/s, median")[:2] == ["100", "200"]
    assert column(table, "middle half of the readings")[0] == "67 to 133"  # quartiles 0.3 s and 0.15 s
    assert column(table, "time per image")[0] == "1e+04 µs"
    assert column(table, "speed relative to the first row") == ["1", "2", "0.25", "1/279"]


def test_every_way_is_really_called():
    calls = []
    lesson.images_per_s(1, min_s=0.001, way=lambda: calls.append(1))
    assert calls


def a_run(waits, computes, accuracies=((0.5, 0.4), (0.9, 0.6)), **switches):
    run = Run(Recipe(batch_size=10, subset=100, **switches))
    for wait, compute in zip(waits, computes, strict=True):
        run.step(wait_s=wait, compute_s=compute, step_s=wait + compute, t=1.0, loss=1.0)
    for train, validation in accuracies:
        run.epoch(train_accuracy=train, validation_accuracy=validation)
    return run


def test_supply_and_demand_leave_the_first_step_out():
    table = lesson.supply_and_demand(a_run([9.0, 0.3, 0.3], [9.0, 0.1, 0.1]))
    assert column(table, "loader supplies, images/s") == ["33"]
    assert column(table, "device can use, images/s") == ["100"]
    assert column(table, "waiting") == ["75.0%"]


def test_what_a_loader_supplies_is_the_hosts_time_even_if_a_gpu_never_waits():
    run = a_run([0.0, 0.0, 0.0], [0.1, 0.1, 0.1])
    for i in range(3):
        run.steps["load_s"][i] = 0.05
    run.scalars["others_share"] = 0.4
    table = lesson.supply_and_demand(run)
    assert column(table, "loader supplies, images/s") == ["200"]
    assert table.rows[0][0].endswith(" ⚠")
    assert table.warning


def test_an_unknown_figure_is_not_available():
    table = lesson.supply_and_demand(a_run([1.0], [1.0]), a_run([1.0, 0.0], [1.0, 1.0]))
    assert column(table, "loader supplies, images/s") == ["n/a", "n/a"]
    assert column(table, "waiting")[0] == "n/a"
    assert column(lesson.gap(a_run([1.0], [1.0], accuracies=())), "gap: training minus validation") == ["n/a"]


def test_the_gap_is_training_minus_validation():
    assert column(lesson.gap(a_run([1.0, 1.0], [1.0, 1.0])), "gap: training minus validation") == ["+30.0 points"]


def test_the_curves_have_two_lines_and_one_colour_per_run():
    runs = [a_run([1.0], [1.0], augment=name, batchnorm=True) for name in ("off", "light", "heavy")]
    picture = lesson.curves(*runs)
    lines = picture.figure.axes[0].lines
    assert [line.get_label() for line in lines[:2]] == ["no augmentation, training", "no augmentation, validation"]
    assert [line.get_ydata().tolist() for line in lines[:2]] == [[50, 90], [40, 60]]
    assert [line.get_linestyle() for line in lines] == ["--", "-"] * 3
    colours = [line.get_color() for line in lines]
    assert colours[::2] == colours[1::2]
    assert len(set(colours)) == 3
    assert not set(colours) & {WAITING, COMPUTING}  # on the panel they mean something else
    assert repr(picture).startswith("Training and validation accuracy by epoch: no augmentation, light augmentation")
    assert len(lesson.curves(*runs, *runs, *runs).figure.axes[0].lines) == 18


def test_runs_are_named_by_what_differs():
    """What all runs share is left out; runs with equal switches are told apart by their other settings."""
    shared = {"batchnorm": True, "cache": "ram"}
    runs = [a_run([1.0], [1.0], **shared), a_run([1.0], [1.0], augment="light", **shared)]
    assert lesson.names(runs) == ["no augmentation", "light augmentation"]
    assert lesson.names(runs[1:]) == ["light augmentation"]
    other = a_run([1.0], [1.0], augment="light", batchnorm=True, cache="device")
    assert lesson.names([*runs, other])[1:] == ["light augmentation + ram cache", "light augmentation + device cache"]
    longer = a_run([1.0], [1.0], epochs=9, **shared)
    assert lesson.names([*runs, longer])[2] == "no augmentation, epochs 9"


def test_your_own_transform_takes_the_place_of_the_kits(quick):
    """The kit's own transform, passed by hand, gives the same run as the switch."""
    own = lesson.train_with(CropAndFlip(quick.shift, quick.seed), quick)
    assert own.column("loss").tolist() == fit(quick.but(augment="light")).column("loss").tolist()
    plain = lesson.train_with(None, quick.but(augment="light"))
    assert plain.column("loss").tolist() == fit(quick).column("loss").tolist() != own.column("loss").tolist()


@pytest.mark.parametrize("change", [{"cache": "device"}, {"workers": 1}])
def test_a_transform_that_would_not_be_used_is_refused(quick, change):
    with pytest.raises(ValueError, match="cannot be used with a transform of your own"):
        lesson.train_with(lambda image, key: image, quick.but(**change))


def test_harm_compares_equal_seeds_and_finds_what_leaves_no_label(quick):
    """A network trained on black images cannot tell the classes apart; an idle transform makes no difference."""
    recipe = quick.but(epochs=10, batchnorm=True, learning_rate=0.1)
    table = lesson.harm(recipe, same=lambda image, key: image, black=lambda image, key: image * 0)
    assert column(table, "transform") == ["no transform", "same", "black"]
    plain, same, _ = (cell.split(", ") for cell in column(table, "validation accuracy per seed"))
    assert plain == same
    assert len(set(plain)) > 1  # the seeds differ
    assert column(table, "points compared with no transform")[:2] == ["", "+0.00 (+0.00 to +0.00)"]
    assert column(table, "verdict") == ["", SMALL, LOWER]


def test_fewer_than_five_seeds_get_no_verdict(quick):
    table = lesson.harm(quick, seeds=4, black=lambda image, key: image * 0)
    assert column(table, "verdict") == ["", TOO_FEW]


def test_in_smoke_mode_no_figure_means_anything(quick, monkeypatch):
    monkeypatch.setenv("SPEEDKIT_SMOKE", "1")
    run = a_run([1.0, 1.0], [1.0, 1.0])
    harm = lesson.harm(quick, same=lambda image, key: image)
    for table in (lesson.gap(run), lesson.supply_and_demand(run), lesson.images_per_s(1, way=int), harm):
        assert lesson.CUT in table.caption
    assert column(harm, "points compared with no transform") == ["", "+0.00"]
    assert column(harm, "verdict") == ["", TOO_FEW]
