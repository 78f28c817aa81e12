"""Caching: decode an image at its first use, store the pixels, and read those in later epochs.

The cache comes *before* the random augmentation; after it, the first random variant would be frozen. A cache in RAM
is one block of shared memory: a plain list inside a dataset would be filled once per worker.
"""

import os
from pathlib import Path

import numpy as np
import torch


class Ram:
    """Decoded images in memory: ``images`` uint8 [N, C, H, W] and ``filled`` bool [N], shared by all workers."""

    def __init__(self, shape: tuple, shared: bool):
        self.images = torch.empty(shape, dtype=torch.uint8)
        self.filled = torch.zeros(shape[0], dtype=torch.bool)
        if shared:
            self.images.share_memory_()
            self.filled.share_memory_()


class Disk:
    """Like :class:`Ram`, but in a memory-mapped file, which the next run finds already filled."""

    def __init__(self, path: Path, shape: tuple):
        """Raises OSError if the disk has no room for the whole file."""
        self.path, self.shape = Path(path), tuple(shape)
        size = shape[0] + int(np.prod(shape))
        with open(path, "ab") as file:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
            file.truncate(size)
        self._map()

    def _map(self):
        count = self.shape[0]
        block = np.memmap(self.path, np.uint8, mode="r+")
        self.filled = torch.from_numpy(block[:count].view(bool))
        self.images = torch.from_numpy(block[count:].reshape(self.shape))

    def __getstate__(self):
        return {"path": self.path, "shape": self.shape}  # a worker maps the file itself

    def __setstate__(self, state):
        self.__dict__ |= state
        self._map()


def lookup(cache, positions: torch.Tensor, read) -> tuple[torch.Tensor, int]:
    """The images at ``positions`` (int64 [B]) as uint8 [B, C, H, W], and how many had to be read from the source.

    read: position -> uint8 [C, H, W], called for each image that is not in the cache. ``cache`` may be None.
    """
    capacity = len(cache.filled) if cache else 0
    where = positions.numpy()
    if capacity and where.max() < capacity and cache.filled.numpy()[where].all():
        # NumPy copies whole images; torch's indexing copies pixel by pixel, and its threads are slow to wake.
        return torch.from_numpy(cache.images.numpy()[where]), 0
    images, reads = [], 0
    for position in positions.tolist():
        if position < capacity and cache.filled[position]:
            images.append(cache.images[position])
            continue
        images.append(read(position))
        reads += 1
        if position < capacity:
            cache.images[position] = images[-1]
            cache.filled[position] = True
    return torch.stack(images), reads
