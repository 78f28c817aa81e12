"""Parallel loading: processes read, decode and augment the next batches while the device computes the current one.

Source: ``torch.utils.data.DataLoader``.
"""

import os
import signal
import threading
from contextlib import contextmanager
from multiprocessing import connection, parent_process

import torch
from torch.utils.data import DataLoader, get_worker_info


def loader(dataset, batches, workers: int, *, prefetch: int = 2, start_method: str = "auto", pin_memory: bool = False):
    """A DataLoader over ``dataset`` in the order of ``batches`` (lists of keys), with ``workers`` processes.

    The workers persist: they start once, not once per epoch. They must be able to import the
    class of ``dataset``, so it has to be defined in a module, not in a notebook cell.
    """
    options = {"batch_sampler": batches, "collate_fn": share_batch, "pin_memory": pin_memory, "num_workers": workers}
    options |= {"generator": torch.Generator()}  # else every epoch draws from torch's global one
    if workers:
        options |= {"persistent_workers": True, "prefetch_factor": prefetch}
        options |= {"multiprocessing_context": None if start_method == "auto" else start_method}
        options |= {"worker_init_fn": exit_with_parent}
    return DataLoader(dataset, **options)


def share_batch(batch):
    """Moves a batch to shared memory. The dataset has already gathered it, so there is nothing to collate.

    If /dev/shm is full, the error is raised here and reaches the training process. torch would move the batch a moment
    later, in a thread that can only print the error, and the training process would wait forever.
    """
    if get_worker_info() is not None:
        for part in batch:
            if isinstance(part, torch.Tensor):
                part.share_memory_()
    return batch


def exit_with_parent(worker: int):
    """Makes a worker ignore interrupts, and end as soon as the training process ends.

    A notebook's interrupt reaches the whole process group, but only the training process should act on it. If that
    process is killed, the worker must not wait for its own next check, up to five seconds later.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(parent_process().sentinel,), daemon=True).start()


def _end_with(sentinel):
    connection.wait([sentinel])
    os._exit(1)


def processes(loader) -> list:
    """The running worker processes of a loader."""
    return getattr(getattr(loader, "_iterator", None), "_workers", [])


def stop(loader):
    """Ends the worker processes now, rather than when Python collects the loader."""
    iterator = getattr(loader, "_iterator", None)
    if iterator is not None:
        iterator._shutdown_workers()
        loader._iterator = None


@contextmanager
def threads_for_training(workers: int, cores: int, most: int | None = None):
    """Leaves one core to each worker: torch gets ``cores - workers`` threads, at least one, and at most ``most``."""
    found = torch.get_num_threads()
    torch.set_num_threads(max(1, min(cores - workers, most or cores)))
    try:
        yield
    finally:
        torch.set_num_threads(found)
