"""The disk cache: any change that changes a pixel changes its name, and what is damaged is made again."""

import os
import pickle
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import PIL
import pytest
import torch
from conftest import run_through
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from test_images import write_mnist

from speedkit import loading
from speedkit.recipe import Recipe
from speedkit.tasks import cache_file
from speedkit.tasks import data as tasks_data
from speedkit.tasks import images as data
from speedkit.techniques import caching


def looked_at(recipe):
    """The name of the cache of a recipe, and all pixels that belong in it."""
    found = run_through(data.load(recipe))[1]
    everything = torch.stack([found.train.read(i) for i in range(len(found.train.labels))])
    found.train.close()
    return cache_file.cache_name(found.train, everything.shape), everything


def check(seen):
    """Whatever has one name has one content; ``seen``: (name, pixels)."""
    held = {}
    for name, pixels in seen:
        if name in held:
            assert torch.equal(held[name], pixels)
        held[name] = pixels


# A folder of pictures: what may happen to it between two runs


def files(folder):
    return sorted(folder.glob("*/*"))


def keeping_times(path, change):
    before = path.stat()
    change()
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def repaint(folder, i, level):
    path = files(folder)[i % len(files(folder))]
    keeping_times(path, lambda: Image.new("RGB", (8, 8), (level, level, level)).save(path))  # a BMP's size stays


def swap(folder, i, level):
    one, other = files(folder)[i % len(files(folder))], files(folder)[level % len(files(folder))]
    between = folder / "between"
    one.rename(between)
    other.rename(one) if other != one else None
    between.rename(other)


def rename(folder, i, level):
    path = files(folder)[i % len(files(folder))]
    path.rename(path.with_name(f"{level:03d}{path.name[-7:]}"))


def add(folder, i, level):
    Image.new("RGB", (8, 8), (level, 0, 0)).save(files(folder)[i % len(files(folder))].with_name(f"n{level:03d}.bmp"))


def remove(folder, i, level):
    if len(files(folder)) > 10:
        files(folder)[i % len(files(folder))].unlink()


def copy_over(folder, i, level):
    one, other = files(folder)[i % len(files(folder))], files(folder)[level % len(files(folder))]
    if one != other:
        shutil.copy2(one, other)


def link(folder, i, level):
    one, other = files(folder)[i % len(files(folder))], files(folder)[level % len(files(folder))]
    if one != other and not one.is_symlink():
        other.unlink()
        other.symlink_to(one)


def nothing(folder, i, level):
    pass


STEPS = st.lists(
    st.tuples(
        st.sampled_from([repaint, swap, rename, add, remove, copy_over, link, nothing]),
        st.integers(0, 20),
        st.integers(0, 255),
        st.fixed_dictionaries(
            {}, optional={"image_size": st.sampled_from([8, 9]), "subset": st.integers(4, 9), "seed": st.integers(0, 1)}
        ),
    ),
    min_size=2,
    max_size=6,
)


@settings(max_examples=40)
@given(STEPS)
def test_any_change_of_a_folder_that_changes_a_pixel_changes_the_name(steps):
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary, "own")
        for i in range(14):
            (folder / "ab"[i % 2]).mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 8), (10 * i, 5, 5)).save(folder / "ab"[i % 2] / f"{i:03d}.bmp")
        recipe = Recipe(data=f"folder:{folder}", image_size=8, batch_size=1)
        seen = [looked_at(recipe)]
        for change, i, level, changes in steps:
            change(folder, i, level)
            seen.append(looked_at(recipe.but(**changes)))
        check(seen)


def test_a_folder_that_did_not_change_keeps_its_name(pictures):
    recipe = Recipe(data=f"folder:{pictures}", image_size=16, batch_size=8)
    assert len({looked_at(recipe.but(seed=seed, epochs=3 + seed))[0] for seed in range(3)}) == 1


