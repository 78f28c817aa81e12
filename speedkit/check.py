"""Is this machine ready for a workshop? ``python -m speedkit check`` says so, or what to mend."""

import contextlib
import os
import platform
import shutil
import tempfile
import time
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from packaging.requirements import Requirement

from speedkit import data, hardware, turns
from speedkit.meter import disturbance
from speedkit.recipe import Recipe
from speedkit.run import NotFinite, Run, number, size
from speedkit.train import train

GOOD, NOTE, MEND = "ok", "note", "mend"
ROOT = Path(__file__).resolve().parent.parent
DISK = 2**30  # bytes free that the generated sets of all lessons fit in with room to spare
SHARED = 256 * 2**20  # bytes of /dev/shm that the lessons' workers need at most, with room to spare
TRIAL_S = 10
INSTALL = "run pip install -r requirements.txt in this environment"


class Found(NamedTuple):
    """One thing that was looked at: ``state`` is "ok", "note" (works, but know this) or "mend"."""

    state: str
    what: str
    sentence: str


def check(trial_s: float = TRIAL_S):
    """Looks at everything that a lesson needs. A generator of :class:`Found`, one for each thing looked at.

    trial_s: seconds that the training at the end may take.
    """
    yield Found(GOOD, "Python", platform.python_version())
    yield from packages(ROOT / "requirements.txt")
    yield pictures()
    yield widgets()
    yield images()
    for what, folder in {"generated images": data.generated(), "what a learner keeps": _kept()}.items():
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
            yield Found(MEND, wanted.name, f"is not installed: {INSTALL}.")
            continue
        if wanted.specifier.contains(version.partition("+")[0], prereleases=True):
            yield Found(GOOD, wanted.name, version)
        else:
            yield Found(MEND, wanted.name, f"{version} does not fit {wanted.specifier}: {INSTALL}.")


def pictures() -> Found:
    """Whether torchvision fits torch: where it does not, that shows when it is loaded."""
    try:
        from torchvision.transforms import v2  # noqa: F401
    except Exception as error:
        return Found(MEND, "torchvision", f"cannot be loaded ({_line(error)}): {INSTALL}.")
    return Found(GOOD, "torchvision", "fits torch")


def widgets() -> Found:
    """Whether JupyterLab will find the widgets' extension, without which a panel is text only."""
    from jupyter_core.paths import jupyter_path

    places = [Path(place) / "@jupyter-widgets" / "jupyterlab-manager" for place in jupyter_path("labextensions")]
    if any((place / "package.json").is_file() for place in places):
        return Found(GOOD, "widgets", "JupyterLab has their extension")
    return Found(MEND, "widgets", f"JupyterLab does not have their extension, so panels would be text: {INSTALL}.")


def images() -> Found:
    """The four files of Fashion-MNIST, by their SHA-256."""
    try:
        counts = [len(data.fashion_mnist(part)[1]) for part in ("train", "test")]
    except data.DataError as error:
        return Found(MEND, "images", str(error))
    return Found(GOOD, "images", f"{number(sum(counts))} of Fashion-MNIST, undamaged")


def room(what: str, folder: Path) -> Found:
    """Whether a folder can be written, and has room."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
        free = shutil.disk_usage(folder).free
    except OSError as error:
        name = "SPEEDKIT_GENERATED" if folder == data.generated() else "SPEEDKIT_RUNS"
        reason = error.strerror or type(error).__name__
        return Found(MEND, what, f"{folder} cannot be written ({reason}): name another folder in {name}.")
    if free < DISK:
        return Found(MEND, what, f"{folder} has {size(free)} free, {size(DISK)} are needed: free some disk.")
    return Found(GOOD, what, f"{folder} can be written, {size(free)} free")


def shared_memory() -> Found:
    """Memory that worker processes share with the training."""
    free = hardware.shared_memory_free()
    if free is None:
        return Found(GOOD, "shared memory", "has no limit of its own here")
    if free < SHARED:
        return Found(
            MEND,
            "shared memory",
            f"/dev/shm has {size(free)} free, workers need up to {size(SHARED)}: start the container with "
            "--shm-size=2g, or do without workers.",
        )
    return Found(GOOD, "shared memory", f"{size(free)} free in /dev/shm")


def accelerator() -> Found:
    """What the training will run on."""
    machine = hardware.machine()
    state = NOTE if machine.limits() else GOOD
    return Found(state, "machine", " ".join([f"{machine.sentence()}.", *machine.limits()]))


def trial(trial_s: float) -> Found:
    """A training of so many seconds at most, and how fast it went."""
    run = Run(Recipe(cache="ram", epochs=1000))
    try:
        end = None
        with contextlib.closing(train(run.recipe, run)) as records:
            for _ in records:
                end = end or time.monotonic() + trial_s
                if time.monotonic() > end:
                    break
    except (ValueError, NotFinite, OSError, RuntimeError) as error:
        return Found(MEND, "a training", f"failed: {_line(error)}")
    said = f"{number(run.mean('images_per_s'))} images a second over {run.count:,} steps"
    disturbed = disturbance(run.notes)
    return Found(NOTE if disturbed else GOOD, "a training", f"{said}. {disturbed}".strip(". ") + ".")


def kernels() -> Found:
    """How much memory one training takes, after one, so that a server for many can be sized."""
    return Found(GOOD, "memory", hardware.machine().room() or "what a process takes of it is not told here")


def queue() -> Found:
    """Whether comparisons can wait for each other, and who is there now."""
    try:
        place, trains, compares = turns.folder(), turns.standing(turns.RUN), turns.standing(turns.WAIT)
        if place is not None:
            with tempfile.TemporaryFile(dir=place):
                pass
    except OSError as error:
        reason = error.strerror or type(error).__name__
        where = error.filename or "their folder"
        return Found(NOTE, "turns", f"comparisons do not wait for each other ({where}: {reason}): see SPEEDKIT_TURNS.")
    if place is None:
        return Found(NOTE, "turns", "comparisons do not wait for each other: SPEEDKIT_TURNS is off")
    there = ", ".join(f"{ticket.user} since {datetime.fromtimestamp(ticket.since):%H:%M}" for ticket in compares)
    now = f"comparisons here and waiting: {there or 'none'}; other processes that train: {len(trains)}"
    return Found(NOTE if trains or compares else GOOD, "turns", f"comparisons take turns by {place}; {now}")


def main() -> int:
    """Prints what was found; 0 when nothing is to mend, else 1."""
    to_mend = 0
    for found in check():
        to_mend += found.state == MEND
        print(f"{found.state:>4}  {found.what}: {found.sentence}", flush=True)
    print("Ready." if not to_mend else f"Not ready: {to_mend} to mend, see above.")
    return int(to_mend > 0)


def _kept():
    return Path(os.environ.get("SPEEDKIT_RUNS") or ROOT / "notebooks" / "runs")


def _line(error):
    return (str(error).strip() or type(error).__name__).splitlines()[0]
