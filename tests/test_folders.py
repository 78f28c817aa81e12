"""What is taken of a folder of pictures: said before training, or refused with the folder that was probably meant."""

import os
import re

import numpy as np
import pytest
from conftest import run_through
from PIL import Image

from speedkit.lab.panel import Panel
from speedkit.recipe import Recipe
from speedkit.support.errors import DataError
from speedkit.tasks import folders
from speedkit.tasks import images as data
from speedkit.train import fit

CLASSES = ("circle", "square")


def fill(folder, classes=CLASSES, count=6, ext="png"):
    """``count`` pictures in each class folder, each of another grey."""
    for kind, name in enumerate(classes):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            Image.new("L", (8, 8), 100 * kind + 10 * i).save(folder / name / f"{i:02d}.{ext}")
    return folder


def recipe_for(folder):
    return Recipe(data=f"folder:{folder}", image_size=8, batch_size=2, epochs=1, model="mlp", device="cpu")


def loaded(folder):
    return run_through(data.load(recipe_for(folder)))[1]


def refusal(folder):
    with pytest.raises(DataError) as refused:
        loaded(folder)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def used(found):
    return sorted(found.train.paths + found.test.paths)


# What was taken


def test_the_classes_the_pictures_and_what_is_left_out_are_said(tmp_path):
    fill(tmp_path, count=60)
    for i, name in enumerate([*tmp_path.glob("circle/0*.png"), *tmp_path.glob("square/0*.png")]):
        name.rename(name.with_suffix((".heic", ".HEIC", ".svg")[i % 3]))
    assert loaded(tmp_path).notes[0] == ("100 pictures in 2 classes (circle, square); 20 files left out (.heic, .svg).")


@pytest.mark.parametrize("name", ["labels.csv", "circle/notes.txt", "README", "circle/photo.jpg_large", "square/a.mp4"])
def test_whatever_is_no_picture_is_counted(tmp_path, name):
    fill(tmp_path)
    (tmp_path / name).write_bytes(b"x")
    kind = os.path.splitext(name)[1] or "without extension"
    assert loaded(tmp_path).notes[0] == f"12 pictures in 2 classes (circle, square); 1 file left out ({kind})."


def test_the_note_is_in_the_run_the_terminal_and_the_panel_before_the_first_step(tmp_path):
    fill(tmp_path, count=20)
    (tmp_path / "circle" / "x.heic").touch()
    note = "40 pictures in 2 classes (circle, square); 1 file left out (.heic)."
    panel = Panel(recipe_for(tmp_path))
    run = panel.run()
    assert run.notes[-1] == note or note in run.notes
    assert note in repr(run)
    assert note in panel.where.value
    assert note in fit(recipe_for(tmp_path)).notes


@pytest.mark.parametrize("ext", ["jfif", "jpeg", "webp", "tif", "bmp", "gif", "ppm", "jp2", "tga", "pcx", "dib", "jpe"])
def test_every_extension_that_pillow_opens_is_used(tmp_path, ext):
    fill(tmp_path)
    kind = {"jfif": "JPEG", "jpe": "JPEG"}.get(ext)
    for i in range(3):
        Image.new("RGB", (8, 8), (i, 9, 9)).save(tmp_path / "circle" / f"new{i}.{ext.upper()}", kind or None)
    assert loaded(tmp_path).notes == ("15 pictures in 2 classes (circle, square).",)


def test_formats_that_pillow_only_recognises_are_left_out(tmp_path):
    fill(tmp_path)
    for name in ("a.h5", "b.eps", "c.mpg", "d.pdf", "e.wmf", "f.grib"):
        (tmp_path / "circle" / name).touch()
    assert "6 files left out" in loaded(tmp_path).notes[0]


HIDDEN = (
    "circle/._00.png",
    "circle/.DS_Store",
    "square/Thumbs.db",
    "square/desktop.ini",
    "._circle/00.png",
    "__MACOSX/circle/._00.png",
    "__MACOSX/00.png",
    "@eaDir/00.png",
    "circle/@eaDir/00.png/SYNOPHOTO_THUMB_M.jpg",
    ".ipynb_checkpoints/00-checkpoint.png",
    "circle/.ipynb_checkpoints/00-checkpoint.png",
    ".git/00.png",
    "$RECYCLE.BIN/00.png",
    ".Trash-1000/files/00.png",
)


@pytest.mark.parametrize("name", HIDDEN)
def test_hidden_and_system_files_are_neither_used_nor_mentioned(tmp_path, name):
    plain = loaded(fill(tmp_path))
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_bytes(b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X        ")
    found = loaded(tmp_path)
    assert found.train.paths == plain.train.paths
    assert found.notes == plain.notes == ("12 pictures in 2 classes (circle, square).",)


def test_a_hidden_folder_that_was_named_is_used(tmp_path):
    assert len(loaded(fill(tmp_path / ".cache" / "@eaDir")).classes) == 2


def test_pictures_in_folders_below_a_class_count_for_it(tmp_path):
    fill(tmp_path)
    fill(tmp_path / "circle" / "more", classes=("red", "blue"), count=2)
    found = loaded(tmp_path)
    assert found.notes == ("16 pictures in 2 classes (circle, square).",)
    assert found.classes == CLASSES


@pytest.mark.parametrize("names", [("bird",), ("bird", "ant"), ("bird/below",)], ids=str)
def test_empty_class_folders_are_refused_by_name(tmp_path, names):
    fill(tmp_path)
    for name in names:
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "bird" / ".DS_Store").touch()
    told = ", ".join(sorted({name.partition("/")[0] for name in names}))
    assert refusal(tmp_path) == f"{tmp_path} has empty class folders ({told}): fill or remove them."


def test_folders_without_a_picture_and_pictures_in_no_class_are_said(tmp_path):
    fill(tmp_path)
    for name in ("triangle/a.xml", "star/a.heic"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    Image.new("L", (8, 8)).save(tmp_path / "loose.png")
    assert loaded(tmp_path).notes == (
        "12 pictures in 2 classes (circle, square); 2 files left out (.heic, .xml).",
        "1 picture was left out because it is in no class folder (" + str(tmp_path / "loose.png") + ").",
        "2 folders were left out because there is no picture in them (star, triangle).",
    )
    assert loaded(tmp_path).classes == CLASSES


def test_many_classes_are_counted_and_only_some_are_named(tmp_path):
    fill(tmp_path, classes=[f"k{i:03d}" for i in range(30)], count=1)
    assert loaded(tmp_path).notes[0] == "30 pictures in 30 classes (k000, k001, k002, k003, k004, k005, k006, ...)."


@pytest.mark.parametrize("name", ["a\nb", "a\tb", "{n}", "%s", "<b>", "日本", "\u202eabc", "a\udcffb"])
def test_names_with_odd_characters_stay_on_one_line(tmp_path, name):
    note = loaded(fill(tmp_path, classes=("circle", name))).notes[0]
    assert note.isprintable()
    assert note.startswith("12 pictures in 2 classes (")
    assert name in note or repr(name) in note


# Links, and what is no ordinary file


def test_links_are_followed_but_not_in_circles(tmp_path):
    fill(tmp_path / "real")
    folder = tmp_path / "linked"
    folder.mkdir()
    for name in CLASSES:
        (folder / name).symlink_to(tmp_path / "real" / name)
    (tmp_path / "real" / "circle" / "again").symlink_to(tmp_path / "real" / "circle")
    (tmp_path / "real" / "circle" / "itself").symlink_to(tmp_path / "real" / "circle" / "itself")
    assert loaded(folder).notes == ("12 pictures in 2 classes (circle, square); 1 file left out (broken links).",)


def test_broken_links_and_pipes_are_left_out(tmp_path):
    fill(tmp_path)
    (tmp_path / "circle" / "gone.png").symlink_to(tmp_path / "nothing.png")
    os.mkfifo(tmp_path / "circle" / "pipe.png")  # opening it would wait forever
    assert loaded(tmp_path).notes == (
        "12 pictures in 2 classes (circle, square); 2 files left out (broken links, no ordinary files).",
    )


@pytest.mark.parametrize("place", [".", "circle", "circle/more"])
def test_a_folder_that_may_not_be_read_is_named(tmp_path, monkeypatch, place):
    fill(tmp_path)
    (tmp_path / "circle" / "more").mkdir()
    scandir = os.scandir

    def denied(path):  # the tests may run as root, who may read everything
        if os.path.abspath(path) == str((tmp_path / place).resolve()):
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return scandir(path)

    monkeypatch.setattr(folders.os, "scandir", denied)
    words = refusal(tmp_path)
    assert f"The folder {(tmp_path / place).resolve()} cannot be read (Permission denied)" in words


# What is refused


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("missing", "it does not exist"),
        ("file", "it is a file"),
        ("zip", "it is an archive: unpack it"),
        ("empty", "there are no pictures in it"),
        ("texts", "there are no pictures that Pillow can read in it, only .heic, .txt"),
        ("loose", "its pictures are in no class folder"),
        ("one class", "it has only one class (cat)"),
        ("one class and an empty one", "it has only one class (cat)"),
    ],
)
def test_what_is_no_folder_of_classes_is_refused_in_one_sentence(tmp_path, kind, words):
    folder = tmp_path / ("own.zip" if kind == "zip" else "own")
    if kind in ("file", "zip"):
        folder.touch()
    elif kind != "missing":
        folder.mkdir()
    if kind == "texts":
        (folder / "cat").mkdir()
        (folder / "cat" / "a.txt").touch()
        (folder / "cat" / "b.heic").touch()
    if kind == "loose":
        Image.new("L", (8, 8)).save(folder / "a.png")
    if kind.startswith("one class"):
        fill(folder, classes=("cat",))
    if kind.endswith("empty one"):
        (folder / "dog").mkdir()
    assert refusal(folder) == f"{folder} is not a folder of class folders with pictures: {words}."


@pytest.mark.parametrize(
    ("made", "named", "meant"),
    [
        ("archive/pictures", "archive", "archive/pictures"),  # one too high, as after unpacking
        ("archive/a/b/c", "archive", "archive/a/b/c"),
        ("archive/set/train", "archive", "archive/set/train"),
        ("archive/pictures", "archive/pictures/circle", "archive/pictures"),  # one too low
    ],
)
def test_one_class_names_the_folder_that_was_meant(tmp_path, made, named, meant):
    fill(tmp_path / made)
    (tmp_path / "archive" / "annotations").mkdir()
    assert refusal(tmp_path / named).endswith(f" Did you mean folder:{tmp_path / meant}?")


@pytest.mark.parametrize(
    "parts",
    [
        ("train", "test"),
        ("Training", "Testing"),
        ("TRAIN", "VAL", "TEST"),
        ("training_set", "test_set"),
        ("seg_train", "seg_test"),
        ("train2017", "val2017"),
        ("valid", "train"),
        ("validation", "train-data"),
        ("trainset", "testset"),
    ],
)
@pytest.mark.parametrize("nested", [True, False], ids=["with classes inside", "with pictures inside"])
def test_the_parts_of_a_split_are_no_classes(tmp_path, parts, nested):
    for part in parts:
        fill(tmp_path / part) if nested else fill(tmp_path, classes=(part,))
    words = refusal(tmp_path)
    assert "are called like the parts of a split" in words
    training = next(part for part in parts if "train" in part.lower())
    assert words.endswith(f"Did you mean folder:{tmp_path / training}?") == nested


@pytest.mark.parametrize("name", ["train", "test", "val"])
def test_one_part_beside_a_class_is_refused_too(tmp_path, name):
    fill(tmp_path, classes=("circle",))
    fill(tmp_path / name)
    assert re.search(rf"\b{name} .*called like", refusal(tmp_path))


@pytest.mark.parametrize(
    "classes",
    [
        ("bus", "car", "train"),
        ("train station", "harbour"),
        ("valid", "invalid"),
        ("trainers", "boots"),
        ("contest", "protest"),
        ("value", "interval"),
        ("images", "pictures"),
        ("0", "1"),
    ],
)
def test_classes_that_only_sound_like_parts_are_classes(tmp_path, classes):
    assert loaded(fill(tmp_path, classes=classes)).classes == tuple(sorted(classes))


def test_two_pictures_are_too_few(tmp_path):
    assert "holds 2 pictures" in refusal(fill(tmp_path, count=1))


def test_the_split_is_that_of_torchvisions_order(tmp_path):
    """The pictures of earlier versions stay in the parts that they were in."""
    from torchvision.datasets import ImageFolder

    fill(tmp_path, classes=("b", "A", "c"), count=9)
    theirs = ImageFolder(tmp_path)
    order = data.split(len(theirs.samples)).tolist()
    ours = loaded(tmp_path)
    held = len(order) // 10
    assert ours.classes == tuple(theirs.classes)
    assert ours.train.paths == [theirs.samples[i][0] for i in order[2 * held :]]
    assert ours.test.paths == [theirs.samples[i][0] for i in order[held : 2 * held]]
    assert ours.train.labels.tolist() == [theirs.targets[i] for i in order[2 * held :]]
    assert np.array_equal(ours.validation[1], [theirs.targets[i] for i in order[:held]])