def test_the_range_of_levels_of_the_set_is_part_of_the_name(tmp_path):
    for i in range(20):
        (tmp_path / "ab"[i % 2]).mkdir(exist_ok=True)
        Image.fromarray(np.full((8, 8), 900, np.uint16)).save(tmp_path / "ab"[i % 2] / f"{i:02d}.png")
    recipe = Recipe(data=f"folder:{tmp_path}", image_size=8, batch_size=2)
    order = data.split(20).tolist()
    first = looked_at(recipe)
    held = files(tmp_path)[order[0]]  # of the validation part: no training picture changes, but the range does
    Image.fromarray(np.full((8, 8), 60_000, np.uint16)).save(held)
    second = looked_at(recipe)
    assert not torch.equal(first[1], second[1])
    assert first[0] != second[0]


# The other sources


@pytest.mark.parametrize("kind", ["jpeg", "sqlite", "fashion-mnist"])
def test_other_shipped_images_have_another_name(quick, monkeypatch, kind):
    """For example those of another SPEEDKIT_DATA."""
    recipe = quick.but(data=kind)
    seen = [looked_at(recipe), looked_at(recipe)]
    assert seen[0][0] == seen[1][0]
    images, labels = data.fashion_mnist("train")
    changed = images.clone()
    changed[data.split(60_000)[5]] ^= 255
    monkeypatch.setattr(data, "_fashion_mnist", lambda folder, part: (changed, labels))
    seen.append(looked_at(recipe))
    monkeypatch.setattr(tasks_data, "SPLIT_SEED", 7)
    seen.append(looked_at(recipe))
    monkeypatch.setattr(data, "VALIDATION", 300)
    seen += [looked_at(recipe), looked_at(recipe.but(subset=65)), looked_at(recipe.but(image_size=20))]
    check(seen)
    assert len({name for name, _ in seen}) == len(seen) - 1 - (kind == "fashion-mnist")  # 300 others to validate on
    if kind != "fashion-mnist":
        check([*seen, looked_at(recipe.but(stored_size=40))])


@pytest.mark.parametrize("kind", ["jpeg", "sqlite"])
def test_a_generated_set_says_which_images_it_was_made_of(quick, generated, monkeypatch, kind):
    run_through(data.load(quick.but(data=kind)))
    images, labels = data.fashion_mnist("train")
    monkeypatch.setattr(data, "_fashion_mnist", lambda folder, part: (255 - images, labels))
    run_through(data.load(quick.but(data=kind)))
    assert len(list(generated.glob(f"{kind}-*"))) == 2


def test_a_stored_picture_that_was_replaced_is_noticed(quick, generated):
    recipe = quick.but(data="jpeg")
    before = looked_at(recipe)
    one, other = sorted(generated.glob("jpeg-*/000/*.jpg"))[:2]
    keeping_times(one, lambda: one.write_bytes(other.read_bytes()))
    check([before, after := looked_at(recipe)])
    assert before[0] != after[0]


def test_torchvisions_sets(tmp_path):
    for name in ("one", "other"):
        write_mnist(tmp_path / name / "MNIST" / "raw", count=60)
    recipe = Recipe(data=f"torchvision:MNIST:{tmp_path / 'one'}", batch_size=4)
    seen = [looked_at(recipe), looked_at(recipe.but(subset=20)), looked_at(recipe.but(image_size=30))]
    assert looked_at(recipe)[0] == seen[0][0]
    path = tmp_path / "one" / "MNIST" / "raw" / "train-images-idx3-ubyte"
    content = bytearray(path.read_bytes())
    content[16 + 28 * 28 * data.split(60)[0] + 3] ^= 255
    keeping_times(path, lambda: path.write_bytes(content))
    seen += [looked_at(recipe), looked_at(recipe.but(data=f"torchvision:MNIST:{tmp_path / 'other'}"))]
    check(seen)
    assert len({name for name, _ in seen}) >= 4


