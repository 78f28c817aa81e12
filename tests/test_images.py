"""Where images come from: complete, checked, always split the same way, and made only once."""

import hashlib
import os
import re
import shutil
import socket
import sqlite3
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import run_through
from PIL import Image
from torchvision import datasets

from speedkit import loading
from speedkit.recipe import Recipe
from speedkit.support import settings
from speedkit.support.errors import DataError
from speedkit.tasks import Progress
from speedkit.tasks import images as data
from speedkit.tasks import pictures as pictures_module
from speedkit.tasks.data import correct
from speedkit.train import fit

SHIPPED = settings.REPOSITORY / "data"


def loaded(recipe):
    return run_through(data.load(recipe))[1]


# Fashion-MNIST


@pytest.mark.parametrize("name", data.FILES.values())
def test_the_shipped_files_have_the_sums_that_the_list_holds(name):
    digest = hashlib.sha256((SHIPPED / name).read_bytes()).hexdigest()
    assert f"{digest}  {name}" in (SHIPPED / "SHA256SUMS").read_text().splitlines()


def test_the_content_is_fashion_mnist():
    """Against well-known numbers: mean and standard deviation of its pixels, and an ankle boot first."""
    images, labels = data.fashion_mnist("train")
    assert images.float().mean().item() / 255 == pytest.approx(0.2860, abs=5e-5)
    assert images.float().std().item() / 255 == pytest.approx(0.3530, abs=5e-5)
    assert data.CLASSES[labels[0]] == "Ankle boot"
    assert data.CLASSES[data.fashion_mnist("test")[1][0]] == "Ankle boot"


