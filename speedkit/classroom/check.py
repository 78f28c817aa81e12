"""Is this machine ready for a workshop? ``python -m speedkit check`` says so, or what to mend."""

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
from packaging.requirements import Requirement

from speedkit import hardware, loading
from speedkit.hardware import GIB, lines_of
from speedkit.lab import queue as turns
from speedkit.meter import other_programs_note
from speedkit.recipe import Recipe
from speedkit.run import Run
from speedkit.support import errors, settings
from speedkit.support.errors import NotFinite
from speedkit.support.messages import _
from speedkit.support.units import number, size
from speedkit.tasks import images as data
from speedkit.train import train

GOOD, NOTE, FIX = "ok", "note", "mend"
DISK = 2**30  # bytes free that the generated sets of all lessons fit in with room to spare
SHARED = 256 * 2**20  # bytes of /dev/shm that the lessons' workers need at most, with room to spare
TRIAL_S = 10
INSTALL = "run pip install -r requirements.txt in this environment"


class CheckResult(NamedTuple):
    """One thing that was looked at: ``state`` is "ok", "note" (works, but know this) or "mend"."""

    state: str
    what: str
    sentence: str


def check(trial_s: float = TRIAL_S):
    """Looks at everything that a lesson needs. A generator of :class:`Found`, one for each thing looked at.

    trial_s: seconds that the training at the end may take.
    """
    yield CheckResult(GOOD, "Python", platform.python_version())
    yield from packages(settings.REPOSITORY / "requirements.txt")
    yield pictures()
    yield widgets()
    yield images()
    for what, folder in {
        "generated images": settings.generated_folder(),
        "what a learner keeps": settings.learner_folder(),
    }.items():
        yield room(what, folder)
    yield shared_memory()
    yield accelerator()
    yield trial(trial_s)
    yield kernels()
    yield queue()


def packages(requirements: Path):
    """Every package that ``requirements`` names, against the versions that it allows."""
    for line in requirements.read_text(encoding="utf-8").splitlines():
        line = line.partition("#")[0].strip()
        if not line or line.startswith("-"):
            continue
        wanted = Requirement(line)
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
    """Whether torchvision fits torch: where it does not, that shows when it is loaded."""
    try:
        from torchvision.transforms import v2  # noqa: F401
    except Exception as error:
        return CheckResult(FIX, "torchvision", f"cannot be loaded ({_line(error)}): {INSTALL}.")
    return CheckResult(GOOD, "torchvision", "fits torch")


def widgets() -> CheckResult:
    """Whether JupyterLab will find the widgets' extension, without which a panel is text only."""
    from jupyter_core.paths import jupyter_path

    places = [Path(place) / "@jupyter-widgets" / "jupyterlab-manager" for place in jupyter_path("labextensions")]
    if any((place / "package.json").is_file() for place in places):
        return CheckResult(GOOD, "widgets", "JupyterLab has their extension")
    return CheckResult(FIX, "widgets", f"JupyterLab does not have their extension, so panels would be text: {INSTALL}.")


def images() -> CheckResult:
    """The four files of Fashion-MNIST, by their SHA-256."""
    try:
        counts = [len(data.fashion_mnist(part)[1]) for part in ("train", "test")]
    except errors.DataError as error:
        return CheckResult(FIX, "images", str(error))
    return CheckResult(GOOD, "images", f"{number(sum(counts))} of Fashion-MNIST, undamaged")


