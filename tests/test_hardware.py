"""The machine says what it can do, and refuses what it cannot with the reason."""

import dataclasses
import json
import subprocess
import sys
from types import SimpleNamespace

import psutil
import pytest
import torch

from speedkit import hardware, loading
from speedkit.classroom import check
from speedkit.hardware import Machine
from speedkit.recipe import Recipe
from speedkit.support.errors import CannotRun

CPU = Machine(
    device="cpu",
    name="A processor",
    cores=4,
    memory=8 * 2**30,
    device_memory=None,
    bf16=False,
    fp16=False,
    tf32=False,
    system="Linux",
    python="3.11",
    torch="2",
    versions={},
)
GPU = dataclasses.replace(CPU, device="cuda:0", name="A GPU", device_memory=16 * 2**30, bf16=True, fp16=True, tf32=True)


def test_the_baseline_runs_everywhere_without_a_note():
    assert CPU.check(Recipe()) == []
    assert GPU.check(Recipe()) == []


def test_tf32_is_refused_on_a_processor_and_accepted_on_a_gpu():
    with pytest.raises(CannotRun, match=r"tf32.*A processor.*choose fp32 or bf16"):
        CPU.check(Recipe(precision="tf32"))
    assert GPU.check(Recipe(precision="tf32")) == []


def test_four_workers_per_core_are_the_limit():
    CPU.check(Recipe(workers=16))
    with pytest.raises(CannotRun, match=r"workers=17 .* 4 cores .* at most 16"):
        CPU.check(Recipe(workers=17))


def test_a_start_method_that_the_system_lacks_is_refused(monkeypatch):
    monkeypatch.setattr(hardware, "get_all_start_methods", lambda: ["spawn"])
    with pytest.raises(CannotRun, match=r"'fork' does not exist .* choose spawn"):
        CPU.check(Recipe(workers=1, start_method="fork"))
    CPU.check(Recipe(workers=1, start_method="spawn"))


def test_the_notes_say_what_will_happen():
    assert any("emulated" in note for note in CPU.check(Recipe(precision="bf16")))
    assert dataclasses.replace(CPU, bf16=None).check(Recipe(precision="bf16")) == []
    assert "computes with 3 threads" in CPU.check(Recipe(workers=1))[0]
    assert "computes with 1 thread." in CPU.check(Recipe(workers=3))[0]
    assert any("compete" in note for note in CPU.check(Recipe(workers=4)))
    assert any("none are started" in note for note in CPU.check(Recipe(workers=2, cache="device")))
    assert GPU.check(Recipe(workers=1)) == []


def test_the_memory_of_this_process_and_of_what_it_started_is_counted():
    alone = check.footprint()
    assert 0.5 < sum(alone) / psutil.Process().memory_info().rss < 2
    assert alone.shared > 0 or sys.platform != "linux"
    with subprocess.Popen([sys.executable, "-c", "print('up'); input()"], stdin=-1, stdout=-1, text=True) as child:
        child.stdout.readline()
        assert check.footprint().own > alone.own
        child.communicate("\n")


@pytest.mark.parametrize(
    ("own", "shared", "words"),
    [
        (0.9, 0.0, "take 0.90 GiB of main memory: 8 GiB hold about 8 of them."),
        (0.5, 0.4, "take 0.50 GiB of main memory, plus 0.40 GiB of files that such processes share: 8 GiB hold"),
        (0.5, 0.4, "hold about 15 of them."),
        (9.0, 0.4, "hold about 1 of them."),
    ],
)
def test_how_many_processes_the_memory_holds(monkeypatch, own, shared, words):
    monkeypatch.setattr(check, "footprint", lambda: check.Footprint(own * 2**30, shared * 2**30))
    assert words in check.capacity(CPU)
    assert "main memory" not in repr(CPU)  # before a training it would promise too much: ``check`` says it after one


def test_where_the_system_does_not_tell_of_memory_nothing_is_said(monkeypatch):
    def refused(_):
        raise psutil.AccessDenied()

    monkeypatch.setattr(psutil.Process, "memory_info", refused)
    assert check.capacity(CPU) == ""


def test_the_sentence_and_the_limits_say_what_there_is():
    assert CPU.sentence() == "A processor, 4 cores, 8 GiB of memory, no GPU in use"
    assert GPU.sentence() == "A GPU (16 GiB), 4 cores, 8 GiB of memory"
    assert "memory n/a" in dataclasses.replace(GPU, device_memory=None).sentence()
    assert any("no NVIDIA GPU" in limit for limit in CPU.limits())
    assert any("share the same cores" in limit for limit in dataclasses.replace(CPU, cores=2).limits())
    assert "1 core," in dataclasses.replace(CPU, cores=1).sentence()


@pytest.fixture
def spinning_is_set(monkeypatch):
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")


NO_NVIDIA = "There is no NVIDIA GPU here: TF32 and GPU power are n/a."
EMULATED = "On this processor, torch emulates training in {}."
NOT_KNOWN = "Whether this processor has hardware for {} is not known here."
APPLE = {"device": "mps", "bf16": True, "fp16": True}


