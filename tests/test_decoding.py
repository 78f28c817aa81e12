"""From a picture file to pixels: every mode keeps what it shows, and a note says what was done."""

import io
import struct
import warnings
import zlib
from collections import Counter

import numpy as np
import pytest
import torch
from conftest import run_through
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageCms

from speedkit.recipe import Recipe
from speedkit.tasks import decoding
from speedkit.tasks import images as data

GRADIENT = np.linspace(0, 1, 64).reshape(8, 8)


def pixels(image, kind="TIFF", **options):
    """What the kit makes of a picture that is written to a file and read back: uint8 [8, 8, 3]."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    file.seek(0)
    side = min(image.size)
    return decoding.decoded(file, side).permute(1, 2, 0).numpy()


def grey(image, kind="TIFF", **options):
    found = pixels(image, kind, **options)
    assert (found == found[..., :1]).all()
    return found[..., 0]


# Levels


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("kind", ["TIFF", "PNG"])
def test_grey_levels_of_more_than_8_bits_keep_their_order_and_range(bits, kind):
    values = (GRADIENT * (2**bits - 1)).round().astype(np.uint16)
    expected = (GRADIENT * 255).round()
    assert np.abs(grey(Image.fromarray(values), kind).astype(int) - expected).max() <= 1


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (GRADIENT.astype(np.float32), GRADIENT * 255),
        ((GRADIENT * 255).astype(np.float32), GRADIENT * 255),
        ((GRADIENT * 65535).astype(np.float32), GRADIENT * 255),
        ((GRADIENT * 2 - 1).astype(np.float32), GRADIENT * 255),
        ((GRADIENT * 4000 - 1000).astype(np.int32), GRADIENT * 255),  # a CT scan
        ((GRADIENT * (2**31 - 1)).astype(np.int32), GRADIENT * 127.5),
        ((GRADIENT * 70_000).astype(np.int32), GRADIENT * 70_000 / (2**24 - 1) * 255),
        ((GRADIENT * 1e-5).astype(np.float32), GRADIENT * 255),
        (np.where(GRADIENT > 0.5, 1, 0).astype(np.int32), np.where(GRADIENT > 0.5, 255, 0)),  # a mask
        (np.where(GRADIENT > 0.5, np.nan, GRADIENT).astype(np.float32), np.where(GRADIENT > 0.5, 0, GRADIENT * 255)),
        (np.full((8, 8), 40_000, np.uint16), np.full((8, 8), 155.6)),
        (np.zeros((8, 8), np.uint16), np.zeros((8, 8))),
        (np.zeros((8, 8), np.float32), np.zeros((8, 8))),
    ],
)
def test_whole_and_floating_point_levels_are_scaled_by_their_range(values, expected):
    assert np.abs(grey(Image.fromarray(values)).astype(int) - expected).max() <= 1


@pytest.mark.parametrize("dtype", ["<u2", ">u2"])
def test_both_orders_of_bytes(dtype):
    values = (GRADIENT * 65535).astype(dtype)
    mode = "I;16" if dtype == "<u2" else "I;16B"
    image = Image.frombytes(mode, (8, 8), values.tobytes())
    found = decoding.squared(image, 8)[0].numpy()
    assert np.abs(found.astype(int) - GRADIENT * 255).max() <= 1


def test_all_pictures_of_a_set_have_one_range(tmp_path):
    """A dark picture does not become as bright as a bright one."""
    for i in range(12):
        folder = tmp_path / ("dark", "bright")[i % 2]
        folder.mkdir(exist_ok=True)
        level = 3000 if i % 2 == 0 else 60_000
        Image.fromarray(np.full((8, 8), level, np.uint16)).save(folder / f"{i}.png")
    recipe = Recipe(data=f"folder:{tmp_path}", image_size=8, batch_size=2)
    found = run_through(data.load(recipe))[1]
    names = {found.classes[label] for label in found.train.labels.tolist()}
    assert names == {"dark", "bright"}
    for position, label in enumerate(found.train.labels.tolist()):
        expected = 3000 / 257 if found.classes[label] == "dark" else 60_000 / 257
        assert found.train.read(position).float().mean().item() == pytest.approx(expected, abs=1)
    assert "10 scaled to 256 levels" in found.notes[1] or "scaled to 256 levels" in found.notes[1]


@given(st.lists(st.integers(0, 65535), min_size=64, max_size=64))
def test_a_brighter_16_bit_level_is_never_darker(levels):
    values = np.array(levels, np.uint16).reshape(8, 8)
    found = decoding.squared(Image.fromarray(values), 8)[0].numpy()
    order = np.argsort(values.ravel(), kind="stable")
    assert (np.diff(found.ravel()[order].astype(int)) >= 0).all()
    if values.max() > 0:
        assert found.max() >= 63  # at least a quarter of the range is used


# Colours


def test_one_bit_palettes_and_print_colours():
    bilevel = Image.fromarray(((GRADIENT > 0.5) * 255).astype(np.uint8)).convert("1")
    assert (grey(bilevel, "PNG") == (GRADIENT > 0.5) * 255).all()
    palette = Image.new("P", (8, 8), 1)
    palette.putpalette([0, 0, 0, 10, 200, 30])
    assert (pixels(palette, "PNG") == (10, 200, 30)).all()
    assert (pixels(Image.new("CMYK", (8, 8), (0, 255, 255, 0))) == (255, 0, 0)).all()
    hsv = Image.new("RGB", (8, 8), (20, 200, 90)).convert("HSV")
    assert np.abs(decoding.squared(hsv, 8).numpy()[:, 0, 0] - np.array([20.0, 200, 90])).max() <= 3
    ycbcr = Image.new("RGB", (8, 8), (20, 200, 90)).convert("YCbCr")
    assert np.abs(pixels(ycbcr) - np.array([20.0, 200, 90])).max() <= 3


MODES = ["1", "L", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "HSV", "I", "F"]
MODES += ["LA", "PA", "RGBX", "RGBa", "La", "I;16", "I;16L", "I;16B", "I;16N"]


@pytest.mark.parametrize("mode", MODES)
def test_there_is_no_mode_that_fails_or_warns(mode):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert decoding.squared(Image.new(mode, (8, 8)), 8).shape == (3, 8, 8)


def test_lab_colours():
    red = Image.new("RGB", (8, 8), (220, 30, 40))
    lab = ImageCms.profileToProfile(
        red, ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
    )
    assert np.abs(decoding.squared(lab, 8).numpy()[:, 0, 0] - np.array([220.0, 30, 40])).max() <= 4


# Transparency


def icon(colour, mode="RGBA"):
    """A square of one colour in the middle of nothing."""
    image = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    image.paste((*colour, 255), (2, 2, 6, 6))
    return image.convert(mode)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "P"])
@pytest.mark.parametrize("level", [0, 40, 128, 200, 255])
def test_a_transparent_picture_stands_out_from_its_ground(mode, level):
    image = icon((level, level, level))
    if mode == "P":  # as GIFs have it
        image = image.quantize(4)
        found = pixels(image, "PNG").astype(int)
    else:
        found = decoding.squared(image.convert(mode), 8).permute(1, 2, 0).numpy().astype(int)
    assert abs(found[4, 4, 0] - level) <= 8
    assert abs(found[4, 4, 0] - found[0, 0, 0]) > 60


def test_black_and_white_on_nothing_both_show():
    image = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    image.paste((0, 0, 0, 255), (1, 1, 4, 7))
    image.paste((255, 255, 255, 255), (4, 1, 7, 7))
    found = pixels(image, "PNG")[..., 0].astype(int)
    assert len({found[0, 0], found[3, 3], found[3, 5]}) == 3


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_transparent_colour_of_a_png_without_alpha(mode):
    image = Image.new(mode, (8, 8), 0)
    image.paste(30 if mode == "L" else (30, 30, 30), (2, 2, 6, 6))
    found = pixels(image, "PNG", transparency=0 if mode == "L" else (0, 0, 0))
    assert abs(int(found[4, 4, 0]) - int(found[0, 0, 0])) > 60


def test_what_is_opaque_or_nowhere_visible_keeps_its_colours():
    for alpha in (255, 0):
        image = Image.new("RGBA", (8, 8), (10, 20, 30, alpha))
        assert (pixels(image, "PNG") == (10, 20, 30)).all()


def test_half_transparent_pixels_mix_with_the_ground():
    image = Image.new("RGBA", (8, 8), (0, 0, 0, 255))
    image.paste((0, 0, 0, 128), (0, 0, 8, 4))
    assert abs(int(pixels(image, "PNG")[0, 0, 0]) - 127) <= 1  # on white


# Orientation


def with_orientation(number, kind="JPEG", mode="RGB", **options):
    """A picture, 16 x 8, as a camera stores it, and as a viewer shows it."""
    pixels = np.zeros((8, 16, 3), np.uint8)
    pixels[:4, 4:8], pixels[4:, 4:8], pixels[:4, 8:12], pixels[4:, 8:12] = 250, 170, 90, 10
    stored = Image.fromarray(pixels).convert(mode)
    exif = Image.Exif()
    exif[decoding.ORIENTATION] = number
    file = io.BytesIO()
    stored.save(file, kind, exif=exif, **options)
    return file, stored.transpose(decoding.TURNS[number]) if number in decoding.TURNS else stored


@pytest.mark.parametrize("number", range(1, 9))
@pytest.mark.parametrize(
    ("kind", "options"),
    [("JPEG", {"quality": 100, "subsampling": 0}), ("PNG", {}), ("WEBP", {"lossless": True}), ("TIFF", {})],
)
def test_pictures_are_turned_upright(number, kind, options):
    file, upright = with_orientation(number, kind, **options)
    expected = decoding.squared(upright.convert("RGB"), 8)
    assert (decoding.decoded(file, 8).int() - expected.int()).abs().max() <= 6


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1", "LA"])
def test_pictures_of_every_mode_are_turned(mode):
    file, upright = with_orientation(6, "PNG", mode)
    assert torch.equal(decoding.decoded(file, 8), decoding.squared(upright, 8))


def test_16_bit_pictures_are_turned():
    values = (np.arange(128).reshape(8, 16) * 500).astype(np.uint16)
    exif = Image.Exif()
    exif[decoding.ORIENTATION] = 6
    file = io.BytesIO()
    Image.fromarray(values).save(file, "PNG", exif=exif)
    assert torch.equal(decoding.decoded(file, 8), decoding.squared(Image.fromarray(np.rot90(values, -1).copy()), 8))


@pytest.mark.parametrize("number", [0, 9, 255])
def test_an_orientation_that_does_not_exist_is_none(number):
    file, _ = with_orientation(number)
    assert decoding.decoded(file, 8).shape == (3, 8, 8)


@pytest.mark.parametrize("exif", [b"Exif\x00\x00nonsense", b"Exif\x00\x00MM\x00*\x00\x00\x00\xff", b"Exif\x00\x00"])
def test_a_damaged_exif_does_not_spoil_the_picture(exif):
    file = io.BytesIO()
    Image.new("RGB", (8, 8), (200, 10, 10)).save(file, "JPEG", exif=exif)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert decoding.decoded(file, 8)[0].float().mean() > 150


# Several frames


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "WEBP", "PNG"])
def test_the_first_of_several_frames_is_used_and_that_is_counted(kind):
    file, done = io.BytesIO(), Counter()
    frames = [Image.new("RGB", (8, 8), colour) for colour in ((250, 0, 0), (0, 250, 0), (0, 0, 250))]
    frames[0].save(
        file, kind, save_all=True, append_images=frames[1:], **({"lossless": True} if kind == "WEBP" else {})
    )
    found = decoding.decoded(file, 8, done=done)
    assert found[:, 4, 4].tolist() == [250, 0, 0]
    assert done["frames"] == 1


# What is said


def test_a_note_says_what_was_done_and_to_how_many(tmp_path):
    def save(i, image, **options):
        folder = tmp_path / ("a", "b")[i % 2]
        folder.mkdir(exist_ok=True)
        image.save(folder / f"{i:02d}.{'jpg' if 'exif' in options else 'png'}", **options)

    exif = Image.Exif()
    exif[decoding.ORIENTATION] = 6
    for i in range(30):
        if i < 10:
            save(i, Image.new("RGB", (8, 8)))
        elif i < 16:
            save(i, Image.new("RGB", (8, 8)), exif=exif)
        elif i < 21:
            save(i, Image.fromarray(np.full((8, 8), 3000, np.uint16)))
        else:
            save(i, icon((200, 0, 0)))
    found = run_through(data.load(Recipe(data=f"folder:{tmp_path}", image_size=8, batch_size=2)))[1]
    _, words = found.notes
    # Read before the first step: three to validate, and 24 to train.
    seen = [*found.train.paths]
    count = {"turned": 0, "scaled": 0, "ground": 0}
    held = data.split(30)[:3].tolist()
    order = sorted(tmp_path.glob("a/*")) + sorted(tmp_path.glob("b/*"))
    for path in [*seen, *(str(order[i]) for i in held)]:
        number = int(path[-6:-4])
        count["turned"] += 10 <= number < 16
        count["scaled"] += 16 <= number < 21
        count["ground"] += number >= 21
    assert words == (
        f"Of the first 27 pictures: {count['turned']} turned upright (EXIF); {count['scaled']} scaled to 256 levels; "
        f"{count['ground']} transparent, now on a plain ground."
    )


def test_nothing_is_said_of_plain_pictures(tmp_path):
    for i in range(12):
        (tmp_path / "ab"[i % 2]).mkdir(exist_ok=True)
        Image.new(("RGB", "L", "RGBA", "P", "1", "CMYK")[i % 6], (8, 8)).save(
            tmp_path / "ab"[i % 2] / f"{i}.{'tif' if i % 6 == 5 else 'png'}"
        )
    found = run_through(data.load(Recipe(data=f"folder:{tmp_path}", image_size=8, batch_size=2)))[1]
    assert found.notes == ("12 pictures in 2 classes (a, b).",)


def png_with(chunk, content):
    """A PNG with a chunk of its own after the header."""
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "PNG")
    body = chunk + content
    extra = struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))
    return file.getvalue()[:33] + extra + file.getvalue()[33:]


def test_harmless_chunks_are_read_over():
    assert decoding.decoded(io.BytesIO(png_with(b"teXt", b"x" * 10)), 8).shape == (3, 8, 8)
