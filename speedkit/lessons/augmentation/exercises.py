"""Exercises on augmentation: keep the label, count the bytes."""

import torch
import torch.nn.functional as F

from speedkit.lessons.exercise import Exercise, WrongAnswer, call, choice, is_function, number_question, tensor

_SHIFT = 2
_CALLS = 32


def _images():
    """32 images of noise without zeros, so that every variant of every image can be told from all others."""
    return torch.randint(1, 256, (32, 1, 9, 9), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def _shifted(images, shift):
    """Every shift of every image, zeros moving in: [B, (2 shift + 1)², C, H, W]."""
    height, width = images.shape[-2:]
    windows = F.pad(images, (shift,) * 4).unfold(2, height, 1).unfold(3, width, 1)
    return windows.permute(0, 2, 3, 1, 4, 5).flatten(1, 2)


def _rolled(images, shift):
    places = range(-shift, shift + 1)
    return torch.stack([images.roll((down, right), (-2, -1)) for down in places for right in places], dim=1)


def _found(results, variants):
    """For each result, whether it is a variant of its own image [B], and which one, or 0 [B]."""
    equal = (results[:, None] == variants).flatten(2).all(-1)
    return equal.any(1), equal.int().argmax(1)


def _judge_crop_and_flip(answer):
    is_function(answer)
    with torch.random.fork_rng(devices=[]):  # a check leaves torch's generator as it was
        return _judged(answer)


def _judged(answer):
    images = _images()
    plain = _shifted(images, _SHIFT)
    variants = torch.cat([plain, plain.flip(-1)], dim=1)
    drawn = []
    for _ in range(_CALLS):
        given = images.clone()
        results = tensor(call(answer, given, _SHIFT), images)
        if not torch.equal(given, images):
            raise WrongAnswer(
                "Your function changes the images it was given. The next epoch would start from the changed ones."
            )
        found, which = _found(results, variants)
        if not found.all():
            raise WrongAnswer(_why_not(results, images, found))
        drawn.append(which)
    which = torch.stack(drawn)
    flipped, place = which >= plain.shape[1], which % plain.shape[1]
    middle = plain.shape[1] // 2
    if (which == which[0]).all() and not (which == which[0, 0]).all():
        raise WrongAnswer(
            "A second call gives the same variants again, so every epoch would see the same images. Do not fix a seed."
        )
    if (which == which[:, :1]).all() and not (which == which[0, 0]).all():
        raise WrongAnswer("One draw serves the whole batch. Draw a shift and a flip for each image.")
    if (flipped == flipped[0, 0]).all():
        raise WrongAnswer("All images are mirrored." if flipped.all() else "No image is ever mirrored left to right.")
    if (place == place[0, 0]).all():
        raise WrongAnswer(
            "No image is ever shifted." if place[0, 0] == middle else "All images are shifted the same way."
        )
    if (flipped == flipped[:, :1]).all():
        raise WrongAnswer("Either the whole batch is mirrored or none of it: draw the flip for each image.")
    if (place == place[:, :1]).all():
        raise WrongAnswer("The whole batch is shifted the same way: draw the shift for each image.")
    # With 1,024 draws, a fair coin falls outside this range in fewer than one of 10³⁰ checks.
    if not 0.3 < flipped.float().mean() < 0.7:
        raise WrongAnswer(f"{flipped.float().mean():.0%} of the images are mirrored, and half of them should be.")
    rows, columns = (place // (2 * _SHIFT + 1)).unique(), (place % (2 * _SHIFT + 1)).unique()
    if min(len(rows), len(columns)) == 1:
        raise WrongAnswer("It shifts in one direction only. Shift up and down as well as left and right.")
    # With 1,024 draws and every shift equally likely, no shift is missing.
    if min(len(rows), len(columns)) < 2 * _SHIFT + 1:
        raise WrongAnswer(f"Some shifts never occur. Draw from -{_SHIFT} to {_SHIFT} pixels, both ends included.")
    return "Each image gets its own random variant, and a new one at every call."


def _why_not(results, images, found):
    """The feedback on results that are not allowed variants of their images."""
    odd, own = results[~found], images[~found]

    def any_of(*variants):
        return _found(odd, torch.cat([v for one in variants for v in (one, one.flip(-1))], dim=1))[0].any()

    if any_of(_shifted(own.flip(-2), _SHIFT)):
        return "Some images are upside down, which can change the label. Mirror left to right: flip the last dimension."
    if any_of(_rolled(own, _SHIFT)):
        return "Pixels that leave on one side come in on the other. Pad with zeros before you crop."
    if any_of(_shifted(own, 2 * _SHIFT + 1)):
        return (
            "Some images are shifted by more than `shift` pixels: pad by `shift`, draw corners from 0 to `2 * shift`."
        )
    everyone = _shifted(images, _SHIFT)
    anyone = torch.cat([everyone, everyone.flip(-1)], dim=1).flatten(0, 1)
    if _found(odd, anyone[None].expand(len(odd), *anyone.shape))[0].any():
        return "Some images have changed places within the batch, so their labels would be those of other images."
    return "Some results are neither shifted nor mirrored copies of their images. Does the label still fit them?"


crop_and_flip = Exercise(
    "Write `crop_and_flip(images, shift)`. `images` is a uint8 tensor of shape [B, C, H, W]; return a new tensor of "
    "the same shape and type. Shift each image by a random number of pixels from -shift to shift, both vertically and "
    "horizontally, with zeros moving in. Mirror each image left to right half the time. Every image gets its own "
    "random numbers.",
    _judge_crop_and_flip,
    (
        "Pad all images by `shift` with `F.pad(images, (shift,) * 4)`, and cut a window of the old size out of each.",
        "Draw the corner of each window: `torch.randint(2 * shift + 1, (2,))`. Mirror with `.flip(-1)`.",
    ),
    """def crop_and_flip(images, shift):
    height, width = images.shape[-2:]
    padded = torch.nn.functional.pad(images, (shift,) * 4)
    results = torch.empty_like(images)
    for i in range(len(images)):
        down, right = torch.randint(2 * shift + 1, (2,)).tolist()
        window = padded[i, :, down : down + height, right : right + width]
        results[i] = window.flip(-1) if torch.rand(()) < 0.5 else window
    return results""",
)

copies_bytes = number_question(
    "You have 2,000 images of 28 × 28 pixels, with one byte per pixel. Augmenting on the fly stores only these images. "
    "The other way stores ten augmented copies of each image as well. How many *bytes* more does it take?",
    15_680_000,
    "10 × 2,000 × 28 × 28 bytes. On the fly saves all of them, but nothing compared with storing the images alone.",
    {
        17_248_000: "That includes the images themselves, which both ways have to store. How many bytes *more*?",
        1_568_000: "That is one copy of each image. There are ten.",
        14_112_000: "That is nine copies. The ten copies are stored in addition to the images.",
        62_720_000: "That is four bytes per pixel, as in fp32. These images are uint8: one byte per pixel.",
        125_440_000: "That is in bits. A byte has eight of them.",
        15.68: "That is in megabytes. Give the answer in bytes.",
        15_680: "That is in kilobytes. Give the answer in bytes.",
        20_000: "That is the number of copies. How many bytes does each copy take?",
    },
    ("How many bytes does one image take? How many copies are there in all?",),
)

changes_label = choice(
    "The images are handwritten digits, 0 to 9. Which of these is most likely to change the label?",
    "c",
    {
        "a": (
            "Shift by one pixel.",
            "A digit one pixel further to the left is the same. Which change would make *you* read another digit?",
        ),
        "b": (
            "A little more contrast.",
            "The strokes stay where they are. Which change would make *you* read another digit?",
        ),
        "c": (
            "Turn by 180 degrees.",
            "A 6 becomes a 9. Whether a transform keeps the label depends on the classes, not only on the transform.",
        ),
        "d": (
            "Turn by 3 degrees.",
            "Many people's handwriting is more slanted than that. Which change would make *you* read another digit?",
        ),
    },
    ("Write a 6 on a piece of paper and try all four.",),
)