@pytest.mark.parametrize(
    ("machine", "limits"),
    [
        (dataclasses.replace(CPU, bf16=True, fp16=True), [NO_NVIDIA]),
        (dataclasses.replace(CPU, bf16=True), [NO_NVIDIA, EMULATED.format("fp16")]),
        (dataclasses.replace(CPU, fp16=True), [NO_NVIDIA, EMULATED.format("bf16")]),
        (CPU, [NO_NVIDIA, EMULATED.format("bf16/fp16")]),
        (dataclasses.replace(CPU, bf16=None, fp16=None), [NO_NVIDIA, NOT_KNOWN.format("bf16/fp16")]),
        (dataclasses.replace(CPU, fp16=None), [NO_NVIDIA, EMULATED.format("bf16"), NOT_KNOWN.format("fp16")]),
        (
            dataclasses.replace(CPU, **APPLE),
            ["Training on Apple's GPU has not been tested. TF32 and GPU power are n/a."],
        ),
        (GPU, []),
        (dataclasses.replace(GPU, tf32=False, bf16=False), ["This GPU has no hardware for TF32/bf16."]),
        (
            dataclasses.replace(GPU, tf32=False, bf16=False, fp16=False),
            ["This GPU has no hardware for TF32/bf16/fp16."],
        ),
    ],
)
def test_what_a_machine_cannot_compute_is_said_and_what_is_not_known_is_not_denied(spinning_is_set, machine, limits):
    assert machine.limits() == limits
    assert "slow" not in " ".join(limits)  # that is for lesson 1 to measure


def test_where_torch_was_loaded_too_early_the_way_out_is_named(monkeypatch):
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    assert any(limit.endswith("Restart the kernel and import speedkit first.") for limit in CPU.limits())


# What processors say of themselves: to newer releases of torch, to Linux, or to nobody

ZEN_4 = {"architecture": "x86_64", "avx512_bf16": True, "amx_bf16": False, "amx_fp16": False, "l1d_cache_size": 32768}
HASWELL = {"architecture": "x86_64", "avx2": True, "avx512_bf16": False, "amx_fp16": False}
GRANITE_RAPIDS = {"architecture": "x86_64", "avx512_bf16": True, "amx_bf16": True, "amx_fp16": True}
GRAVITON_3 = {"architecture": "aarch64", "neon": True, "bf16": True, "fp16_arith": True}
ANOTHER = {"architecture": "unknown"}


@pytest.mark.parametrize(
    ("capabilities", "bf16", "fp16"),
    [
        (ZEN_4, True, False),
        (HASWELL, False, False),
        (GRANITE_RAPIDS, True, True),
        (GRAVITON_3, True, None),  # torch may or may not train with its fp16
        (ANOTHER, None, None),
    ],
)
def test_newer_torch_is_asked_for_the_processors_formats(monkeypatch, capabilities, bf16, fp16):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    monkeypatch.setattr(hardware, "lines_of", lambda path: ["flags : amx_fp16 avx512_bf16"])
    machine = hardware.machine.__wrapped__("cpu")
    assert (machine.bf16, machine.fp16) == (bf16, fp16)


@pytest.mark.parametrize(
    ("lines", "bf16", "fp16"),
    [
        (["processor : 0", "flags : fpu avx2 avx512_bf16 amx_bf16", "flags : other"], True, False),
        (["flags : fpu avx2"], False, False),
        (["flags : avx512_bf16 amx_bf16 amx_fp16"], True, True),
        (["Features : fp asimd bf16 i8mm"], True, False),  # Arm
        (["Features : fp asimd asimdhp"], False, None),
        (["processor : 0"], None, None),
        ([], None, None),  # macOS and Windows have no such file
    ],
)
def test_the_oldest_torch_that_we_allow_leaves_it_to_linux(monkeypatch, lines, bf16, fp16):
    monkeypatch.setattr(hardware.torch, "cpu", SimpleNamespace())  # no get_capabilities
    monkeypatch.setattr(hardware, "lines_of", lambda path: lines if str(path) == "/proc/cpuinfo" else [])
    machine = hardware.machine.__wrapped__("cpu")
    assert (machine.bf16, machine.fp16) == (bf16, fp16)
    assert json.loads(json.dumps(machine.to_dict()))["bf16"] is bf16


@pytest.mark.parametrize("device", ["cuda:999", "mps", "cuda"])
def test_a_device_that_does_not_exist_is_refused(monkeypatch, device):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(CannotRun, match=f"device='{device}'.*choose device='auto'"):
        hardware.machine.__wrapped__(device)


def test_this_machine_describes_itself():
    here = hardware.machine("cpu")
    assert here.kind == here.device == "cpu"
    assert here.name
    assert here.memory > 2**28
    assert here.device_memory is None
    assert here.torch == torch.__version__
    assert json.loads(json.dumps(here.to_dict())) == here.to_dict()


def test_what_the_system_does_not_say_is_none_or_a_plain_word(monkeypatch):
    monkeypatch.setattr(hardware, "lines_of", lambda path: [])
    monkeypatch.setattr(hardware.Path, "is_dir", lambda path: False)
    assert loading.shared_memory_free() is None
    assert hardware._version("no-such-package-here") is None
    assert hardware._processor()