@pytest.mark.parametrize(("part", "count"), [("train", 60_000), ("test", 10_000)])
def test_images_and_labels_are_all_there(part, count):
    images, labels = data.fashion_mnist(part)
    assert (images.shape, images.dtype) == ((count, 1, 28, 28), torch.uint8)
    assert labels.dtype == torch.int64
    assert labels.bincount().tolist() == [count // 10] * 10
    assert len(data.CLASSES) == 10


@pytest.fixture
def copied(monkeypatch, tmp_path):
    """A copy of the shipped files that may be damaged."""
    for name in (*data.FILES.values(), "SHA256SUMS"):
        shutil.copy(SHIPPED / name, tmp_path / name)
    monkeypatch.setenv("SPEEDKIT_DATA", str(tmp_path))
    return tmp_path


def missing(path):
    path.unlink()


def emptied(path):
    path.write_bytes(b"")


def truncated(path):
    path.write_bytes(path.read_bytes()[:-1])


def one_bit_flipped(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def a_folder(path):
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("harm", [missing, emptied, truncated, one_bit_flipped, a_folder])
@pytest.mark.parametrize(("part", "what"), [("test", "images"), ("test", "labels")])
def test_a_damaged_file_is_named_with_the_way_back(copied, harm, part, what):
    name = data.FILES[part, what]
    harm(copied / name)
    with pytest.raises(DataError, match="git checkout -- data") as refusal:
        data.fashion_mnist(part)
    assert str(copied / name) in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("harm", [missing, emptied, truncated, one_bit_flipped])
def test_a_damaged_list_of_sums_is_one_sentence_too(copied, harm):
    harm(copied / "SHA256SUMS")
    if harm is truncated:
        (copied / "SHA256SUMS").write_text((copied / "SHA256SUMS").read_text()[:30])
    with pytest.raises(DataError, match=r"SHA256SUMS.*git checkout -- data"):
        [data.fashion_mnist(part) for part in ("train", "test")]


def test_the_split_is_55000_and_5000_disjoint_and_always_the_same():
    order = data.split(60_000)
    assert sorted(order.tolist()) == list(range(60_000))
    assert torch.equal(order, data.split(60_000))
    whole, part = loaded(Recipe()), loaded(Recipe(subset=300, seed=9))
    images, labels = data.fashion_mnist("train")
    assert whole.train.images.shape == (55_000, 1, 28, 28)
    assert whole.validation[0].shape == (5_000, 1, 28, 28)
    assert torch.equal(whole.train.images, images[order[:55_000]])
    assert torch.equal(whole.validation[0], images[order[55_000:]])
    assert torch.equal(whole.validation[1], labels[order[55_000:]])
    assert torch.equal(part.train.images, whole.train.images[:300])
    assert torch.equal(part.validation[0], whole.validation[0])
    assert whole.validation[1].bincount().min() > 400  # of about 500 per class


def test_the_probe_holds_training_images_and_gives_mean_and_deviation(quick):
    found = loaded(quick)
    assert torch.equal(found.probe[0], found.train.images[:32])
    assert torch.equal(found.probe[1], found.train.labels[:32])
    pixels = found.probe[0].numpy().astype(float)
    normalise = data.network(quick, found.shape, 10, found.probe[0])[0]
    assert normalise.mean.item() == pytest.approx(pixels.mean(), rel=1e-4)
    assert 1 / normalise.scale.item() == pytest.approx(pixels.std(), rel=1e-3)
    assert found.shape == (1, 28, 28)


def test_the_test_set_is_its_own(quick):
    images, labels = run_through(loaded(quick).read_test())[1]
    assert torch.equal(images, data.fashion_mnist("test")[0])
    assert torch.equal(labels, data.fashion_mnist("test")[1])


@pytest.mark.parametrize("source", ["fashion-mnist", "jpeg", "sqlite", "folder"])
@pytest.mark.parametrize("size", [8, 33, None])
def test_every_part_has_the_size_that_was_asked_for(quick, pictures, source, size):
    recipe = quick.but(data=f"folder:{pictures}" if source == "folder" else source, image_size=size, subset=20)
    found = loaded(recipe)
    channels = 1 if source == "fashion-mnist" else 3
    side = size or (28 if source == "fashion-mnist" else pictures_module.FILE_SIZE)
    assert found.shape == found.train.read(0).shape == found.validation[0].shape[1:] == (channels, side, side)
    assert run_through(found.read_test())[1][0].shape[1:] == (channels, side, side)
    assert found.train.read(0).dtype == found.validation[0].dtype == torch.uint8
    assert torch.equal(found.train.read(3), found.probe[0][3])


def test_a_resized_image_is_the_same_alone_and_among_many():
    images = torch.randint(0, 256, (600, 1, 28, 28), dtype=torch.uint8)
    source = data.Arrays(images, torch.zeros(600), 37)
    for position in (0, 499, 500, 599):
        assert torch.equal(source.all()[position], source.read(position))


def test_resizing_keeps_brightness():
    images = torch.full((2, 1, 28, 28), 131, dtype=torch.uint8)
    for size in (10, 50):
        assert data.Arrays(images, torch.zeros(2), size).all().unique().tolist() == [131]


def test_fewer_images_than_a_batch_are_refused(quick, pictures):
    with pytest.raises(DataError, match="32 training samples, fewer than batch_size=33"):
        loaded(Recipe(data=f"folder:{pictures}", batch_size=33))


# Generated sets


def left_in(folder):
    """The sets in a folder, without the digest of the images that they were made of."""
    names = [path.name for path in folder.iterdir() if path.name != "cache"] if folder.exists() else []
    return sorted(re.sub(r"(?<=\d)-[0-9a-f]{8}(?=\.|$)", "", name) for name in names)


def the(folder, pattern):
    (found,) = folder.glob(pattern)
    return found


@pytest.mark.parametrize("kind", ["jpeg", "sqlite"])
def test_a_generated_set_is_made_once_with_progress(quick, generated, kind):
    recipe = quick.but(data=kind)
    seen, found = run_through(data.load(recipe))
    assert all(isinstance(record, Progress) and 0 <= record.done < record.total for record in seen)
    assert any("once" in record.what for record in seen)
    name = "jpeg-32-164" if kind == "jpeg" else "sqlite-32-164.sqlite"  # 64 to train, all 100 to validate
    assert left_in(generated) == [name]
    assert len(found.train.labels) == 64
    assert len(found.validation[1]) == 100
    made = the(generated, f"{kind}-*")
    changed = made.stat().st_mtime_ns
    seen, again = run_through(data.load(recipe))
    assert not any("once" in record.what for record in seen)
    assert made.stat().st_mtime_ns == changed
    assert torch.equal(found.validation[0], again.validation[0])


def test_files_and_database_hold_the_same_pictures_with_the_right_labels(quick):
    files, database = loaded(quick.but(data="jpeg")), loaded(quick.but(data="sqlite"))
    plain = loaded(quick)
    for found in (files, database):
        assert torch.equal(found.train.labels, plain.train.labels)
        assert torch.equal(found.validation[1], plain.validation[1])
    originals = plain.train.all().flatten(1).float()
    for position in (0, 31, 63):
        picture = files.train.read(position)
        assert torch.equal(picture, database.train.read(position))
        # The same clothes: of all images, the one that it was made from is the most similar.
        likeness = torch.corrcoef(torch.cat([picture.float().mean(0).view(1, -1), originals]))[0, 1:]
        assert likeness.argmax() == position
    assert torch.equal(files.validation[0], database.validation[0])


def test_pictures_are_jpegs_of_the_stored_size_and_coloured(quick, generated):
    loaded(quick.but(data="jpeg", stored_size=50))
    with Image.open(the(generated, "jpeg-50-164-*/000/000000.jpg")) as picture:
        assert (picture.format, picture.size, picture.mode) == ("JPEG", (50, 50), "RGB")
    found = loaded(quick.but(data="jpeg", stored_size=50)).probe[0].float().mean((2, 3))
    assert (found.amax(1) - found.amin(1)).max() > 10


@pytest.mark.parametrize("kind", ["jpeg", "sqlite"])
def test_an_interruption_leaves_nothing_behind(quick, generated, kind):
    making = data.load(quick.but(data=kind))
    assert "once" in next(making).what
    next(making)
    assert len(left_in(generated)) == 1
    making.close()
    assert left_in(generated) == []
    assert len(loaded(quick.but(data=kind)).train.labels) == 64


@pytest.mark.parametrize("kind", ["jpeg", "sqlite"])
@pytest.mark.parametrize("pid", [os.getpid(), 2**22 + 1], ids=["of a process with our number", "of a dead process"])
def test_what_a_killed_process_left_is_cleared_away(quick, generated, kind, pid):
    suffix = ".sqlite" if kind == "sqlite" else ""
    left = generated / f".{kind}-32-164{suffix}.{socket.gethostname()}.{pid}.tmp"
    generated.mkdir()
    if kind == "sqlite":
        sqlite3.connect(left).execute("CREATE TABLE images (x)").connection.close()
    else:
        (left / "000").mkdir(parents=True)
    loaded(quick.but(data=kind))
    assert left_in(generated) == [f"{kind}-32-164{suffix}"]


def test_what_a_running_process_is_making_stays(quick, generated):
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        theirs = generated / f".sqlite-64-999.sqlite.{socket.gethostname()}.{other.pid}.tmp"
        generated.mkdir()
        theirs.touch()
        loaded(quick.but(data="jpeg"))
        assert theirs.exists()
        other.communicate(b"\n")


MAKE = """
from speedkit import Recipe
from speedkit.loading import drain
from speedkit.tasks import images as data
data.VALIDATION = 100
print("ready", flush=True)
for kind in ("jpeg", "sqlite"):
    input()
    found = drain(data.load(Recipe(data=kind, subset=200, stored_size=64, batch_size=16)))
    print(len(found.train.labels), int(found.validation[0].sum()), int(found.train.read(199).sum()), flush=True)
"""


def test_two_processes_at_once_both_get_the_whole_set(generated):
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    both = [subprocess.Popen([sys.executable, "-c", MAKE], **pipes) for _ in range(2)]

    def heard():
        return [process.stdout.readline().strip() for process in both]

    assert heard() == ["ready", "ready"]
    for _ in ("jpeg", "sqlite"):
        for process in both:
            process.stdin.write("now\n")
            process.stdin.flush()
        first, second = heard()
        assert first == second
        assert first.startswith("200 ")
    for process in both:
        process.communicate(timeout=60)
        assert process.returncode == 0
    assert left_in(generated) == ["jpeg-64-300", "sqlite-64-300.sqlite"]


@pytest.mark.parametrize("change", [{"data": "jpeg"}, {"data": "sqlite"}, {"cache": "disk"}], ids=str)
def test_a_folder_that_cannot_be_written_is_reported_with_the_way_out(quick, monkeypatch, tmp_path, change):
    (tmp_path / "file").touch()
    monkeypatch.setenv("SPEEDKIT_GENERATED", str(tmp_path / "file" / "generated"))
    recipe = quick.but(**change)
    with pytest.raises(DataError, match=r"could not be made .*SPEEDKIT_GENERATED"):
        loading.make_cache(recipe, loaded(recipe))


@pytest.mark.parametrize("kind", ["jpeg", "sqlite"])
def test_a_set_that_another_user_locked_is_reported_with_the_way_out(quick, generated, monkeypatch, kind):
    recipe = quick.but(data=kind)
    loaded(recipe)
    allowed = os.access  # the tests may run as root, who may read everything
    monkeypatch.setattr(os, "access", lambda path, mode: f"{kind}-32" not in str(path) and allowed(path, mode))
    with pytest.raises(DataError, match=rf"{kind}-32-164-.* another user, .* your own .*SPEEDKIT_GENERATED"):
        loaded(recipe)


def test_a_damaged_database_is_named(quick, generated):
    recipe = quick.but(data="sqlite")
    loaded(recipe)
    path = the(generated, "sqlite-32-164-*.sqlite")
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(
        DataError, match=r"sqlite-32-164-\w+\.sqlite is damaged .* delete it, and it will be made again"
    ):
        loaded(recipe)


@pytest.mark.parametrize("harm", [missing, emptied, truncated])
def test_a_damaged_generated_picture_says_what_to_delete(quick, generated, harm):
    recipe = quick.but(data="jpeg")
    loaded(recipe)
    path = the(generated, "jpeg-32-164-*/000/000070.jpg")
    path.write_bytes(path.read_bytes()[:200])
    harm(path)
    with pytest.raises(DataError, match=r"000070.jpg.* delete .*jpeg-32-164-\w+, and it will be made again"):
        loaded(recipe)
    shutil.rmtree(the(generated, "jpeg-32-164-*"))
    loaded(recipe)


def test_a_database_connection_belongs_to_one_process(quick):
    source = loaded(quick.but(data="sqlite")).train
    source.read(0)
    assert source.database.__getstate__()["connection"] is None
    assert source.database.__getstate__()["owner"] is None
    source.close()
    assert source.database.connection is None
    assert source.read(0).shape == (3, 28, 28)  # opened again
    source.close()


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("cache", ["off", "device"])
def test_the_database_is_closed_after_a_run_and_after_a_look_at_it(tmp_path, cache, workers):
    """No connection is left to be collected: on Windows the file could not be deleted, and Python 3.13 would warn."""
    code = f"""
import gc, sqlite3
import psutil, speedkit as sk
from speedkit.loading import drain
from speedkit.tasks import images
images.VALIDATION = 100
opened = []
class Connection(sqlite3.Connection):
    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        opened.append(self)
connect = sqlite3.connect
sqlite3.connect = lambda *args, **options: connect(*args, factory=Connection, **options)
def left():
    files = [file.path for file in psutil.Process().open_files() if ".sqlite" in file.path]
    for connection in opened:
        try:
            connection.execute("SELECT 1")
        except sqlite3.ProgrammingError:
            continue
        files.append("open connection")
    return files
recipe = sk.Recipe(data="sqlite", subset=64, batch_size=16, epochs=1, stored_size=32, image_size=28, device="cpu")
recipe = recipe.but(cache={cache!r}, workers={workers}, test_at_end=True)
print(sk.fit(recipe).status, left())
sk.first_batch(recipe)
print(left())
drain(images.load(recipe))
print(left())
records = sk.train(recipe)
for record in records:
    if "decoded" in getattr(record, "what", ""):
        break
records.close()  # while the validation images are decoded
print(left(), len(opened) > 3)
gc.collect()
"""
    options = ["-W", "error::ResourceWarning", "-X", "dev"]
    places = {"SPEEDKIT_GENERATED": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, *options, "-c", code], env=os.environ | places, capture_output=True, text=True, timeout=120
    )
    assert done.stdout.splitlines() == ["finished []", "[]", "[]", "[] True"], done.stderr
    assert "ResourceWarning" not in done.stderr


def test_every_source_can_be_closed_and_read_again(quick, pictures):
    for source in ("fashion-mnist", "jpeg", "sqlite", f"folder:{pictures}"):
        for part in (found := loaded(quick.but(data=source, subset=20))).train, found.test:
            first = part.read(0)
            part.close()
            part.close()
            assert torch.equal(part.read(0), first)
            part.close()


# One's own pictures, and torchvision's data sets


def test_a_folder_of_pictures_is_split_into_three(pictures):
    found = loaded(Recipe(data=f"folder:{pictures}", image_size=16, batch_size=8))
    held = (found.validation[1], found.test.labels)
    assert (len(found.train.labels), *map(len, held)) == (32, 4, 4)
    assert found.classes == ("cat", "dog")
    assert set(found.train.paths).isdisjoint(found.test.paths)
    for path, label in zip(found.train.paths, found.train.labels.tolist(), strict=True):
        assert Path(path).parent.name == found.classes[label]
    again = loaded(Recipe(data=f"folder:{pictures}", image_size=16, batch_size=8, seed=7))
    assert again.train.paths == found.train.paths


def test_a_grey_picture_becomes_colour_and_only_its_middle_stays(tmp_path):
    pixels = np.zeros((10, 30), np.uint8)
    pixels[:, 10:20] = 200
    Image.fromarray(pixels).save(tmp_path / "wide.png")
    Image.fromarray(pixels.T.copy()).save(tmp_path / "tall.png")
    for name in ("wide.png", "tall.png"):
        picture = pictures_module.decoded(tmp_path / name, 10)
        assert picture.shape == (3, 10, 10)
        assert picture.unique().tolist() == [200]


def test_a_broken_picture_is_named(pictures):
    recipe = Recipe(data=f"folder:{pictures}", image_size=16, batch_size=8)
    broken = Path(loaded(recipe).train.paths[5])
    broken.write_bytes(broken.read_bytes()[:60])
    with pytest.raises(DataError, match=r"cannot be read as a picture .*replace or remove it") as refusal:
        loaded(recipe)
    assert str(broken) in str(refusal.value)


@pytest.mark.parametrize("content", ["nothing", "an empty folder", "no class folders", "an empty class"])
def test_a_folder_without_pictures_is_named(tmp_path, content):
    folder = tmp_path / "own"
    if content != "nothing":
        folder.mkdir()
    if content == "no class folders":
        Image.new("L", (8, 8)).save(folder / "a.png")
    if content == "an empty class":
        (folder / "cat").mkdir()
    with pytest.raises(DataError, match=f"{folder} is not a folder of class folders with pictures"):
        loaded(Recipe(data=f"folder:{folder}"))


def write_mnist(folder, count):
    """A data set in MNIST's own format: image i is filled with the value i, and has the label i % 10."""
    folder.mkdir(parents=True)
    for prefix, images in (("train", count), ("t10k", 20)):
        pixels = np.repeat(np.arange(images, dtype=np.uint8), 28 * 28).tobytes()
        header = struct.pack(">4i", 0x803, images, 28, 28)
        (folder / f"{prefix}-images-idx3-ubyte").write_bytes(header + pixels)
        labels = (np.arange(images) % 10).astype(np.uint8).tobytes()
        (folder / f"{prefix}-labels-idx1-ubyte").write_bytes(struct.pack(">2i", 0x801, images) + labels)


def test_a_torchvision_data_set_that_is_on_disk(tmp_path):
    write_mnist(tmp_path / "MNIST" / "raw", count=200)
    found = loaded(Recipe(data=f"torchvision:MNIST:{tmp_path}", batch_size=8, subset=100))
    assert found.shape == (3, 28, 28)
    assert (len(found.train.labels), len(found.validation[1]), len(found.test.labels)) == (100, 20, 20)
    values = [int(found.train.read(i).unique()) for i in range(100)]
    assert [value % 10 for value in values] == found.train.labels.tolist()
    held = [int(image.unique()) for image in found.validation[0]]
    assert [value % 10 for value in held] == found.validation[1].tolist()
    assert len({*values, *held}) == 120
    images, labels = run_through(found.read_test())[1]
    assert images[:, 0, 0, 0].tolist() == list(range(20))
    assert labels.tolist() == [i % 10 for i in range(20)]
    assert loaded(Recipe(data=f"torchvision:MNIST:{tmp_path}", batch_size=8, image_size=12)).shape == (3, 12, 12)


def test_torchvision_looks_in_our_data_folder_by_itself(tmp_path, monkeypatch):
    monkeypatch.setenv("SPEEDKIT_DATA", str(tmp_path))
    write_mnist(tmp_path / "MNIST" / "raw", count=100)
    assert len(loaded(Recipe(data="torchvision:MNIST", batch_size=8)).train.labels) == 90


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("NoSuchSet", "no dataset 'NoSuchSet'"),
        ("MNIST", "MNIST is not in"),
        ("FakeData", "cannot be used here: its pictures are random noise"),
    ],
)
def test_a_torchvision_data_set_that_is_not_there_is_never_downloaded(tmp_path, name, words):
    with pytest.raises(DataError, match=words):
        loaded(Recipe(data=f"torchvision:{name}:{tmp_path}"))
    assert list(tmp_path.iterdir()) == []