@pytest.mark.parametrize("change", ["decoder", "torch", "code"])
def test_another_version_of_what_makes_the_pixels_has_another_name(pictures, quick, monkeypatch, tmp_path, change):
    recipe = quick if change == "torch" else Recipe(data=f"folder:{pictures}", image_size=16, batch_size=8)
    before, _ = looked_at(recipe)
    if change == "decoder":
        monkeypatch.setattr(PIL, "__version__", "99.0")
    elif change == "torch":
        monkeypatch.setattr(torch, "__version__", "99.0")
    else:
        shutil.copytree(Path(cache_file.__file__).parent, tmp_path / "tasks")
        with open(tmp_path / "tasks" / "decoding.py", "a") as file:
            file.write("\n# another rounding\n")
        monkeypatch.setattr(cache_file, "__file__", str(tmp_path / "tasks" / "cache_file.py"))
    assert looked_at(recipe)[0] != before


def test_a_source_that_does_not_say_what_decides_its_pixels_shares_with_none():
    source = data.Source()
    assert cache_file.cache_name(source, (1, 2)) != cache_file.cache_name(source, (1, 2))


def test_a_digest_tells_parts_and_shapes_apart():
    assert cache_file.digest(b"ab", b"c") != cache_file.digest(b"a", b"bc")
    images = torch.arange(12, dtype=torch.uint8)
    assert cache_file.digest(images) != cache_file.digest(images.flip(0))
    one, other = (data.Arrays(images.view(shape), torch.zeros(2)) for shape in ((3, 1, 2, 2), (1, 3, 2, 2)))
    assert cache_file.cache_name(one, (1,)) != cache_file.cache_name(other, (1,))
    assert cache_file.cache_name(one, (1,)) == cache_file.cache_name(one, (1,))


# Damage


def stored(tmp_path, shape=(6, 1, 4, 4)):
    cache = caching.Disk(tmp_path / "c", shape)
    for position in range(shape[0]):
        cache.keep(position, torch.full(shape[1:], position + 1, dtype=torch.uint8))
    return cache.path


def read_through(path, shape=(6, 1, 4, 4)):
    """All images as a run reads them, and the positions that it had to read from the source."""
    missed = []

    def read(position):
        missed.append(position)
        return torch.full(shape[1:], position + 1, dtype=torch.uint8)

    cache = caching.Disk(path, shape)
    images, reads = caching.lookup(cache, torch.arange(shape[0]), read)
    assert reads == len(missed)
    again, reads = caching.lookup(cache, torch.arange(shape[0]), read)
    assert reads == 0
    assert torch.equal(images, again)
    assert images.flatten(1)[:, 0].tolist() == [position + 1 for position in range(shape[0])]
    assert (images.flatten(1) == images.flatten(1)[:, :1]).all()
    return missed


def test_a_whole_file_is_read_again(tmp_path):
    assert read_through(stored(tmp_path)) == []


def cut(content):
    return content[:-1]


def emptied(content):
    return b""


def longer(content):
    return content + b"\x01" * 17


def flags_only(content):
    return content[:24]


def zeros(content):
    return bytes(len(content))


def ones(content):
    return b"\x01" * len(content)


def noise(content):
    return np.random.default_rng(0).integers(0, 256, len(content), np.uint8).tobytes()


@pytest.mark.parametrize("harm", [cut, emptied, longer, flags_only, zeros, ones, noise])
def test_a_damaged_file_is_made_again(tmp_path, harm):
    path = stored(tmp_path)
    path.write_bytes(harm(path.read_bytes()))
    assert read_through(path) == list(range(6))
    assert read_through(path) == []


@pytest.mark.parametrize("place", [0, 23, 24, 24 + 5 * 16 + 3, 24 + 6 * 16 - 1])
def test_one_wrong_byte_costs_one_image(tmp_path, place):
    path = stored(tmp_path)
    content = bytearray(path.read_bytes())
    content[place] ^= 4
    path.write_bytes(content)
    damaged = place // 4 if place < 24 else (place - 24) // 16
    assert read_through(path) == [damaged]
    assert read_through(path) == []


