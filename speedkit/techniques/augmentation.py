"""Augmentation on the fly: a new random variant of each image in every epoch, made during training and never stored.

A variant depends only on the seed, the epoch and the image, so it is the same with any number of workers.
Sources: Krizhevsky et al. 2012 (crop and flip); Cubuk et al. 2020, "RandAugment".
"""

import random

import torch
import torch.nn.functional as F


class CropAndFlip:
    """Shifts one image by up to ``shift`` pixels, zeros moving in, and mirrors it half the time."""

    def __init__(self, shift: int, seed: int):
        self.shift, self.seed = shift, seed

    def __call__(self, image: torch.Tensor, key: int) -> torch.Tensor:
        """image: uint8 [C, H, W]; key: a number for this image in this epoch."""
        draw = random.Random((self.seed << 48) + key)
        down, right = draw.randint(0, 2 * self.shift), draw.randint(0, 2 * self.shift)
        height, width = image.shape[-2:]
        image = F.pad(image, (self.shift,) * 4)
        image = image[..., down : down + height, right : right + width]
        return image.flip(-1) if draw.random() < 0.5 else image


class Heavy:
    """RandAugment with two operations at magnitude 9, then crop and flip: many times the work of a crop."""

    def __init__(self, shift: int, seed: int):
        from torchvision.transforms import v2  # imported here because it takes about as long as torch

        self.crop_and_flip, self.seed = CropAndFlip(shift, seed), seed
        self.transform = v2.RandAugment(num_ops=2, magnitude=9)

    def __call__(self, image: torch.Tensor, key: int) -> torch.Tensor:
        return self.crop_and_flip(self.rand_augment(image, key), key)

    def rand_augment(self, images: torch.Tensor, key: int) -> torch.Tensor:
        """images: uint8 [C, H, W], or a batch [B, C, H, W], whose images all get the same two operations."""
        with torch.random.fork_rng(devices=[]):  # torchvision draws from torch's global generator
            torch.default_generator.manual_seed((self.seed << 32) ^ key)
            return self.transform(images)


class BatchCropAndFlip:
    """Crop and flip for a whole batch, on the device that holds all images: one gather picks
    a window per image from padded and mirrored copies, which are made once."""

    def __init__(self, images: torch.Tensor, shift: int):
        """images: uint8 [N, C, H, W]."""
        self.count, self.shifts, (height, width) = len(images), 2 * shift + 1, images.shape[-2:]
        both = F.pad(torch.cat([images, images.flip(-1)]), (shift,) * 4)
        self.windows = both.unfold(2, height, 1).unfold(3, width, 1)  # every window, as a view
        # In ``line``, a window's index is the memory offset of its first pixel: one index, not three.
        self.image, channel, self.row, self.pixel = both.stride()
        places = (2 * self.count - 1) * self.image + 2 * shift * (self.row + self.pixel) + 1
        shape, strides = (places, *images.shape[1:]), (1, channel, self.row, self.pixel)
        self.line = both.as_strided(shape, strides)

    def draw(self, indices: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """A random window for each image in ``indices``: its index in ``line``, int64."""
        size = {"size": indices.shape, "device": indices.device, "generator": generator}
        mirrored = torch.randint(2, **size)
        down, right = torch.randint(self.shifts, **size), torch.randint(self.shifts, **size)
        image = (indices + mirrored * self.count) * self.image
        return image + down * self.row + right * self.pixel

    def cut(self, places: torch.Tensor) -> torch.Tensor:
        # On a CPU, index_select copies whole rows, where [places] copies pixel by pixel.
        on_cpu = places.device.type == "cpu"
        return self.line.index_select(0, places) if on_cpu else self.line[places]

    def __call__(self, indices: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """indices: int64 [B], on the images' device; returns uint8 [B, C, H, W]."""
        return self.cut(self.draw(indices, generator))


def per_image(name: str, shift: int, seed: int):
    """The transform that ``Recipe.augment`` names: a callable (image, key) -> image, or None for "off"."""
    return {"off": lambda *_: None, "light": CropAndFlip, "heavy": Heavy}[name](shift, seed)
