"""Caching: decode a sample at its first use, store the result, and read that in later epochs.

The cache comes *before* the random augmentation; after it, the first random variant would be frozen. A cache in RAM
is one block of shared memory: a plain list inside a dataset would be filled once per worker.
"""

import os
import tempfile
import zlib
from pathlib import Path

import numpy as np
import torch


class Ram:
    """Decoded samples in memory: ``samples`` [N, ...], images for example, and ``filled`` bool [N], for all workers."""

    def __init__(self, shape: tuple, shared: bool, dtype=torch.uint8):
        self.samples = torch.empty(shape, dtype=dtype)
        self.filled = torch.zeros(shape[0], dtype=torch.bool)
        if shared:
            self.samples.share_memory_()
            self.filled.share_memory_()

    def has(self, position: int) -> bool:
        return bool(self.filled[position])

    def keep(self, position: int, sample: torch.Tensor):
        self.samples[position], self.filled[position] = sample, True


class Disk(Ram):
    """Like :class:`Ram`, but in a memory-mapped file that the next run finds filled. ``sums``: one for each sample."""

    def __init__(self, path: Path, shape: tuple, dtype=torch.uint8):
        """Raises OSError if the disk has no room for the whole file."""
        self.path, self.shape, self.dtype, count = Path(path), tuple(shape), dtype, shape[0]
        size = 4 * count + int(np.prod(shape)) * dtype.itemsize
        if not self.path.is_file() or self.path.stat().st_size != size:
            with tempfile.TemporaryDirectory(dir=self.path.parent) as folder:  # no other process may find half of it
                with open(Path(folder, "new"), "wb") as file:
                    getattr(os, "posix_fallocate", lambda *_: None)(file.fileno(), 0, size)
                    file.truncate(size)
                os.replace(file.name, self.path)
        block = np.memmap(self.path, np.uint8, mode="r+")
        self.sums, self.filled = block[: 4 * count].view(np.uint32), torch.zeros(count, dtype=torch.bool)
        self.samples = torch.from_numpy(block[4 * count :]).view(dtype).view(self.shape)

    def __reduce__(self):
        return Disk, (self.path, self.shape, self.dtype)  # a worker maps the file itself

    def has(self, position: int) -> bool:
        if not self.filled[position]:  # one that was damaged, or never stored, does not match its checksum
            self.filled[position] = bool(self.sums[position] == self._sum(position))
        return super().has(position)

    def keep(self, position: int, sample: torch.Tensor):
        super().keep(position, sample)
        self.sums[position] = self._sum(position)

    def _sum(self, position):
        return zlib.crc32(self.samples[position].numpy(), position) or 1


def lookup(cache, positions: torch.Tensor, read) -> tuple[torch.Tensor, int]:
    """The samples at ``positions`` (int64 [B]), [B, ...], and how many had to be read from the source.

    read: position -> sample [...], called for each one that is not in the cache. ``cache`` may be None.
    """
    capacity = len(cache.filled) if cache else 0
    where = positions.numpy()
    if capacity and where.max() < capacity and cache.filled.numpy()[where].all():
        # NumPy copies whole samples; torch's indexing copies number by number, and its threads are slow to wake.
        return torch.from_numpy(cache.samples.numpy()[where]), 0
    samples, reads = [], 0
    for position in positions.tolist():
        if position < capacity and cache.has(position):
            samples.append(cache.samples[position])
            continue
        samples.append(read(position))
        reads += 1
        if position < capacity:
            cache.keep(position, samples[-1])
    return torch.stack(samples), reads