def test_images_that_changed_places_are_noticed(tmp_path):
    path = stored(tmp_path)
    content = path.read_bytes()
    sums, images = [content[i : i + 4] for i in range(0, 24, 4)], [content[24 + 16 * i : 40 + 16 * i] for i in range(6)]
    path.write_bytes(b"".join(reversed(sums)) + b"".join(reversed(images)))
    assert read_through(path) == list(range(6))


def test_a_folder_or_a_link_in_its_place(tmp_path):
    (tmp_path / "c").symlink_to(tmp_path / "gone")
    assert read_through(tmp_path / "c") == list(range(6))
    (tmp_path / "d").mkdir()
    with pytest.raises(OSError, match="d"):
        caching.Disk(tmp_path / "d", (6, 1, 4, 4))


def test_a_run_goes_on_with_a_file_that_another_one_replaces(tmp_path):
    path = stored(tmp_path)
    ours = caching.Disk(path, (6, 1, 4, 4))
    path.unlink()
    theirs = caching.Disk(path, (6, 1, 4, 4))
    assert all(ours.has(position) for position in range(6))
    assert not any(theirs.has(position) for position in range(6))


def test_half_a_file_is_never_seen(tmp_path, monkeypatch):
    """Another kernel that looks while the file is made finds none, or all of it."""
    seen = []
    reserve = os.posix_fallocate

    def looking(*arguments):
        seen.append((tmp_path / "c").exists())
        reserve(*arguments)
        seen.append((tmp_path / "c").exists())

    monkeypatch.setattr(os, "posix_fallocate", looking)
    caching.Disk(tmp_path / "c", (6, 1, 4, 4))
    assert seen == [False, False]
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


def test_a_full_disk_leaves_nothing_behind(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space left"):
        caching.Disk(tmp_path / "c", (6, 1, 4, 4))
    assert list(tmp_path.iterdir()) == []


FILL = """
import sys, torch
from speedkit.techniques import caching
print("ready", flush=True)
input()
cache = caching.Disk(sys.argv[1], (300, 3, 16, 16))
def read(position):
    return torch.full((3, 16, 16), position % 251, dtype=torch.uint8)
for start in range(0, 300, 20):
    images, _ = caching.lookup(cache, torch.arange(start, start + 20), read)
    assert images[:, 0, 0, 0].tolist() == [i % 251 for i in range(start, start + 20)]
print("right")
"""


def test_processes_that_make_and_fill_one_file_at_once(tmp_path):
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    command = [sys.executable, "-c", FILL, str(tmp_path / "c")]
    several = [subprocess.Popen(command, **pipes) for _ in range(3)]
    assert [process.stdout.readline() for process in several] == ["ready\n"] * 3
    for process in several:
        process.stdin.write("\n")
        process.stdin.flush()
    assert [process.communicate(timeout=60)[0] for process in several] == ["right\n"] * 3
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


def test_a_worker_maps_the_same_file(tmp_path):
    cache = caching.Disk(stored(tmp_path), (6, 1, 4, 4))
    sent = pickle.loads(pickle.dumps(cache))
    assert len(pickle.dumps(cache)) < 1000
    sent.keep(2, torch.full((1, 4, 4), 99, dtype=torch.uint8))
    assert cache.has(2)
    assert cache.samples[2].unique().tolist() == [99]


def test_a_run_with_a_damaged_cache_trains_on_the_right_pixels(quick, generated):
    recipe = quick.but(cache="disk", data="jpeg")
    found = run_through(data.load(recipe))[1]
    plain = torch.stack([found.train.read(i) for i in range(64)])
    for harm in (noise, cut, zeros):
        cache = loading.make_cache(recipe, found)
        caching.lookup(cache, torch.arange(64), found.train.read)
        cache.path.write_bytes(harm(cache.path.read_bytes())) if harm is not cut else os.truncate(cache.path, 5000)
        images, _ = caching.lookup(loading.make_cache(recipe, found), torch.arange(64), found.train.read)
        assert torch.equal(images, plain)