def room(what: str, folder: Path) -> CheckResult:
    """Whether a folder can be written, and has room."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
        free = shutil.disk_usage(folder).free
    except OSError as error:
        name = "SPEEDKIT_GENERATED" if folder == settings.generated_folder() else "SPEEDKIT_RUNS"
        reason = error.strerror or type(error).__name__
        return CheckResult(FIX, what, f"{folder} cannot be written ({reason}): name another folder in {name}.")
    if free < DISK:
        return CheckResult(FIX, what, f"{folder} has {size(free)} free, {size(DISK)} are needed: free some disk.")
    return CheckResult(GOOD, what, f"{folder} can be written, {size(free)} free")


def shared_memory() -> CheckResult:
    """Memory that worker processes share with the training."""
    free = loading.shared_memory_free()
    if free is None:
        return CheckResult(GOOD, "shared memory", "has no limit of its own here")
    if free < SHARED:
        return CheckResult(
            FIX,
            "shared memory",
            f"/dev/shm has {size(free)} free, workers need up to {size(SHARED)}: start the container with "
            "--shm-size=2g, or do without workers.",
        )
    return CheckResult(GOOD, "shared memory", f"{size(free)} free in /dev/shm")


def accelerator() -> CheckResult:
    """What the training will run on."""
    machine = hardware.machine()
    state = NOTE if machine.limits() else GOOD
    return CheckResult(state, "machine", " ".join([f"{machine.sentence()}.", *machine.limits()]))


def trial(trial_s: float) -> CheckResult:
    """A training of so many seconds at most, and how fast it went."""
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
    said = f"{number(run.mean('images_per_s'))} images a second over {run.count:,} steps"
    disturbed = other_programs_note(run.notes)
    return CheckResult(NOTE if disturbed else GOOD, "a training", f"{said}. {disturbed}".strip(". ") + ".")


def kernels() -> CheckResult:
    """How much memory one training takes, after one, so that a server for many can be sized."""
    return CheckResult(GOOD, "memory", capacity(hardware.machine()) or "what a process takes of it is not told here")


class Footprint(NamedTuple):
    """Bytes of main memory: a process's and its workers' own, and those of mapped files, which is there once for all.

    ``own`` is nan where the system does not tell; ``shared`` is 0 but on Linux, and its part then counts as own.
    """

    own: float
    shared: float


def footprint() -> Footprint:
    """What this process and all that it started take now. What a worker has in common with its parent counts twice."""
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
    """Bytes of a process's resident set: what is its own, and the pages of files, as libraries are."""
    files = 0.0
    for line in lines_of(f"/proc/{process.pid}/status"):
        if line.startswith("RssFile:"):
            files = float(line.split()[1]) * 1024
    return process.memory_info().rss - files, files


def capacity(machine: hardware.Machine) -> str:
    """What this process takes of the main memory, and how many of its kind fit, in a sentence; "" if not known."""
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
            "This process and its workers now take {own} of main memory of their own and {shared} of files that "
            "other such processes share: {memory} hold about {count} such.",
            **taken,
        )
    return _(
        "This process and its workers now take {own} of main memory: {memory} hold about {count} such.",
        **taken,
    )


def queue() -> CheckResult:
    """Whether comparisons can wait for each other, and who is there now."""
    try:
        place, trains, compares = turns.folder(), turns.live_tickets(turns.RUN), turns.live_tickets(turns.WAIT)
        if place is not None:
            with tempfile.TemporaryFile(dir=place):
                pass
    except OSError as error:
        reason = error.strerror or type(error).__name__
        where = error.filename or "their folder"
        return CheckResult(
            NOTE, "turns", f"comparisons do not wait for each other ({where}: {reason}): see SPEEDKIT_TURNS."
        )
    if place is None:
        return CheckResult(NOTE, "turns", "comparisons do not wait for each other: SPEEDKIT_TURNS is off")
    there = ", ".join(f"{ticket.user} since {datetime.fromtimestamp(ticket.since):%H:%M}" for ticket in compares)
    now = f"comparisons here and waiting: {there or 'none'}; other processes that train: {len(trains)}"
    return CheckResult(NOTE if trains or compares else GOOD, "turns", f"comparisons take turns by {place}; {now}")


def main() -> int:
    """Prints what was found; 0 when nothing is to mend, else 1."""
    to_mend = 0
    for found in check():
        to_mend += found.state == FIX
        print(f"{found.state:>4}  {found.what}: {found.sentence}", flush=True)
    print("Ready." if not to_mend else f"Not ready: {to_mend} to mend, see above.")
    return int(to_mend > 0)


def _line(error):
    return (str(error).strip() or type(error).__name__).splitlines()[0]
