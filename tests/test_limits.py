"""What a process may use: the smallest of all limits, from files of systems that are made here, and from variables."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from speedkit import hardware
from speedkit.recipe import Recipe
from speedkit.support import limits

GIB = 2**30
V2 = "30 24 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup rw,nsdelegate"
V1 = "32 31 0:29 {top} /sys/fs/cgroup/{name} rw,relatime - cgroup cgroup rw,{name}"


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch):
    """Sixteen cores, and no variable that sets a limit."""
    for name in (*limits.CORE_VARIABLES, *limits.THREAD_VARIABLES, "MEM_LIMIT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(16)), raising=False)
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


@pytest.fixture
def system(tmp_path):
    """Makes the files of a system: where the process is, what is mounted, and the files of its cgroups."""

    def make(cgroup="", mounts=(), **files):
        for name, text in {"proc/self/cgroup": cgroup, "proc/self/mountinfo": "\n".join(mounts), **files}.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{text}\n")
        return tmp_path

    return make


def group(place, **values):
    """Files of a cgroup: name and value, with a dot for the first underscore."""
    return {f"sys/fs/cgroup/{place}{name.replace('_', '.', 1)}": value for name, value in values.items()}


@pytest.mark.parametrize(
    ("files", "cores", "memory"),
    [
        (group("", cpu_max="200000 100000", memory_max=GIB), 2, GIB),  # a container: it sees its own group as the root
        (group("user.slice/job/", cpu_max="300000 100000", memory_max=2 * GIB), 3, 2 * GIB),  # its own group
        (group("user.slice/", cpu_max="500000 100000", memory_max=3 * GIB), 5, 3 * GIB),  # the group above
        (group("user.slice/job/", cpu_max="700000 100000") | group("user.slice/", cpu_max="20000 10000"), 2, None),
        (group("user.slice/job/", cpu_max="max 100000", memory_max="max"), 16, None),
        (group("user.slice/job/", cpu_max="50000 100000"), 1, None),  # half a core
        (group("user.slice/job/", cpu_max="190000 100000"), 1, None),
        (group("user.slice/job/", cpu_max="9900000 100000", memory_max=2**62), 16, None),
        (group("user.slice/other/", cpu_max="100000 100000", memory_max=GIB), 16, None),  # somebody else's
        (group("user.slice/job/", cpu_max="", memory_max="nonsense"), 16, None),
        ({}, 16, None),
    ],
)
def test_version_2_at_any_level(system, files, cores, memory):
    root = system("0::/user.slice/job", [V2], **files)
    assert limits.cores(root) == cores
    assert limits.memory(root) == (memory or psutil.virtual_memory().total)


@pytest.mark.parametrize(
    ("quota", "cores"), [("100000", 1), ("250000", 2), ("-1", 16), ("10000", 1), ("3200000", 16), ("", 16)]
)
def test_version_1_as_an_unprivileged_container_sees_it(system, quota, cores):
    """The host's path of the group is the mount's own top: inside, the group is the mount."""
    mounts = [V1.format(top="/docker/4711", name=name) for name in ("cpu", "memory")]
    files = group("cpu/cpu.", cfs_quota_us=quota, cfs_period_us="100000") if quota else {}
    files = {name.replace("cfs.", "cfs_"): value for name, value in files.items()}
    files["sys/fs/cgroup/memory/memory.limit_in_bytes"] = 9223372036854771712  # none
    root = system("4:memory:/docker/4711\n1:cpu:/docker/4711", mounts, **files)
    assert limits.cores(root) == cores
    assert limits.memory(root) == psutil.virtual_memory().total


def test_version_1_below_the_root_with_controllers_mounted_together_and_elsewhere(system):
    """Slurm's layout: a job's step in a hierarchy of two controllers; memory is limited one level above the step."""
    both = V1.format(top="/", name="cpu,cpuacct").replace("/sys/fs/cgroup/", "/cgroups/my\\040")
    mounts = [both, V1.format(top="/", name="memory")]
    job = "slurm/uid_7/job_1"
    root = system(
        f"11:cpu,cpuacct:/{job}/step_0\n4:memory:/{job}/step_0\n0::/init",
        mounts,
        **{
            f"cgroups/my cpu,cpuacct/{job}/cpu.cfs_quota_us": 400000,
            f"cgroups/my cpu,cpuacct/{job}/cpu.cfs_period_us": 100000,
            f"cgroups/my cpu,cpuacct/{job}/step_0/cpu.cfs_quota_us": -1,
            f"cgroups/my cpu,cpuacct/{job}/cpu.stat": "nr_periods 9\nnr_throttled 3\nthrottled_time 1500000000",
            f"cgroups/my cpu,cpuacct/{job}/cpuacct.usage": 7250000000,
            f"sys/fs/cgroup/memory/{job}/memory.limit_in_bytes": 2 * GIB,
        },
    )
    assert limits.cores(root) == 4
    assert limits.memory(root) == 2 * GIB
    assert limits.container_seconds(root) == (7.25, 1.5)


def test_both_versions_at_once_and_a_system_that_does_not_say_what_is_mounted(system):
    files = group("unified/job/", cpu_max="600000 100000") | {"sys/fs/cgroup/memory/job/memory.limit_in_bytes": GIB}
    root = system("4:memory:/job\n0::/job", (), **files)
    assert (limits.cores(root), limits.memory(root)) == (6, GIB)


def test_a_group_outside_of_what_is_mounted_here(system):
    root = system("0::/../other", [V2], **group("", cpu_max="200000 100000") | group("other/", cpu_max="1000 100000"))
    assert limits.cores(root) == 2


def test_without_any_of_these_files_there_is_no_limit(tmp_path):
    assert limits.cores(tmp_path) == 16
    assert limits.container_seconds(tmp_path) == (0.0, 0.0)


def test_the_counters_are_those_of_the_group_whose_quota_holds_us_up(system):
    stat = "usage_usec {}\nuser_usec 1\nnr_throttled 7\nthrottled_usec {}"
    files = group("a/b/", cpu_max="800000 100000", cpu_stat=stat.format(1000000, 0))
    files |= group("a/", cpu_max="200000 100000", cpu_stat=stat.format(4500000, 250000))
    assert limits.container_seconds(system("0::/a/b", [V2], **files)) == (4.5, 0.25)


@pytest.mark.parametrize("name", limits.CORE_VARIABLES)
@pytest.mark.parametrize(
    ("text", "cores"),
    [("2", 2), ("0.5", 1), ("1.0", 1), ("2.75", 2), ("64", 16), ("", 16), ("0", 16), ("all", 16), ("-3", 16)],
)
def test_a_variable_cuts_the_cores(monkeypatch, tmp_path, name, text, cores):
    monkeypatch.setenv(name, text)
    assert limits.cores(tmp_path) == cores


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1G", GIB),
        ("512M", GIB // 2),
        ("536870912", GIB // 2),
        ("1.5g", 3 * GIB // 2),
        ("256 MiB", GIB // 4),
        ("none", 0),
    ],
)
def test_a_variable_cuts_the_memory(monkeypatch, tmp_path, text, size):
    monkeypatch.setenv("MEM_LIMIT", text)
    assert limits.memory(tmp_path) == (size or psutil.virtual_memory().total)


def test_a_limit_on_the_address_space_cuts_the_memory(monkeypatch, tmp_path):
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (GIB, 2 * GIB))
    assert limits.memory(tmp_path) == GIB


def test_the_smallest_of_all_counts(system, monkeypatch):
    root = system("0::/", [V2], **group("", cpu_max="400000 100000", memory_max=2 * GIB))
    monkeypatch.setenv("CPU_LIMIT", "3")
    monkeypatch.setenv("MEM_LIMIT", "1G")
    assert (limits.cores(root), limits.memory(root), limits.threads(root)) == (3, GIB, 3)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {5, 7}, raising=False)
    assert limits.cores(root) == 2


@pytest.mark.parametrize(("text", "threads"), [("1", 1), ("4,2", 4), ("99", 16), ("", 16), ("many", 16)])
def test_variables_for_threads_are_no_limit_of_cores(monkeypatch, tmp_path, text, threads):
    monkeypatch.setenv("OMP_NUM_THREADS", text)
    assert (limits.threads(tmp_path), limits.cores(tmp_path)) == (threads, 16)
    monkeypatch.setenv("MKL_NUM_THREADS", "1")
    assert limits.threads(tmp_path) == 1


def test_the_machine_follows_them(monkeypatch):
    for name, value in {"OMP_NUM_THREADS": "1", "CPU_LIMIT": "2", "MEM_LIMIT": "512M"}.items():
        monkeypatch.setenv(name, value)
    machine = hardware.machine.__wrapped__("cpu")
    assert (machine.cores, machine.memory, machine.threads) == (2, GIB // 2, 1)
    (note,) = machine.check(Recipe(workers=1))
    assert note == "1 of 2 cores go to workers: torch computes with 1 thread."


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has these limits")
@pytest.mark.parametrize(
    ("prefix", "environment", "expected"),
    [
        (["taskset", "-c", "0"], {}, "1 1"),
        ([], {"CPU_LIMIT": "1", "MEM_LIMIT": "1G"}, "1 1"),
        ([], {"OMP_NUM_THREADS": "1"}, "{cores} 1"),
    ],
    ids=["taskset", "JupyterHub", "OpenMP"],
)
def test_a_process_that_is_really_limited(generated, prefix, environment, expected):
    code = """
