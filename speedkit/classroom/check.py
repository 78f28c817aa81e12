"""Is this machine ready for a workshop? ``python -m speedkit check`` says so, or what to fix."""

import contextlib
import math
import platform
import shutil
import tempfile
import time
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import psutil
import torch
from packaging.requirements import Requirement

from speedkit import gpu, hardware, loading
from speedkit.hardware import GIB, lines_of
from speedkit.lab import queue as queue_module
from speedkit.recipe import Recipe
from speedkit.run import Run
from speedkit.run_words import other_programs_note
from speedkit.support import settings, variables
from speedkit.support.errors import DataError, NotFinite
from speedkit.support.messages import _
from speedkit.support.units import number, size
from speedkit.tasks.images import fashion_mnist
from speedkit.train import train

GOOD, NOTE, FIX = "ok", "note", "fix"
DISK = 2**30  # bytes: more than enough for the generated sets of all lessons
SHARED = 256 * 2**20  # bytes of /dev/shm: more than enough for the workers of any lesson
TRIAL_S = 10
INSTALL = "run pip install -r requirements.txt in this environment"


class CheckResult(NamedTuple):
    """One thing that was checked. ``state``: "ok", "note" (it works, but know this) or "fix"."""

    state: str
    what: str
    sentence: str


def check(trial_s: float = TRIAL_S):
    """Checks everything that a lesson needs. A generator of :class:`CheckResult`, one per item.

    trial_s: seconds that the training at the end may take.
    """
    yield CheckResult(GOOD, "Python", platform.python_version())
    yield from packages(requirements())
    yield pictures()
    yield widgets()
    wrong = list(variables.refused())
    yield from (CheckResult(FIX, "variables", sentence) for sentence in wrong)
    if wrong:  # the rest depends on them
        return
    yield images()
    yield folder("generated images", settings.generated_folder(), "SPEEDKIT_GENERATED")
    yield folder("the learner's files", settings.learner_folder(), "SPEEDKIT_RUNS")
    yield shared_memory()
    yield accelerator()
    yield trial(trial_s)
    yield memory()
    yield queue()


def requirements() -> list[str]:
    """The requirements that the installed package declares; none if it is not installed."""
    with contextlib.suppress(metadata.PackageNotFoundError):
        return metadata.requires("speedkit") or []
    return []


def packages(required: list[str]):
    """Every required package: is it installed, in a version that is allowed? A generator of :class:`CheckResult`."""
    if not required:
        yield CheckResult(NOTE, "packages", f"which ones speedkit needs is not known here: {INSTALL}.")
    for wanted in map(Requirement, required):
        if wanted.marker is not None and not wanted.marker.evaluate():
            continue
        try:
            version = metadata.version(wanted.name)
        except metadata.PackageNotFoundError:
            yield CheckResult(FIX, wanted.name, f"is not installed: {INSTALL}.")
            continue
        if wanted.specifier.contains(version.partition("+")[0], prereleases=True):
            yield CheckResult(GOOD, wanted.name, version)
        else:
            yield CheckResult(FIX, wanted.name, f"{version} does not fit {wanted.specifier}: {INSTALL}.")


def pictures() -> CheckResult:
    """Whether torchvision fits torch: if it does not, loading it fails."""
    try:
        from torchvision.transforms import v2  # noqa: F401
    except Exception as error:
        return CheckResult(FIX, "torchvision", f"cannot be loaded ({_line(error)}): {INSTALL}.")
    return CheckResult(GOOD, "torchvision", "fits torch")


def widgets() -> CheckResult:
    """Whether JupyterLab will find the extension for widgets, without which a panel is only text."""
    from jupyter_core.paths import jupyter_path

    places = [Path(place) / "@jupyter-widgets" / "jupyterlab-manager" for place in jupyter_path("labextensions")]
    if any((place / "package.json").is_file() for place in places):
        return CheckResult(GOOD, "widgets", "JupyterLab has their extension")
    return CheckResult(
        FIX, "widgets", f"JupyterLab does not have their extension, so panels would be only text: {INSTALL}."
    )


def images() -> CheckResult:
    """The four files of Fashion-MNIST, by their SHA-256."""
    try:
        counts = [len(fashion_mnist(part)[1]) for part in ("train", "test")]
    except DataError as error:
        return CheckResult(FIX, "images", str(error))
    return CheckResult(GOOD, "images", f"{number(sum(counts))} of Fashion-MNIST, undamaged")


