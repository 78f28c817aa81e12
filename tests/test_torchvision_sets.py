"""torchvision's classification sets: each is opened as it wants to be, and what cannot be used is refused truly."""

import csv
import inspect
import json
import pickle
import struct
import sys
import types

import numpy as np
import pytest
import torch
from conftest import run_through
from PIL import Image
from torchvision import datasets

from speedkit.recipe import Recipe
from speedkit.support.errors import DataError
from speedkit.tasks import images as data
from speedkit.tasks import torchvision_sets
from speedkit.train import fit


def picture(path, level):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (level, level, level)).save(path)


def loaded(name, root, **changes):
    recipe = Recipe(data=f"torchvision:{name}:{root}", image_size=8, batch_size=2, **changes)
    return run_through(data.load(recipe))[1]


def agree(found, level=10):
    """Pictures were painted with ``level`` times their class: each has the label of its class in every part."""
    for source in (found.train, found.test):
        for position, label in enumerate(source.labels.tolist()):
            assert abs(int(source.read(position)[0, 4, 4]) - level * label) <= 3
    for image, label in zip(*found.validation, strict=True):
        assert abs(int(image[0, 4, 4]) - level * int(label)) <= 3


@pytest.fixture
def no_sums(monkeypatch):
    """Made files have other check sums than the real ones."""
    from torchvision.datasets import utils

    for module in [module for name, module in sys.modules.items() if name.startswith("torchvision.datasets")]:
        if hasattr(module, "check_integrity"):
            monkeypatch.setattr(module, "check_integrity", lambda path, md5=None: utils.os.path.isfile(path))


# Sets in torchvision's own formats, made small


def make_food101(root):
    for part, count in (("train", 12), ("test", 4)):
        listed = {}
        for label, name in enumerate(("apple_pie", "sushi")):
            listed[name] = [f"{name}/{part}{i}" for i in range(count)]
            for each in listed[name]:
                picture(root / "food-101" / "images" / f"{each}.jpg", 10 * label)
        (root / "food-101" / "meta").mkdir(exist_ok=True)
        (root / "food-101" / "meta" / f"{part}.json").write_text(json.dumps(listed))
    return ("apple_pie", "sushi")


def make_dtd(root):
    folder = root / "dtd" / "dtd"
    (folder / "labels").mkdir(parents=True)
    for part, count in (("train", 10), ("val", 4), ("test", 4)):
        lines = []
        for label, name in enumerate(("banded", "dotted", "woven")):
            for i in range(count):
                picture(folder / "images" / name / f"{part}{i}.jpg", 10 * label)
                lines.append(f"{name}/{part}{i}.jpg")
        (folder / "labels" / f"{part}1.txt").write_text("\n".join(lines) + "\n")
    return ("banded", "dotted", "woven")


def make_country211(root):
    for part, count in (("train", 10), ("valid", 3), ("test", 3)):
        for label, name in enumerate(("AD", "AE")):
            for i in range(count):
                picture(root / "country211" / part / name / f"{i}.jpg", 10 * label)
    return ("AD", "AE")


def make_rendered_sst2(root):
    for part, count in (("train", 10), ("valid", 3), ("test", 3)):
        for label, name in enumerate(("negative", "positive")):
            for i in range(count):
                picture(root / "rendered-sst2" / part / name / f"{i}.png", 10 * label)
    return ("negative", "positive")


def make_imagenette(root):
    names = ("n01440764", "n02102040", "n02979186")
    for part, count in (("train", 10), ("val", 3)):
        for label, name in enumerate(names):
            for i in range(count):
                picture(root / "imagenette2" / part / name / f"{i}.JPEG", 10 * label)
    return tuple(", ".join(datasets.Imagenette._WNID_TO_CLASS[name]) for name in names)


