"""Parallel loading: processes that read, decode and augment the next batches while the device computes this one.

Source: ``torch.utils.data.DataLoader``.
"""

import os
import signal
import threading
import warnings
from contextlib import contextmanager
from multiprocessing import connection, parent_process

import torch
from torch.utils.data import DataLoader, get_worker_info

# Of more workers than cores torch warns twice, in red and with a path. The kit says so itself, in the notes of a run.
warnings.filterwarnings("ignore", "This DataLoader will create")


def loader(dataset, batches, workers: int, *, prefetch: int = 2, start_method: str = "auto", pin_memory: bool = False):
    """A DataLoader over ``dataset`` in the order of ``batches`` (lists of keys), ``workers`` processes beside it.

    The workers persist: they are started once, not once an epoch. ``dataset`` must be importable by them, so its
    class lives in a module, never in a notebook's cell.
    """
    options = {"batch_sampler": batches, "collate_fn": share_batch, "pin_memory": pin_memory, "num_workers": workers}
    options |= {"generator": torch.Generator()}  # else it draws from torch's global one at every epoch
    if workers:
        options |= {"persistent_workers": True, "prefetch_factor": prefetch}
        options |= {"multiprocessing_context": None if start_method == "auto" else start_method}
        options |= {"worker_init_fn": exit_with_parent}
    return DataLoader(dataset, **options)


def share_batch(batch):
    """The dataset gathers whole batches itself: nothing is left to collate, only to put where the training finds it.

    Where /dev/shm is full, the error is raised here and reaches the training. torch itself would do the same a moment
    later, in a thread that can only print the error, and the training would wait for ever.
    """
    if get_worker_info() is not None:
        for part in batch:
            if isinstance(part, torch.Tensor):
                part.share_memory_()
    return batch


def exit_with_parent(worker: int):
    """A notebook's interrupt reaches the whole process group, but only the training process decides what to do.

    If that is killed, the worker ends at once, and not when it next looks, up to five seconds later.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(parent_process().sentinel,), daemon=True).start()


def _end_with(sentinel):
    connection.wait([sentinel])
    os._exit(1)


def processes(loader) -> list:
    """The worker processes that are running for a loader."""
    return getattr(getattr(loader, "_iterator", None), "_workers", [])


def stop(loader):
    """Ends the worker processes now, and not when Python gets to collecting the loader."""
    iterator = getattr(loader, "_iterator", None)
    if iterator is not None:
        iterator._shutdown_workers()
        loader._iterator = None


@contextmanager
def threads_beside(workers: int, cores: int):
    """Leaves one core to each worker: torch computes with ``cores - workers`` threads, at least one."""
    found = torch.get_num_threads()
    torch.set_num_threads(max(1, cores - workers))
    try:
        yield
    finally:
        torch.set_num_threads(found)
