"""NVIDIA's own figures about a GPU, and why torch does not use one. Loaded only where there may be one."""

import contextlib
import os
import sys
from functools import cache

import torch

from speedkit.support.errors import CannotRun
from speedkit.support.messages import N_, Message, plural_message


class Gpu:
    """One GPU, or one slice of it (MIG), by NVML; nan and None if the driver or the library does not tell.

    Energy is that of the whole card: of a slice, or beside other processes, it is not the run's own, so it is nan.
    """

    def __init__(self, device):
        self.device, self.handle, self.is_slice, self.neighbours = device, None, False, None
        with contextlib.suppress(Exception):
            import pynvml

            pynvml.nvmlInit()
            uuid = torch.cuda.get_device_properties(device).uuid
            for kind in ("GPU", "MIG"):
                with contextlib.suppress(pynvml.NVMLError):
                    self.handle = pynvml.nvmlDeviceGetHandleByUUID(f"{kind}-{uuid}")
                    self.is_slice = kind == "MIG"
                    break
            self.neighbours = self.others()
        self.joules = self._read("TotalEnergyConsumption", lambda millijoules: millijoules / 1000)

    def _read(self, name, convert):
        with contextlib.suppress(Exception):
            import pynvml

            return convert(getattr(pynvml, f"nvmlDeviceGet{name}")(self.handle))
        return float("nan")

    def others(self) -> int | None:
        """How many other processes compute on it now; None if that is not known, as on Windows."""
        if sys.platform == "win32":  # its driver counts the desktop's programs, too
            return None
        try:
            import pynvml

            found = {process.pid for process in pynvml.nvmlDeviceGetComputeRunningProcesses(self.handle)}
        except Exception:
            return None
        ours = (
            os.getpid() in found or torch.cuda.memory_reserved(self.device) > 0
        )  # in a container, NVML numbers us otherwise
        return max(0, len(found) - ours)

    def readings(self) -> dict:
        """Joules since the beginning, and the share of recent time in which the GPU was busy."""
        joules = self._read("TotalEnergyConsumption", lambda millijoules: millijoules / 1000) - self.joules
        shared = self.is_slice or self.neighbours or self.others()
        return {
            "energy_j": float("nan") if shared else joules,
            "utilisation": self._read("UtilizationRates", lambda rates: rates.gpu / 100),
        }

    def note(self) -> str:
        """A message on other processes that computed here at the beginning or now; "" if there were none."""
        count = max(self.neighbours or 0, self.others() or 0)
        if not count:
            return N_("This GPU is a slice of a card (MIG): its energy is n/a.") if self.is_slice else ""
        return plural_message(
            "{n} other process was using this GPU: times are not those of a run alone, and its energy is n/a.",
            "{n} other processes were using this GPU: times are not those of a run alone, and its energy is n/a.",
            count,
        )


def is_built_for(capability: tuple[int, int], architectures: list[str]) -> bool:
    """Whether a torch that was built for ``architectures`` ("sm_80", "compute_90") runs on a GPU.

    Binary code runs on GPUs of the same major and an equal or higher minor number; intermediate code ("compute") on all
    newer ones; what ends in "a" only on exactly that GPU. Source: NVIDIA, CUDA C++ Programming Guide, "Binary
    compatibility", "PTX compatibility" and "Family-specific features".
    """
    for architecture in architectures:
        kind, __, number = architecture.partition("_")
        digits = number.rstrip("af")
        if not digits.isdigit():
            return True  # AMD's names: torch checks them itself
        built = int(digits[:-1]), int(digits[-1])
        if number.endswith("a"):
            fits = built == capability
        elif kind == "compute":
            fits = built <= capability
        else:
            fits = built[0] == capability[0] and built[1] <= capability[1]
        if fits:
            return True
    return not architectures


@cache
def choose() -> tuple[int | None, str]:
    """The number of the first GPU that torch can use here, and ""; or None and a message that says why there is none.

    The message is "" if there is no GPU at all.
    """
    if not torch.cuda.is_available():
        return None, _why_unavailable()
    problems = [problem(index) for index in range(torch.cuda.device_count())]
    usable = [index for index, found in enumerate(problems) if not found]
    return (usable[0], "") if usable else (None, problems[0])


def problem(index: int) -> str:
    """Why torch cannot use one of the GPUs that it sees, as a message; "" if it can."""
    try:
        properties = torch.cuda.get_device_properties(index)
        capability = properties.major, properties.minor
        if not torch.version.hip and not is_built_for(capability, torch.cuda.get_arch_list()):
            return Message(
                N_(
                    "This torch was not built for {name} (compute capability {capability}): install one that was "
                    "(see 'Start' in the README), or choose device='cpu'."
                ),
                name=properties.name,
                capability="{}.{}".format(*capability),
            )
    except RuntimeError as error:
        reason = (str(error).splitlines() or ["?"])[0].rstrip(".")
        return Message(
            N_(
                "The GPU cannot be used now ({reason}): end the programs that use it, or wait, and restart the kernel; "
                "or choose device='cpu'."
            ),
            reason=reason,
        )
    return ""


def refuse_if_full(needed: int, device: str):
    """Raises CannotRun if the images of ``cache="device"``, ``needed`` bytes, do not fit into what is free there."""
    free = torch.cuda.mem_get_info(device)[0]
    if needed > free:
        raise CannotRun(
            Message(
                N_(
                    "cache='device' needs {needed} MiB on the GPU, and {free} MiB are free: choose cache='ram' or a "
                    "smaller subset."
                ),
                needed=f"{needed / 2**20:.0f}",
                free=f"{free / 2**20:.0f}",
            )
        )


def _why_unavailable():
    try:
        import pynvml

        pynvml.nvmlInit()
        if not pynvml.nvmlDeviceGetCount():
            return ""
        name = pynvml.nvmlDeviceGetName(pynvml.nvmlDeviceGetHandleByIndex(0))
        driver, newest = pynvml.nvmlSystemGetDriverVersion(), pynvml.nvmlSystemGetCudaDriverVersion() // 1000
    except Exception:  # no driver, no library, or not permitted
        return ""
    if not torch.version.cuda:
        return Message(
            N_(
                "This machine has a GPU ({name}), but this torch is a build without CUDA: install the CUDA build "
                "(see 'Start' in the README)."
            ),
            name=name,
        )
    if newest < int(torch.version.cuda.split(".")[0]):
        return Message(
            N_(
                "This machine has a GPU ({name}), but its driver {driver} is too old for this torch, which needs CUDA "
                "{cuda}: "
                "update the driver, or install a torch for CUDA {newest} (see 'Start' in the README)."
            ),
            name=name,
            driver=driver,
            cuda=torch.version.cuda,
            newest=newest,
        )
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        return Message(
            N_(
                "This machine has a GPU ({name}), but CUDA_VISIBLE_DEVICES={value} hides it: unset that variable and "
                "restart."
            ),
            name=name,
            value=repr(os.environ["CUDA_VISIBLE_DEVICES"]),
        )
    return Message(
        N_(
            "This machine has a GPU ({name}), but torch cannot start CUDA: see what nvidia-smi says, and restart the "
            "kernel."
        ),
        name=name,
    )
