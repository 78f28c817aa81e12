"""The file of a disk cache. Its name is made of all that decides the pixels in it."""

import contextlib
import hashlib
import math
import os
import shutil
import time
from pathlib import Path

import numpy as np
import torch

from speedkit.support.errors import DataError
from speedkit.support.messages import N_, Message
from speedkit.support.settings import generated_folder
from speedkit.support.units import size
from speedkit.techniques import caching

TICK = 0.02  # seconds: a file that changes twice within one tick of the system's clock keeps its time


def cache_name(source, shape) -> str:
    """The name for the first ``shape[0]`` images of a source: any change that may change a pixel changes it.

    The kit's own code is such a change, too.
    """
    code = [path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py"))]
    known = [(*part.shape, digest(part)) if isinstance(part, torch.Tensor) else part for part in source.identity()]
    parts = type(source).__qualname__, known, tuple(shape), str(source.dtype), digest(*code)
    return digest(repr(parts).encode())[:32]


def disk_cache(source, shape) -> caching.Disk:
    """The disk cache for the first images of a source, with what earlier runs stored in it.

    Raises:
        DataError: the file cannot be made; the message says what to do.
    """
    path = generated_folder() / "cache" / f"{cache_name(source, shape)}.cache"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return caching.Disk(path, shape, source.dtype)
    except (OSError, ValueError) as error:
        words = N_(
            "The disk cache {path} of {size} could not be made ({why}): free some disk space, or name a folder that "
            "can be written in the environment variable SPEEDKIT_GENERATED."
        )
        needed = size(math.prod(shape) * source.dtype.itemsize)
        why = getattr(error, "strerror", None) or error
        raise DataError(Message(words, path=path, size=needed, why=why)) from error


def clear_disk_cache():
    """Deletes every disk cache, so that the next run with ``cache="disk"`` starts cold."""
    shutil.rmtree(generated_folder() / "cache", ignore_errors=True)


def refuse_if_too_large(shape, dtype, free: int | None):
    """Raises DataError if a cache of this shape does not fit into shared memory with so many bytes free."""
    needed = shape[0] + math.prod(shape) * dtype.itemsize
    if free is not None and needed > free:
        words = N_(
            "A shared cache of {size} does not fit into /dev/shm ({free} free): use cache='disk' or workers=0, or give "
            "the container more shared memory (docker run --shm-size=2g)."
        )
        raise DataError(Message(words, size=size(needed), free=size(free)))


def digest(*parts) -> str:
    """The SHA-256 of bytes, arrays and CPU tensors, one after the other."""
    total = hashlib.sha256()
    for part in parts:
        part = part if isinstance(part, bytes) else np.ascontiguousarray(part)
        total.update(f"{memoryview(part).nbytes}:".encode())
        total.update(part)
    return total.hexdigest()


def stamps(paths) -> str:
    """A digest of the names, in their order, and of all that the system changes with the content of a file.

    The time of the last change of a file cannot be set by a copy or an archive, as that of its content can.
    """
    total, newest = hashlib.sha256(), 0
    for path in paths:
        stat = None
        with contextlib.suppress(OSError):  # a file that is gone is named when it is read
            stat = os.stat(path)
            newest = max(newest, stat.st_ctime_ns, stat.st_mtime_ns)
        parts = stat and (stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
        total.update(f"{os.fspath(path)!r} {parts}\n".encode())
    if abs(time.time() - newest / 1e9) < TICK:
        time.sleep(TICK)
    return total.hexdigest()