def make_oxford_pets(root):
    folder = root / "oxford-iiit-pet"
    (folder / "annotations").mkdir(parents=True)
    for part, count in (("trainval", 10), ("test", 3)):
        lines = []
        for label, name in enumerate(("Abyssinian", "great_pyrenees")):
            for i in range(count):
                picture(folder / "images" / f"{name}_{part}{i}.jpg", 10 * label)
                lines.append(f"{name}_{part}{i} {label + 1} 1 1")
        (folder / "annotations" / f"{part}.txt").write_text("\n".join(lines) + "\n")
    return ("Abyssinian", "Great Pyrenees")


def make_aircraft(root):
    folder = root / "fgvc-aircraft-2013b" / "data"
    (folder / "images").mkdir(parents=True)
    (folder / "variants.txt").write_text("707-320\nA300B4\n")
    for part, count in (("train", 5), ("val", 5), ("trainval", 10), ("test", 3)):
        lines = []
        for label, name in enumerate(("707-320", "A300B4")):
            for i in range(count):
                picture(folder / "images" / f"{part}{label}{i}.jpg", 10 * label)
                lines.append(f"{part}{label}{i} {name}")
        (folder / f"images_variant_{part}.txt").write_text("\n".join(lines) + "\n")
    return ("707-320", "A300B4")


def make_gtsrb(root):
    folder = root / "gtsrb" / "GTSRB"
    for label in range(3):
        for i in range(8):
            picture(folder / "Training" / f"{label:05d}" / f"{i}.ppm", 10 * label)
            picture(folder / "Final_Test" / "Images" / f"{label}{i}.ppm", 10 * label)
    with open(root / "gtsrb" / "GT-final_test.csv", "w", newline="") as file:
        writer = csv.writer(file, delimiter=";")
        writer.writerow(["Filename", "ClassId"])
        writer.writerows([f"{label}{i}.ppm", label] for label in range(3) for i in range(8))
    return ("0", "1", "2")


def make_clevr(root):
    folder = root / "clevr" / "CLEVR_v1.0"
    (folder / "scenes").mkdir(parents=True)
    for part, count in (("train", 12), ("val", 6), ("test", 6)):
        scenes = []
        for i in range(count):
            picture(folder / "images" / part / f"{i:02d}.png", 10 * (i % 3))
            scenes.append({"image_filename": f"{i:02d}.png", "objects": [{}] * (i % 3)})
        if part != "test":  # its test part has no labels
            (folder / "scenes" / f"CLEVR_{part}_scenes.json").write_text(json.dumps({"scenes": scenes}))
    return ("0", "1", "2")


