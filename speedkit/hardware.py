"""What this machine is and what it can do, as far as the system reports it; None means "not known"."""

import os
import platform
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from functools import cache
from importlib import metadata
from multiprocessing import get_all_start_methods
from pathlib import Path

import torch
from markupsafe import Markup

from speedkit.support.errors import CannotRun
from speedkit.support.messages import N_, Message, _, ngettext, plural_message

GIB = 2**30


@dataclass(frozen=True, repr=False)
class Machine:
    """One machine as one run sees it. Memory in bytes; None if it is not known."""

    device: str  # "cpu", "cuda:0", "mps"
    name: str  # of the accelerator, or of the processor
    cores: int  # that this process may use
    memory: int  # bytes of main memory that this process may use
    device_memory: int | None
    bf16: bool | None  # in hardware
    fp16: bool | None  # in hardware, for training
    tf32: bool
    system: str
    python: str
    torch: str
    versions: dict
    threads: int | None = None  # at most that torch may compute with; None: as many as cores

    @property
    def kind(self) -> str:
        """The kind of its device: "cpu", "cuda" or "mps"."""
        return self.device.split(":")[0]

    @property
    def half(self) -> str:
        """The 16-bit format to train in here: "bf16", or "fp16" on a GPU that has to emulate bf16."""
        return "bf16" if self.kind == "cpu" or self.bf16 else "fp16"

    def to_dict(self) -> dict:
        return asdict(self)

    def sentence(self) -> str:
        """The machine in one line."""
        cores = ngettext("{n} core", "{n} cores", self.cores)
        about = {"name": self.name, "cores": cores, "memory": f"{self.memory / GIB:.0f} GiB"}
        if self.kind == "cpu":
            return _("{name}, {cores}, {memory} of memory, no GPU in use", **about)
        own = f"{self.device_memory / GIB:.0f} GiB" if self.device_memory else _("memory n/a")
        return _("{name} ({own}), {cores}, {memory} of memory", own=own, **about)

    def limits(self) -> list[str]:
        """What this machine cannot show, one sentence per limit."""
        formats = {"TF32": self.tf32, "bf16": self.bf16, "fp16": self.fp16}
        lacking = "/".join(name for name, there in formats.items() if there is False)
        if self.kind == "cuda":
            limits = [_("This GPU has no hardware for {formats}.", formats=lacking)] if lacking else []
        elif self.kind == "mps":
            limits = [_("Training on Apple's GPU has not been tested. TF32 and GPU power are n/a.")]
        else:
            limits = self._limits_of_a_processor(formats)
        if self.cores < 4:
            limits.append(
                ngettext(
                    "With {n} core, workers and training share it.",
                    "With {n} cores, workers and training share the same cores.",
                    self.cores,
                )
            )
        return limits

    def _limits_of_a_processor(self, formats):
        from speedkit.gpu import choose  # here, because no training needs it

        index, why = choose()
        limits = [_("There is no NVIDIA GPU here: TF32 and GPU power are n/a.")]
        if why or index is not None:
            why = _(why) if why else _("The GPU of this machine is not in use.")
            limits = [_("{why} TF32 and GPU power are n/a.", why=why)]
        if lacking := "/".join(name for name in ("bf16", "fp16") if formats[name] is False):
            limits.append(_("On this processor, torch emulates training in {formats}.", formats=lacking))
        if unknown := "/".join(name for name in ("bf16", "fp16") if formats[name] is None):
            limits.append(_("Whether this processor has hardware for {formats} is not known here.", formats=unknown))
        if "OMP_WAIT_POLICY" not in os.environ:
            spinning = _(
                "torch was loaded before speedkit could set how long its threads spin: beside a busy browser, training "
                "can be many times slower. Restart the kernel and import speedkit first."
            )
            limits.append(spinning)
        return limits

    def __repr__(self):
        return "\n".join([_("This machine: {sentence}.", sentence=self.sentence()), *self.limits()])

    def _repr_html_(self):
        limits = Markup("").join(Markup("<li>{}</li>").format(limit) for limit in self.limits())
        title = _("This machine:")
        return Markup("<b>{}</b> {}.<ul>{}</ul>").format(title, self.sentence(), limits)

    def check(self, recipe) -> list[str]:
        """Notes on how this machine will run a recipe, to be stored with the run.

        Raises:
            CannotRun: this machine cannot run the recipe.
        """
        if recipe.precision == "tf32" and not self.tf32:
            raise CannotRun(
                Message(
                    "precision='tf32' needs an NVIDIA GPU with tensor cores (Ampere or newer), and this is {name}: "
                    "choose fp32 or bf16.",
                    name=self.name,
                )
            )
        counts = {"workers": recipe.workers, "cores": self.cores}
        if recipe.workers > 4 * self.cores:
            raise CannotRun(
                Message(
                    "workers={workers} is more than four times the {cores} cores here: choose at most {most}.",
                    most=4 * self.cores,
                    **counts,
                )
            )
        if recipe.start_method not in ("auto", *get_all_start_methods()):
            raise CannotRun(
                f"start_method={recipe.start_method!r} does not exist on {self.system}: choose "
                f"{' or '.join(get_all_start_methods())}."
            )
        notes = []
        if recipe.precision == "bf16" and self.bf16 is False:
            notes.append(Message("{name} has no bf16 arithmetic: it is emulated.", name=self.name))
        if recipe.workers and recipe.cache == "device":
            notes.append(N_("With cache='device' nothing is left for workers to do: none are started."))
        elif recipe.workers:
            if self.kind == "cpu":
                shared = plural_message(
                    "{taken} of {cores} cores go to workers: torch computes with {n} thread.",
                    "{taken} of {cores} cores go to workers: torch computes with {n} threads.",
                    max(1, min(self.cores - recipe.workers, self.threads or self.cores)),
                    taken=min(recipe.workers, self.cores),
                    cores=self.cores,
                )
                notes.append(shared)
            if recipe.workers >= self.cores:
                notes.append(Message("{workers} workers on {cores} cores compete with the training itself.", **counts))
        return notes