class Listed:
    """A data set of torchvision's kind, of ``count`` grey pictures whose pixels and labels are ``i % kinds``."""

    count, kinds, read = 60, 13, 0

    def __init__(self, root, train=True, download=False):
        assert not download
        type(self).read = 0
        self.targets = [i % self.kinds for i in range(self.count)]

    def __len__(self):
        return self.count

    def __getitem__(self, i):
        type(self).read += 1
        return Image.new("L", (8, 8), i % self.kinds), i % self.kinds


class LikeSvhn(Listed):
    """Its parts have names, and its labels another one."""

    def __init__(self, root, split="train", download=False):
        super().__init__(root, download=download)
        self.labels = np.array(self.targets)
        del self.targets


class WithoutLabels(Listed):
    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        del self.targets


@pytest.fixture
def torchvision_has(monkeypatch):
    """Puts a data set of the test's own among torchvision's."""

    def put(kind, **changes):
        dataset = type("Made", (kind,), changes)
        monkeypatch.setattr(datasets, "Made", dataset, raising=False)
        monkeypatch.setattr(datasets, "__all__", (*datasets.__all__, "Made"))
        return dataset, Recipe(data="torchvision:Made", batch_size=4, epochs=1, device="cpu", model="mlp")

    return put


@pytest.mark.parametrize("kind", [Listed, LikeSvhn, WithoutLabels])
def test_a_torchvision_data_set_without_names_of_classes_has_as_many_as_its_labels(torchvision_has, generated, kind):
    _, recipe = torchvision_has(kind)
    found = loaded(recipe)
    assert found.classes == tuple(map(str, range(13)))
    pixels = [int(found.train.read(i)[0, 0, 0]) for i in range(len(found.train.labels))]
    assert pixels == found.train.labels.tolist()
    assert fit(recipe.but(test_at_end=True)).status == "finished"  # with ten classes, label 12 would be refused