def folder(what: str, path: Path, variable: str) -> CheckResult:
    """Whether a folder can be written and has enough space. ``variable``: the environment variable that moves it."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
        free = shutil.disk_usage(path).free
    except OSError as error:
        advice = f"name another folder in {variable}."
        return CheckResult(FIX, what, f"{path} cannot be written ({_reason(error)}): {advice}")
    if free < DISK:
        return CheckResult(FIX, what, f"{path} has {size(free)} free; {size(DISK)} is needed: free some disk space.")
    return CheckResult(GOOD, what, f"{path} can be written, {size(free)} free")


def shared_memory() -> CheckResult:
    """The memory that worker processes share with the training."""
    free = loading.shared_memory_free()
    if free is None:
        return CheckResult(GOOD, "shared memory", "has no limit of its own here")
    try:
        with tempfile.TemporaryFile(dir="/dev/shm"):
            pass
    except OSError as error:
        advice = "let this user write there, or do without workers."
        return CheckResult(FIX, "shared memory", f"/dev/shm cannot be written ({_reason(error)}): {advice}")
    if free < SHARED:
        return CheckResult(
            FIX,
            "shared memory",
            f"/dev/shm has {size(free)} free, workers need up to {size(SHARED)}: start the container with "
            "--shm-size=2g, or do without workers.",
        )
    return CheckResult(GOOD, "shared memory", f"{size(free)} free in /dev/shm")


def accelerator() -> CheckResult:
    """The device that will train."""
    machine = hardware.machine()
    unused = machine.kind == "cpu" and gpu.choose()[1]  # there is a GPU, and something can be done about it
    state = FIX if unused else NOTE if machine.limits() else GOOD
    others = [gpu.problem(index) for index in range(torch.cuda.device_count())] if machine.kind == "cuda" else []
    sentences = [f"{machine.sentence()}.", *machine.limits(), *filter(None, others)]
    return CheckResult(NOTE if any(others) else state, "machine", " ".join(sentences))


def trial(trial_s: float) -> CheckResult:
    """A training of at most ``trial_s`` seconds, and how fast it was."""
    run = Run(Recipe(cache="ram", epochs=1000))
    try:
        end = None
        with contextlib.closing(train(run.recipe, run)) as records:
            for __ in records:
                end = end or time.monotonic() + trial_s
                if time.monotonic() > end:
                    break
    except (ValueError, NotFinite, OSError, RuntimeError) as error:
        return CheckResult(FIX, "a training", f"failed: {_line(error)}")
    speed = f"{number(run.mean('images_per_s'))} images per second over {run.count:,} steps"
    disturbed = other_programs_note(run.notes)
    return CheckResult(NOTE if disturbed else GOOD, "a training", f"{speed}. {disturbed}".strip(". ") + ".")


def memory() -> CheckResult:
    """How much memory this process takes after one training, to size a server for many users."""
    return CheckResult(GOOD, "memory", capacity(hardware.machine()) or "how much this process takes is not known here")


class Footprint(NamedTuple):
    """Bytes of main memory: a process's and its workers' own, and those of mapped files, which processes share.

    ``own`` is nan if it is not known. Only Linux reports ``shared``; elsewhere it is 0, and part of ``own``.
    """

    own: float
    shared: float


def footprint() -> Footprint:
    """What this process and its children take now. Memory that a worker shares with its parent counts twice."""
    own, shared = math.nan, 0.0
    with contextlib.suppress(psutil.Error, OSError):
        this = psutil.Process()
        own, shared = _resident(this)
        for child in this.children(recursive=True):
            with contextlib.suppress(psutil.Error, OSError):
                more, files = _resident(child)
                own, shared = own + more, max(shared, files)
    return Footprint(own, shared)


def _resident(process):
    """Bytes of a process's resident set: its own, and the pages of files, such as libraries."""
    files = 0.0
    for line in lines_of(f"/proc/{process.pid}/status"):
        if line.startswith("RssFile:"):
            files = float(line.split()[1]) * 1024
    return process.memory_info().rss - files, files


def capacity(machine: hardware.Machine) -> str:
    """How much main memory this process takes and how many processes like it fit, in a sentence; "" if not known."""
    own, shared = footprint()
    if not own > 0:
        return ""
    taken = {
        "own": f"{own / GIB:.2f} GiB",
        "shared": f"{shared / GIB:.2f} GiB",
        "memory": f"{machine.memory / GIB:.0f} GiB",
        "count": max(1, int((machine.memory - shared) / own)),
    }
    if shared:
        return _(
            "This process and its workers take {own} of main memory, plus {shared} of files that such processes share: "
            "{memory} hold about {count} of them.",
            **taken,
        )
    return _("This process and its workers take {own} of main memory: {memory} hold about {count} of them.", **taken)


def queue() -> CheckResult:
    """Whether comparisons can wait for each other, and who is training or waiting now."""
    try:
        place = queue_module.folder()
        trains, compares = queue_module.live_tickets(queue_module.RUN), queue_module.live_tickets(queue_module.WAIT)
        if place is not None:
            with tempfile.TemporaryFile(dir=place):
                pass
    except OSError as error:
        where = f"{error.filename or 'the folder of the queue'}: {_reason(error)}"
        return CheckResult(NOTE, "queue", f"comparisons do not wait for each other ({where}): see SPEEDKIT_TURNS.")
    if place is None:
        return CheckResult(NOTE, "queue", "comparisons do not wait for each other: SPEEDKIT_TURNS is off")
    there = ", ".join(f"{ticket.user} since {datetime.fromtimestamp(ticket.since):%H:%M}" for ticket in compares)
    now = f"comparisons running or waiting: {there or 'none'}; other processes that train: {len(trains)}"
    state = NOTE if trains or compares else GOOD
    return CheckResult(state, "queue", f"comparisons wait for their turn in {place}; {now}")


def main() -> int:
    """Prints every result; 0 if there is nothing to fix, else 1."""
    problems = 0
    for found in check():
        problems += found.state == FIX
        print(f"{found.state:>4}  {found.what}: {found.sentence}", flush=True)
    if problems:
        print(f"Not ready: {problems} problem{'s' if problems > 1 else ''} to fix (see above).")
    else:
        print("Ready.")
    return int(problems > 0)


def _line(error):
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _reason(error):
    return error.strerror or type(error).__name__
