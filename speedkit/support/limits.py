"""What this process may use of the machine: the smallest of all limits, wherever somebody has set one.

Cores: the affinity mask; the CPU quotas of cgroups, version 1 or 2, of this process's own group and of all groups above
it; JupyterHub's ``CPU_LIMIT``; Slurm's allocation. Memory: that of the machine, of the cgroups, ``MEM_LIMIT`` and
``ulimit -v``. Threads: also ``OMP_NUM_THREADS`` and ``MKL_NUM_THREADS``. A value that cannot be read sets no limit.

The files' meaning: docs.kernel.org, "Control Group v2" and "CFS Bandwidth Control"; proc_pid_mountinfo(5).
"""

import contextlib
import math
import os
import re
from pathlib import Path
from typing import NamedTuple

import psutil

ROOT = Path("/")  # of the system's files
CORE_VARIABLES = ("CPU_LIMIT", "SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE")
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
UNITS = {unit: 1024**power for power, unit in enumerate(("", "K", "M", "G", "T"))}
NUMBER = re.compile(r"(\d+\.?\d*|\.\d+)\s*([KMGT]?)(?:I?B)?")
USUAL_PLACES = {"": ("", "unified"), "cpu": ("cpu", "cpu,cpuacct"), "cpuacct": ("cpuacct", "cpu,cpuacct")}
USUAL_PLACES["memory"] = ("memory",)


class Quota(NamedTuple):
    """A limit on core time: how many cores' worth, and the folder of the cgroup that has it."""

    cores: float
    group: Path


def allowed_cores() -> list[int]:
    """The numbers of the cores that this process may run on: its affinity mask, or all of the machine's cores."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))


def cores(root: Path = ROOT) -> int:
    """How many cores this process may use, a fraction rounded down, but at least one."""
    limits = [quota.cores for quota in _quotas(root)] + [_variable(name) for name in CORE_VARIABLES]
    return max(1, int(min(len(allowed_cores()), *limits)))


def threads(root: Path = ROOT) -> int:
    """How many threads torch may compute with, at most."""
    return max(1, int(min(cores(root), *map(_variable, THREAD_VARIABLES))))


def memory(root: Path = ROOT) -> int:
    """Bytes of main memory that this process may use."""
    files = ("memory.max", "memory.limit_in_bytes")  # versions 2 and 1
    limits = [_number(_read(group / name)) for group in _groups(root, "memory") for name in files]
    with contextlib.suppress(ImportError):  # Windows
        import resource

        most = resource.getrlimit(resource.RLIMIT_AS)[0]
        limits.append(math.inf if most == resource.RLIM_INFINITY else most)
    return int(min(psutil.virtual_memory().total, _variable("MEM_LIMIT"), *limits))


def container_seconds(root: Path = ROOT) -> tuple[float, float]:
    """Core seconds used in the cgroup with the smallest CPU quota, and the seconds for which the quota held it up."""
    quotas = [quota for quota in _quotas(root) if quota.cores < math.inf]
    if not quotas:
        return 0.0, 0.0
    group = min(quotas).group
    stat = dict(re.findall(r"^(\w+) (\d+)$", _read(group / "cpu.stat"), re.MULTILINE))
    if "usage_usec" in stat:
        return int(stat["usage_usec"]) / 1e6, int(stat.get("throttled_usec", 0)) / 1e6
    used = 0.0  # version 1 counts what is used in another hierarchy, which may be mounted elsewhere
    for (mount, __), (other, __) in zip(_hierarchies(root, "cpu"), _hierarchies(root, "cpuacct"), strict=False):
        with contextlib.suppress(ValueError):
            used = int(_read(other / group.relative_to(mount) / "cpuacct.usage")) / 1e9
    return used, int(stat.get("throttled_time", 0)) / 1e9


def _read(path):
    """The text of a system file without the line's end; "" if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _variable(name):
    text = os.environ.get(name, "").partition(",")[0]  # OMP_NUM_THREADS may be a list, one number per level
    return _number(text) or math.inf


def _number(text):
    """The number in a text such as "0.5", "512M" or "2 GiB"; infinite if there is none, as in "max"."""
    found = NUMBER.fullmatch(text.strip().upper())
    return float(found[1]) * UNITS[found[2]] if found else math.inf


def _quotas(root):
    for group in _groups(root, "cpu"):
        quota, __, period = _read(group / "cpu.max").partition(" ")
        if not quota:
            quota, period = (_read(group / f"cpu.cfs_{name}_us") for name in ("quota", "period"))
        yield Quota(_number(quota) / (_number(period) if period.strip("0") else 100_000), group)


def _groups(root, controller):
    """The folders of this process's cgroups, version 2 and then 1: its own, and all above it up to the mount."""
    for version in ("", controller):
        for mount, own in _hierarchies(root, version):
            while True:
                yield own
                if own == mount:
                    break
                own = own.parent


def _hierarchies(root, controller):
    """Where a controller's cgroups are mounted ("" is version 2), and the folder of this process's own there."""
    paths = {}
    for line in _read(root / "proc/self/cgroup").splitlines():
        __, names, path = line.split(":", 2)
        paths |= dict.fromkeys(names.split(","), path)
    found = []
    for line in _read(root / "proc/self/mountinfo").splitlines():
        mount, __, system = line.partition(" - ")
        kind, __, options = system.split(" ")[:3]
        if (kind == "cgroup" and controller in options.split(",")) or (kind == "cgroup2" and not controller):
            top, place = mount.split(" ")[3:5]
            found.append((_below(root, place), top.rstrip("/")))
    if not found:
        usual = (root / "sys/fs/cgroup" / name for name in USUAL_PLACES[controller])
        found = [(place, "") for place in usual if place.is_dir()]
    for mount, top in found:
        own = paths.get(controller, "/")
        inside = own.removeprefix(top).strip("/") if own == top or own.startswith(f"{top}/") else ""
        yield mount, mount if ".." in inside.split("/") else mount / inside


def _below(root, place):
    return root / re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), place).lstrip("/")
