"""Augmentation: random, within bounds, and the same again for the same seed, image and epoch."""

from collections import Counter

import pytest
import torch

from speedkit.techniques.augmentation import BatchCropAndFlip, CropAndFlip, Heavy, per_image

SHIFT = 3


def dotted(row=10, column=6, size=20):
    """A black image with one white pixel left of the middle."""
    image = torch.zeros(1, size, size, dtype=torch.uint8)
    image[0, row, column] = 255
    return image


def moved(image, row=10, column=6, size=20):
    """How far the white pixel was moved down and right, and whether the image was mirrored."""
    ((_, found_row, found_column),) = image.nonzero().tolist()
    mirrored = found_column >= size // 2
    if mirrored:
        found_column = size - 1 - found_column
    return found_row - row, found_column - column, mirrored


def movements_of_batches(seed, count=4000):
    images = torch.cat([dotted()[None], torch.zeros(1, 1, 20, 20, dtype=torch.uint8)])
    batch = BatchCropAndFlip(images, SHIFT)(torch.zeros(count, dtype=torch.int64), torch.Generator().manual_seed(seed))
    return [moved(image) for image in batch]


def movements_of_images(seed, count=4000):
    transform = CropAndFlip(SHIFT, seed)
    return [moved(transform(dotted(), key)) for key in range(count)]


@pytest.mark.parametrize("movements", [movements_of_images, movements_of_batches])
def test_shifts_are_bounded_and_even_and_half_are_mirrored(movements):
    """Each count is within five standard deviations of its binomial mean."""
    found = movements(seed=0)
    shifts = set(range(-SHIFT, SHIFT + 1))
    for direction in (0, 1):
        counts = Counter(movement[direction] for movement in found)
        assert set(counts) == shifts
        expected = len(found) / len(shifts)
        assert all(abs(count - expected) < 5 * expected**0.5 for count in counts.values())
    assert abs(sum(mirrored for *_, mirrored in found) - 2000) < 5 * 1000**0.5
    assert {down for down, _, _ in found[:200]} == {right for _, right, _ in found[:200]}  # drawn independently
    assert any(down != right for down, right, _ in found)


@pytest.mark.parametrize("name", ["light", "heavy"])
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 16, 16)])
def test_shape_and_type_stay(name, shape):
    image = torch.randint(0, 256, shape, dtype=torch.uint8)
    for key in range(20):
        result = per_image(name, 2, seed=0)(image, key)
        assert result.shape == shape
        assert result.dtype == torch.uint8


@pytest.mark.parametrize("name", ["light", "heavy"])
def test_seed_and_key_decide(name):
    image = torch.arange(28 * 28).reshape(1, 28, 28).to(torch.uint8)

    def variants(seed, keys):
        transform = per_image(name, 2, seed)
        return torch.stack([transform(image, key) for key in keys])

    assert torch.equal(variants(1, range(30)), variants(1, range(30)))
    assert torch.equal(variants(1, range(30)), variants(1, reversed(range(30))).flip(0))  # order does not matter
    assert not torch.equal(variants(1, range(30)), variants(2, range(30)))
    assert not torch.equal(variants(1, range(30)), variants(1, range(1000, 1030)))  # another epoch


def test_the_source_image_is_not_changed():
    image = torch.randint(0, 256, (1, 28, 28), dtype=torch.uint8)
    before = image.clone()
    for name in ("light", "heavy"):
        per_image(name, 2, seed=0)(image, 1).fill_(7)
    assert torch.equal(image, before)


def test_off_is_none():
    assert per_image("off", 2, 0) is None


def test_a_shift_of_zero_only_mirrors():
    image = torch.randint(0, 256, (1, 8, 8), dtype=torch.uint8)
    results = [CropAndFlip(0, seed=0)(image, key) for key in range(20)]
    assert all(torch.equal(result, image) or torch.equal(result, image.flip(-1)) for result in results)


def test_zeros_move_in():
    white = torch.full((1, 8, 8), 255, dtype=torch.uint8)
    assert any((CropAndFlip(2, seed=0)(white, key) == 0).any() for key in range(10))
    batch = BatchCropAndFlip(white[None], 2)(torch.zeros(50, dtype=torch.int64), torch.Generator())
    assert (batch == 0).any()
    assert set(batch.unique().tolist()) == {0, 255}


def test_a_batch_gathers_the_chosen_images():
    images = torch.arange(10, dtype=torch.uint8).view(-1, 1, 1, 1).expand(10, 3, 8, 8).contiguous() + 1
    asked = torch.tensor([3, 3, 9, 0, 5])
    batch = BatchCropAndFlip(images, 2)(asked, torch.Generator().manual_seed(0))
    assert batch.shape == (5, 3, 8, 8)
    assert batch.dtype == torch.uint8
    assert batch.amax((1, 2, 3)).tolist() == [4, 4, 10, 1, 6]


@pytest.mark.parametrize("shape", [(4, 3, 8, 6), (4, 1, 7, 7)])
def test_the_line_holds_every_window_of_every_image(shape):
    images = torch.randint(0, 256, shape, dtype=torch.uint8)
    batch = BatchCropAndFlip(images, 2)
    places = [
        (
            torch.tensor([image * batch.image + down * batch.row + right * batch.pixel]),
            (image, slice(None), down, right),
        )
        for image in range(8)
        for down in range(5)
        for right in range(5)
    ]
    assert all(torch.equal(batch.cut(place)[0], batch.windows[window]) for place, window in places)
    assert len(batch.line) == places[-1][0] + 1
    drawn = batch.draw(torch.tensor([[0, 1], [2, 3]]), torch.Generator())
    assert drawn.shape == (2, 2)
    assert {int(place) for place in drawn.flatten()} <= {int(place) for place, _ in places}


def test_every_image_of_a_batch_gets_its_own_window():
    batch = BatchCropAndFlip(dotted()[None], SHIFT)(torch.zeros(64, dtype=torch.int64), torch.Generator())
    assert len({moved(image) for image in batch}) > 10


def test_the_same_generator_gives_the_same_batch_again():
    assert movements_of_batches(5, 50) == movements_of_batches(5, 50)
    assert movements_of_batches(5, 50) != movements_of_batches(6, 50)


def test_heavy_leaves_the_global_generator_alone(as_found):
    image = torch.randint(0, 256, (3, 16, 16), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    heavy = Heavy(2, seed=3)
    first = [heavy(image, key) for key in range(5)]
    second = [heavy(image, key) for key in range(5)]
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_heavy_takes_a_batch_and_treats_its_images_alike():
    image = torch.randint(0, 256, (3, 16, 16), dtype=torch.uint8)
    heavy = Heavy(2, seed=0)
    for key in range(10):
        batch = heavy.rand_augment(image.expand(4, 3, 16, 16), key)
        assert batch.shape == (4, 3, 16, 16)
        assert all(torch.equal(batch[0], other) for other in batch)


def test_the_largest_seed_and_key_of_a_recipe_work():
    image = torch.zeros(1, 8, 8, dtype=torch.uint8)
    for name in ("light", "heavy"):
        assert per_image(name, 1, 2**31 - 1)(image, 10_000 * 10_000_000).shape == image.shape