def make_fer2013(root):
    (root / "fer2013").mkdir()
    with open(root / "fer2013" / "fer2013.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["emotion", "pixels", "Usage"])
        for i in range(40):
            usage = "Training" if i < 30 else "PublicTest"
            writer.writerow([i % 4, " ".join([str(10 * (i % 4))] * 48 * 48), usage])
    return ("0", "1", "2", "3")


def make_idx(folder, prefix, count, classes=3, width=1, labels="labels-idx1-ubyte"):
    folder.mkdir(parents=True, exist_ok=True)
    numbers = np.arange(count) % classes
    pixels = np.repeat((10 * numbers).astype(np.uint8), 28 * 28).tobytes()
    (folder / f"{prefix}-images-idx3-ubyte").write_bytes(struct.pack(">4i", 0x803, count, 28, 28) + pixels)
    if width == 1:
        content = struct.pack(">2i", 0x801, count) + numbers.astype(np.uint8).tobytes()
    else:  # QMNIST's: eight numbers for each picture, the class first
        rows = np.stack([numbers, *[(np.arange(count) * k) % 97 for k in range(2, width + 1)]], 1).astype(">i4")
        content = struct.pack(">3i", 0xC02, count, width) + rows.tobytes()
    (folder / f"{prefix}-{labels}").write_bytes(content)


def make_emnist(root):
    for part, count in (("train", 40), ("test", 12)):
        make_idx(root / "EMNIST" / "raw", f"emnist-balanced-{part}", count)
    return tuple(datasets.EMNIST.classes_split_dict["balanced"])


def make_qmnist(root):
    for part, count in (("train", 40), ("test", 12)):
        make_idx(root / "QMNIST" / "raw", f"qmnist-{part}", count, width=8, labels="labels-idx2-int")
    return tuple(datasets.QMNIST.classes)


def make_kmnist(root):
    make_idx(root / "KMNIST" / "raw", "train", 40)
    make_idx(root / "KMNIST" / "raw", "t10k", 12)
    return tuple(datasets.KMNIST.classes)


def make_cifar10(root):
    folder = root / "cifar-10-batches-py"
    folder.mkdir()
    names = ["airplane", "automobile", "bird"]
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": names}))
    for name in [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]:
        labels = [i % 3 for i in range(9)]
        content = {"data": np.repeat(10 * np.array(labels, np.uint8), 3072).reshape(9, 3072), "labels": labels}
        (folder / name).write_bytes(pickle.dumps(content))
    return tuple(names)


def make_svhn(root):
    scipy = pytest.importorskip("scipy.io")
    for part, count in (("train", 30), ("test", 12)):
        labels = np.arange(count) % 10
        pixels = np.broadcast_to((10 * labels).astype(np.uint8), (32, 32, 3, count))
        scipy.savemat(root / f"{part}_32x32.mat", {"X": pixels, "y": np.where(labels == 0, 10, labels)[:, None]})
    return tuple(map(str, range(10)))


def make_flowers(root):
    scipy = pytest.importorskip("scipy.io")
    folder = root / "flowers-102"
    labels = np.arange(60) % 3 + 1
    for i, label in enumerate(labels, 1):
        picture(folder / "jpg" / f"image_{i:05d}.jpg", 10 * (int(label) - 1))
    scipy.savemat(folder / "imagelabels.mat", {"labels": labels})
    scipy.savemat(
        folder / "setid.mat", {"trnid": np.arange(1, 31), "valid": np.arange(31, 41), "tstid": np.arange(41, 61)}
    )
    return tuple(datasets.Flowers102.classes)


def make_stanford_cars(root):
    scipy = pytest.importorskip("scipy.io")
    folder = root / "stanford_cars"
    (folder / "devkit").mkdir(parents=True)
    scipy.savemat(folder / "devkit" / "cars_meta.mat", {"class_names": np.array(["AM General", "Acura"], object)})
    for part, count, path in (
        ("train", 20, folder / "devkit" / "cars_train_annos.mat"),
        ("test", 8, folder / "cars_test_annos_withlabels.mat"),
    ):
        annotations = np.zeros(count, [("fname", object), ("class", object)])
        for i in range(count):
            picture(folder / f"cars_{part}" / f"{i:05d}.jpg", 10 * (i % 2))
            annotations[i] = f"{i:05d}.jpg", i % 2 + 1
        scipy.savemat(path, {"annotations": annotations})
    return ("AM General", "Acura")


def make_stl10(root):
    folder = root / "stl10_binary"
    folder.mkdir()
    (folder / "class_names.txt").write_text("airplane\nbird\n")
    (folder / "unlabeled_X.bin").touch()
    for part, count in (("train", 20), ("test", 8)):
        labels = np.arange(count, dtype=np.uint8) % 2
        np.repeat(10 * labels, 3 * 96 * 96).tofile(folder / f"{part}_X.bin")
        (labels + 1).tofile(folder / f"{part}_y.bin")
    return ("airplane", "bird")


def make_places365(root):
    (root / "categories_places365.txt").write_text("/a/airfield 0\n/a/alley 1\n")
    for part, listed, folder in (
        ("train", "places365_train_standard.txt", "data_large_standard"),
        ("val", "places365_val.txt", "val_large"),
        ("test", "places365_test.txt", "test_large"),
    ):
        lines = []
        for i in range(12):
            picture(root / folder / f"{part}{i}.jpg", 10 * (i % 2))
            lines.append(f"/{part}{i}.jpg" + ("" if part == "test" else f" {i % 2}"))
        (root / listed).write_text("\n".join(lines) + "\n")
    return ("/a/airfield", "/a/alley")


def make_inaturalist(root):
    names = [f"{i:05d}_Animalia_p_c_o_f_g_s{i}" for i in range(2)]
    for part, count in (("2021_train", 10), ("2021_valid", 3)):
        for label, name in enumerate(names):
            for i in range(count):
                picture(root / part / name / f"{i}.jpg", 10 * label)
    return tuple(names)


def make_usps(root):
    import bz2

    for name, count in (("usps.bz2", 30), ("usps.t.bz2", 10)):
        lines = []
        for i in range(count):
            value = 10 * (i % 3) / 255 * 2 - 1
            lines.append(f"{i % 3 + 1} " + " ".join(f"{k}:{value + 1e-6}" for k in range(1, 257)))
        (root / name).write_bytes(bz2.compress("\n".join(lines).encode()))
    return ("0", "1", "2")


WHOLE = ("EuroSAT", "Caltech101", "Caltech256", "SEMEION", "SUN397")


def make_eurosat(root):
    for label, name in enumerate(("AnnualCrop", "Forest")):
        for i in range(15):
            picture(root / "eurosat" / "2750" / name / f"{name}_{i}.jpg", 10 * label)
    return ("AnnualCrop", "Forest")


def make_caltech101(root):
    folder = root / "caltech101" / "101_ObjectCategories"
    for label, name in enumerate(("accordion", "airplanes")):
        for i in range(15):
            picture(folder / name / f"image_{i + 1:04d}.jpg", 10 * label)
    (folder / "BACKGROUND_Google").mkdir()
    return ("accordion", "airplanes")


def make_caltech256(root):
    for label, name in enumerate(("001.ak47", "002.american-flag")):
        for i in range(15):
            picture(
                root / "caltech256" / "256_ObjectCategories" / name / f"{label + 1:03d}_{i + 1:04d}.jpg", 10 * label
            )
    return ("001.ak47", "002.american-flag")


def make_sun397(root):
    names = ("abbey", "airplane_cabin")
    (root / "SUN397").mkdir()
    (root / "SUN397" / "ClassName.txt").write_text("".join(f"/a/{name}\n" for name in names))
    for label, name in enumerate(names):
        for i in range(15):
            picture(root / "SUN397" / "a" / name / f"sun_{label}{i}.jpg", 10 * label)
    return names


MADE = {
    "Food101": make_food101,
    "DTD": make_dtd,
    "Country211": make_country211,
    "RenderedSST2": make_rendered_sst2,
    "Imagenette": make_imagenette,
    "OxfordIIITPet": make_oxford_pets,
    "FGVCAircraft": make_aircraft,
    "GTSRB": make_gtsrb,
    "CLEVRClassification": make_clevr,
    "FER2013": make_fer2013,
    "EMNIST": make_emnist,
    "QMNIST": make_qmnist,
    "KMNIST": make_kmnist,
    "CIFAR10": make_cifar10,
    "SVHN": make_svhn,
    "Flowers102": make_flowers,
    "StanfordCars": make_stanford_cars,
    "STL10": make_stl10,
    "Places365": make_places365,
    "INaturalist": make_inaturalist,
    "USPS": make_usps,
    "EuroSAT": make_eurosat,
    "Caltech101": make_caltech101,
    "Caltech256": make_caltech256,
    "SUN397": make_sun397,
}


@pytest.mark.parametrize("name", MADE)
def test_a_set_in_torchvisions_own_format(tmp_path, no_sums, name):
    classes = MADE[name](tmp_path)
    found = loaded(name, tmp_path)
    assert found.classes == classes
    agree(found)
    assert len(found.notes) == 1
    assert found.notes[0].startswith(f"{name}: ")
    assert (" no test part" in found.notes[0]) == (name in WHOLE)
    train, validation, test = len(found.train.labels), len(found.validation[1]), len(found.test.labels)
    assert train > validation >= 1
    assert test >= 1
    assert pickle.loads(pickle.dumps(found.train)).read(0).shape == (3, 8, 8)
    if name in ("Food101", "SVHN", "EuroSAT"):
        assert fit(Recipe(data=f"torchvision:{name}:{tmp_path}", image_size=8, batch_size=4, epochs=1, device="cpu"))


def test_labels_are_read_from_lists_and_not_from_pictures(tmp_path, no_sums, monkeypatch):
    for name in ("Food101", "QMNIST", "FER2013", "Caltech101"):
        MADE[name](tmp_path)
        recipe = Recipe(data=f"torchvision:{name}:{tmp_path}", image_size=8, batch_size=2)
        seen, _ = run_through(data.load(recipe))
        assert not [record for record in seen if record.what == "labels read"], name


def test_pcams_labels_come_from_its_file(tmp_path, monkeypatch):
    """Without h5py: a stand-in that opens files of NumPy."""

    class File(dict):
        def __init__(self, path):
            super().__init__(np.load(path))

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

    monkeypatch.setitem(sys.modules, "h5py", types.SimpleNamespace(File=File))
    (tmp_path / "pcam").mkdir()
    for part, count in (("train", 20), ("test", 6), ("valid", 6)):
        labels = np.arange(count) % 2
        for kind, values in (
            ("x", np.broadcast_to((10 * labels).astype(np.uint8)[:, None, None, None], (count, 96, 96, 3))),
            ("y", labels[:, None, None, None]),
        ):
            with open(tmp_path / "pcam" / f"camelyonpatch_level_2_split_{part}_{kind}.h5", "wb") as file:
                np.savez(file, **{kind: values})
    recipe = Recipe(data=f"torchvision:PCAM:{tmp_path}", image_size=8, batch_size=2)
    seen, found = run_through(data.load(recipe))
    assert not [record for record in seen if record.what == "labels read"]
    agree(found)


# All others


@pytest.mark.parametrize("name", sorted(set(datasets.__all__) - MADE.keys()))
def test_every_other_name_is_found_missing_or_refused_in_one_true_sentence(tmp_path, name):
    with pytest.raises(DataError) as refused:
        loaded(name, tmp_path / "nothing")
    words = str(refused.value)
    assert words.isprintable()
    assert "download=" not in words
    told = {
        "UCF101": "its items are videos",
        "CelebA": "no single class each",
        "LFWPeople": "not those of its training part",
        "ImageFolder": 'data="folder:PATH"',
        "Sintel": "no single class each",
        "MNIST": "is not in",
        "ImageNet": "is not in",
        "wrap_dataset_for_transforms_v2": "torchvision has no dataset",
    }
    assert told.get(name, "") in words
    opened = name in ("CIFAR100", "FashionMNIST", "ImageNet", "MNIST", "PCAM", "SEMEION")
    assert ("is not in" in words or "not installed" in words) == opened


def test_no_set_of_torchvision_was_forgotten():
    """A new one needs a maker above, a place among those that are refused, or a look at what it is."""
    refused = {*torchvision_sets.REFUSED}
    flows = {name for name in datasets.__all__ if ("_optical" in _module(name) or "_stereo" in _module(name))}
    checked = {"CIFAR100", "FashionMNIST", "ImageNet", "MNIST", "PCAM", "SEMEION", "wrap_dataset_for_transforms_v2"}
    assert set(datasets.__all__) == {*MADE, *refused, *flows, *checked}


def _module(name):
    return getattr(getattr(datasets, name), "__module__", "")


# Forms of arguments and labels that others may have


class Made:
    """A set of 40 pictures whose level and class is ``i % 4``."""

    def __init__(self, root):
        self.numbers = [i % 4 for i in range(40)]

    def __len__(self):
        return 40

    def __getitem__(self, i):
        return Image.new("L", (8, 8), 10 * (i % 4)), i % 4


@pytest.fixture
def made(monkeypatch, generated):
    def put(kind=Made, **changes):
        monkeypatch.setattr(datasets, "Made", type("Made", (kind,), changes), raising=False)
        monkeypatch.setattr(datasets, "__all__", (*datasets.__all__, "Made"))
        return Recipe(data="torchvision:Made", image_size=8, batch_size=2)

    return put


def split_of(*allowed):
    def begin(self, root, split):
        if split not in allowed:
            raise ValueError(f"Unknown value {split!r} for argument split.")
        Made.__init__(self, root)
        self.part = split

    return begin


@pytest.mark.parametrize(
    ("allowed", "said"),
    [
        (("train", "test"), ('split="train"', 'split="test"')),
        (("train", "val"), ('split="train"', 'split="val"')),
        (("trainval", "train", "test", "val"), ('split="trainval"', 'split="test"')),
        (("train", "valid"), ('split="train"', 'split="valid"')),
        (("train", "validation"), ('split="train"', 'split="validation"')),
    ],
)
def test_parts_are_found_by_their_names(made, allowed, said):
    found = run_through(data.load(made(__init__=split_of(*allowed))))[1]
    agree(found)
    assert all(each in found.notes[0] for each in said)


@pytest.mark.parametrize(
    ("allowed", "words"),
    [(("train",), "no test part"), (("test",), "no training part"), (("unlabeled",), "no training part")],
)
def test_a_part_that_there_is_not_is_named(made, allowed, words):
    with pytest.raises(DataError, match=f"torchvision's Made has {words}"):
        run_through(data.load(made(__init__=split_of(*allowed))))


FORMS = {
    "list": [i % 4 for i in range(40)],
    "tuple": tuple(i % 4 for i in range(40)),
    "array": np.arange(40) % 4,
    "bytes": (np.arange(40) % 4).astype(np.uint8),
    "tensor": torch.arange(40) % 4,
    "column": torch.arange(40)[:, None] % 4,
    "several columns": torch.stack([torch.arange(40) // 10, torch.arange(40) % 4, torch.arange(40)], 1),
    "whole floats": (np.arange(40) % 4).astype(float),
    "tensors": list(torch.arange(40) % 4),
    "lists of one": [[i % 4] for i in range(40)],
    "from one on": [i % 4 + 1 for i in range(40)],
    "signed": [2 * (i % 4) - 3 for i in range(40)],
    "far apart": [1_000_000 * (i % 4) for i in range(40)],
    "texts": ["abcd"[i % 4] for i in range(40)],
    "truths": [i % 2 == 1 for i in range(40)],
}


@pytest.mark.parametrize("attribute", ["targets", "labels", "_labels", "y", "something_else"])
@pytest.mark.parametrize("form", FORMS)
def test_labels_of_every_form_under_every_name(made, form, attribute):
    labels = FORMS[form]

    def begin(self, root, train=True):
        setattr(self, attribute, labels)

    def item(self, i):
        label = labels[i][1] if form == "several columns" else labels[i]
        return Image.new("L", (8, 8), 10 * (i % (2 if form == "truths" else 4))), label

    seen, found = run_through(data.load(made(__init__=begin, __getitem__=item)))
    agree(found)
    assert len(found.classes) == (2 if form == "truths" else 4)
    if form == "texts":
        assert found.classes == ("a", "b", "c", "d")
    assert (attribute == "something_else") == any(record.what == "labels read" for record in seen)


@pytest.mark.parametrize(
    ("label", "words"),
    [
        (torch.zeros(40), "40 values, not one class"),
        ({"boxes": 1, "labels": 2}, "2 values, not one class"),
        (0.5, "0.5, not one class"),
        (None, "None, not one class"),
        (Image.new("L", (8, 8)), "not one class"),
    ],
    ids=str,
)
def test_what_is_not_one_class_is_refused(made, label, words):
    recipe = made(
        __init__=lambda self, root, train=True: None, __getitem__=lambda self, i: (Image.new("L", (8, 8)), label)
    )
    with pytest.raises(DataError, match=words):
        run_through(data.load(recipe))


@pytest.mark.parametrize("attribute", ["classes", "categories", "class_names", "class_to_idx"])
def test_names_of_classes_under_every_name(made, attribute):
    names = ["zero", "one", "two", "three"]

    def begin(self, root, train=True):
        setattr(self, attribute, dict(zip(names, range(4), strict=True)) if attribute == "class_to_idx" else names)

    assert run_through(data.load(made(__init__=begin)))[1].classes == tuple(names)


def test_a_class_that_one_part_lacks_does_not_shift_the_others(made):
    """As with folders of classes: the test part has no "b", so its number 1 is the training part's 2."""

    def begin(self, root, train=True):
        self.classes, self.train = ["a", "b", "c", "d"] if train else ["a", "c", "d"], train

    def item(self, i):
        number = i % 4 if self.train else (0, 2, 3)[i % 3]
        return Image.new("L", (8, 8), 10 * number), i % 4 if self.train else i % 3

    found = run_through(data.load(made(__init__=begin, __getitem__=item)))[1]
    assert found.classes == ("a", "b", "c", "d")
    agree(found)


def test_a_set_of_one_class_is_refused(made):
    recipe = made(__init__=lambda self, root, train=True: None, __getitem__=lambda self, i: (Image.new("L", (8, 8)), 0))
    with pytest.raises(DataError, match="only one class"):
        run_through(data.load(recipe))


@pytest.mark.parametrize(
    "error", [OSError("truncated"), ValueError("bad"), EOFError(), struct.error("short")], ids=repr
)
def test_a_picture_that_cannot_be_read_is_named(made, error):
    def item(self, i):
        if i == 17:
            raise error
        return Made.__getitem__(self, i)

    recipe = made(
        __init__=lambda self, root, train=True: Made.__init__(self, root), __getitem__=item, targets=FORMS["list"]
    )
    with pytest.raises(DataError, match=r"torchvision's Made, picture 17 cannot be read as a picture") as refused:
        run_through(data.load(recipe))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", ["Food101", "GTSRB", "OxfordIIITPet", "DTD"])
def test_a_damaged_file_of_a_set_is_named(tmp_path, no_sums, name):
    MADE[name](tmp_path)
    found = loaded(name, tmp_path)
    bad = found.train._file(found.train.positions[3])
    with open(bad, "wb") as file:
        file.write(b"\xff\xd8\xff")
    with pytest.raises(DataError) as refused:
        run_through(data.load(Recipe(data=f"torchvision:{name}:{tmp_path}", image_size=8, batch_size=2)))
    assert str(refused.value).startswith(f"{bad} cannot be read as a picture (")


def test_a_missing_package_is_named(made):
    def begin(self, root, train=True):
        raise ModuleNotFoundError("No module named 'scipy'", name="scipy")

    with pytest.raises(DataError, match=r"needs a package that is not installed \(.*scipy"):
        run_through(data.load(made(__init__=begin)))


@pytest.mark.parametrize(
    "error", [pickle.UnpicklingError("no"), EOFError(), ValueError("bad"), KeyError("data")], ids=repr
)
def test_a_damaged_set_is_one_sentence(made, error):
    def begin(self, root, train=True):
        raise error

    with pytest.raises(DataError, match=r"torchvision's Made in .* is damaged") as refused:
        run_through(data.load(made(__init__=begin)))
    assert "\n" not in str(refused.value)


def test_arguments_that_are_handed_on_are_seen():
    assert {"split", "train", "download"} <= set(torchvision_sets._parameters(datasets.EMNIST))
    assert "split" not in inspect.signature(datasets.MNIST.__init__).parameters