@cache
def machine(device: str = "auto") -> Machine:
    """This machine, training on ``device`` ("auto" takes a CUDA GPU that torch can use, else the CPU).

    Raises:
        CannotRun: there is no such device here, or torch cannot use it; the message says what to do.
    """
    from speedkit.support import limits

    device = _resolve(device)
    kind = device.split(":")[0]
    if kind == "cuda":
        properties = torch.cuda.get_device_properties(device)
        ampere = properties.major >= 8
        own = {"name": properties.name, "device_memory": properties.total_memory}
        own |= {"bf16": ampere, "tf32": ampere, "fp16": properties.major >= 7}
        if torch.version.hip:  # AMD's numbers mean something else
            own |= {"bf16": torch.cuda.is_bf16_supported(including_emulation=False), "tf32": False, "fp16": True}
    elif kind == "mps":
        own = {"name": f"{_processor()} GPU", "device_memory": torch.mps.recommended_max_memory()}
        own |= {"bf16": True, "tf32": False, "fp16": True}
    else:
        own = {"name": _processor(), "device_memory": None, "tf32": False}
        own |= {"bf16": _cpu_has("avx512_bf16", "amx_bf16", "bf16")}
        own |= {"fp16": _cpu_has("amx_fp16", unsure=("fp16_arith", "asimdhp"))}  # Arm's may not help training
    own |= {"system": platform.system(), "python": platform.python_version(), "torch": torch.__version__}
    own["versions"] = {name: _version(name) for name in ("speedkit", "torch", "torchvision", "numpy", "ipywidgets")}
    return Machine(device=device, cores=cores(), memory=limits.memory(), threads=limits.threads(), **own)


def in_use(device: str):
    """A context in which ``device`` is this thread's current one: events, streams and pinned memory belong to it."""
    return torch.cuda.device(device) if device.startswith("cuda") else nullcontext()


def cores() -> int:
    """How many cores this process may use: the smallest of all limits, see :mod:`speedkit.support.limits`."""
    from speedkit.support import limits  # here, because it is needed once per run

    return limits.cores()


def _resolve(device):
    if device == "auto":
        if not torch.cuda.is_available():
            return "cpu"
        from speedkit.gpu import choose  # here and below, because a CPU has no use for it

        index, __ = choose()
        return "cpu" if index is None else f"cuda:{index}"
    if device.startswith("cuda"):
        from speedkit.gpu import choose, problem

        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        index = int(device.partition(":")[2] or 0)
        if index >= count:
            why = choose()[1] if not count else ""
            raise CannotRun(
                why or f"device={device!r}: torch finds {count or 'no'} CUDA GPUs here; choose device='auto'."
            )
        if why := problem(index):
            raise CannotRun(why)
        return f"cuda:{index}"
    if device == "mps" and not torch.backends.mps.is_available():
        raise CannotRun("device='mps': torch finds no Apple GPU here; choose device='auto'.")
    return device


def _processor():
    for line in lines_of("/proc/cpuinfo"):
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine() or "processor"


def _cpu_has(*features, unsure=()) -> bool | None:
    """Whether the processor has one of these features, as torch and Linux call them; None if that is not known."""
    if hasattr(torch.cpu, "get_capabilities"):  # the oldest torch that we support lacks it
        found = {name for name, there in torch.cpu.get_capabilities().items() if there is True}
    else:
        lines = (line.split() for line in lines_of("/proc/cpuinfo") if line.startswith(("flags", "Features")))
        found = set(next(lines, ()))
    if found.intersection(features):
        return True
    return None if not found or found.intersection(unsure) else False


def _version(package):
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def lines_of(path) -> list[str]:
    """The lines of a system file such as /proc/cpuinfo; an empty list if it cannot be read."""
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []
