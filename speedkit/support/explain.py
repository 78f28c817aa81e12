"""What to do about errors of torch and of the system that a learner is likely to meet."""

import errno
import re

from speedkit.support.messages import _, message_of
from speedkit.support.units import size


def advice(error: BaseException) -> str:
    """What went wrong and what to do, in one sentence of the current language; "" if the cause is not known."""
    words = message_of(error)
    if "shared memory" in words and (denied := re.search(r"(\w[\w -]+) \((1|2|13|24|30)\)", words)):
        return _shared_memory_denied(denied[1], int(denied[2]))
    if "shared memory" in words or ("No space left" in words and "/torch_" in words):
        return _(
            "Shared memory (/dev/shm) is full: choose workers=0 or cache='disk', or give the container more of it "
            "(docker run --shm-size=2g)."
        )
    if "DataLoader worker" in words or "Pin memory thread" in words:
        how = re.search(r"killed by signal: [\w ]+", words)
        return _(
            "A worker process ended unexpectedly{how}: run again. If it happens again, the machine may be short of "
            "memory: choose fewer workers or smaller images.",
            how=f" ({how[0]})" if how else "",
        )
    if "DefaultCPUAllocator" in words:
        asked = re.search(r"allocate (\d+) bytes", words)
        more = " " + _("({amount} more was needed)", amount=size(float(asked[1]))) if asked else ""
        return _(
            "Main memory is used up{more}: lower the batch size or the image size, or take a smaller network.",
            more=more,
        )
    line = telling_line(words)
    if isinstance(error, MemoryError) or "out of memory" in line.lower() or "allocate memory" in line:
        what = line.split(". ")[0].rstrip(".")
        others = _of_others(words)
        if others:
            return _(
                "{what}: other programs hold {amount} of the GPU's memory. End them, or lower the batch size.",
                what=what,
                amount=others,
            )
        return _("{what}: lower the batch size or the image size, or take a smaller network.", what=what)
    return ""


def _shared_memory_denied(why, number):
    if number == errno.EMFILE:
        return _("This process may not open more files: choose fewer workers, or raise the limit (ulimit -n 4096).")
    return _(
        "Shared memory (/dev/shm) cannot be written ({why}): choose workers=0, or let this user write to /dev/shm.",
        why=why,
    )


def telling_line(words: str) -> str:
    """The line that says what happened: the last one of a worker's traceback, else the first."""
    lines = words.splitlines() or [""]
    return lines[-1] if "Original Traceback" in words else lines[0]


def _of_others(words):
    """How much of a GPU's memory other processes hold, by torch's message; "" if it is less than a quarter."""
    amounts = {}
    for name, before in {"all": "total capacity of", "free": "of which", "own": "this process has"}.items():
        found = re.search(rf"{before} (\d+\.\d+) ([KMG])iB", words)
        if not found:
            return ""
        amounts[name] = float(found[1]) * 2.0 ** {"K": 10, "M": 20, "G": 30}[found[2]]
    others = amounts["all"] - amounts["own"] - amounts["free"]
    return size(others) if others > amounts["all"] / 4 else ""