import speedkit as sk, torch
threads = set()
def look(model):
    model.register_forward_hook(lambda *_: threads.add(torch.get_num_threads()))
sk.fit(sk.Recipe(model="mlp", subset=64, batch_size=16, epochs=1, device="cpu"), on_model=look)
print(sk.machine("cpu").cores, *threads)
"""
    done = subprocess.run(
        [*prefix, sys.executable, "-c", code], env=os.environ | environment, capture_output=True, text=True, timeout=120
    )
    cores = len(psutil.Process().cpu_affinity())
    assert done.stdout.split() == expected.format(cores=cores).split(), done.stderr


V1_CPU = Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us")


@pytest.mark.skipif(not os.access(V1_CPU, os.W_OK), reason="no cgroups of version 1 that may be written here")
def test_a_group_of_version_1_that_the_system_really_made():
    place = V1_CPU.parent / f"speedkit-test-{os.getpid()}"
    place.mkdir()
    try:
        (place / "cpu.cfs_quota_us").write_text("100000")
        code = "from speedkit.support import limits; print(limits.cores(), *limits.container_seconds())"
        into = f"echo $$ >{place}/tasks; exec {sys.executable} -c '{code}'"
        done = subprocess.run(["bash", "-c", into], capture_output=True, text=True, timeout=60)
        cores, __, throttled = done.stdout.split()
        assert cores == "1"
        assert float(throttled) >= 0
    finally:
        place.rmdir()