def test_labels_that_only_the_test_part_has_are_classes_too(torchvision_has):
    def labelled(self, root, train=True, download=False):
        self.targets = [0] * self.count if train else [5] * self.count

    def item(self, i):
        return Image.new("L", (8, 8)), self.targets[i]

    _, recipe = torchvision_has(Listed, __init__=labelled, __getitem__=item)
    assert len(loaded(recipe).classes) == 6


def test_names_of_classes_are_taken_where_there_are_some(torchvision_has):
    _, recipe = torchvision_has(Listed, classes=["a", "b"], kinds=2)
    assert loaded(recipe).classes == ("a", "b")


@pytest.mark.parametrize("kind", [Listed, LikeSvhn])
def test_labels_are_read_without_decoding_the_set(torchvision_has, kind):
    dataset, recipe = torchvision_has(kind)
    loaded(recipe)
    # The kind of an item, three labels and three sizes; then the pictures to validate on and the probe.
    assert dataset.read <= 12 + 6 + 54


@pytest.mark.parametrize(("count", "train", "validation"), [(2, 1, 1), (9, 8, 1), (10, 9, 1), (20, 18, 2)])
def test_a_tiny_torchvision_data_set_has_images_to_train_on_and_to_validate_on(
    torchvision_has, count, train, validation
):
    _, recipe = torchvision_has(Listed, count=count)
    found = loaded(recipe.but(batch_size=1))
    assert (len(found.train.labels), len(found.validation[1])) == (train, validation)


def test_a_torchvision_data_set_of_one_image_is_refused(torchvision_has):
    _, recipe = torchvision_has(Listed, count=1)
    with pytest.raises(DataError, match="only one class"):
        loaded(recipe.but(batch_size=1))


def test_what_counts_as_correct():
    logits = torch.tensor([[0.0, 2.0, 1.0], [3.0, 1.0, 0.0], [0.0, 1.0, 2.0]])
    assert correct(logits, torch.tensor([1, 1, 2])).item() == 2
