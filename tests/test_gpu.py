"""GPUs of many kinds, none of which is here: which one is used, and what is said if none is."""

import importlib
import os
from types import SimpleNamespace

import pytest
import torch

from speedkit import hardware
from speedkit.gpu import Gpu, is_built_for
from speedkit.hardware import cores, in_use
from speedkit.lab.controls import control_for
from speedkit.recipe import Recipe
from speedkit.support.errors import CannotRun
from tests.fake_gpu import FULL, GIB, H100, LAPTOP, SLICE, T4, V100, Card, install


@pytest.mark.parametrize(
    ("card", "bf16", "tf32", "half"),
    [(T4, False, False, "fp16"), (LAPTOP, True, True, "bf16"), (H100, True, True, "bf16"), (SLICE, True, True, "bf16")],
    ids=lambda value: getattr(value, "name", value),
)
def test_a_card_that_torch_can_use_is_used(monkeypatch, card, bf16, tf32, half):
    install(monkeypatch, card)
    machine = hardware.machine()
    assert (machine.device, machine.name, machine.device_memory) == ("cuda:0", card.name, card.total_memory)
    assert (machine.bf16, machine.tf32, machine.fp16, machine.half) == (bf16, tf32, True, half)
    assert card.name in machine.sentence()


def test_a_t4_says_what_it_lacks(monkeypatch):
    install(monkeypatch, T4, cores=2)
    assert hardware.machine().limits() == [
        "This GPU has no hardware for TF32/bf16.",
        "With 2 cores, workers and training share the same cores.",
    ]


def test_an_h100_lacks_nothing(monkeypatch):
    install(monkeypatch, H100, cores=64)
    assert hardware.machine().limits() == []


@pytest.mark.parametrize(
    ("cards", "options", "sentence"),
    [
        (
            [V100],
            {},
            "This torch was not built for Tesla V100-SXM2-16GB (compute capability 7.0): install one that was",
        ),
        (
            [FULL],
            {},
            "The GPU cannot be used now (CUDA error: out of memory): end the programs that use it, or wait",
        ),
        (
            [H100],
            {"seen": False, "driver": ("550.54", 12040)},
            "This machine has a GPU (NVIDIA H100 80GB HBM3), but its driver 550.54 is too old for this torch, which "
            "needs CUDA 13.0: update the driver, or install a torch for CUDA 12",
        ),
        ([LAPTOP], {"seen": False, "cuda": None}, "but this torch is a build without CUDA: install the CUDA build"),
        ([T4], {"seen": False}, "but torch cannot start CUDA: see what nvidia-smi says, and restart the kernel."),
    ],
    ids=["not built for it", "full", "old driver", "CPU build", "unknown"],
)
def test_a_gpu_that_is_not_used_is_named_with_what_to_do(monkeypatch, cards, options, sentence):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    install(monkeypatch, *cards, **options)
    machine = hardware.machine()
    assert machine.device == "cpu"
    first = machine.limits()[0]
    assert sentence in first
    assert first.endswith("TF32 and GPU power are n/a.")
    with pytest.raises(CannotRun) as error:
        hardware.machine("cuda")
    assert sentence in str(error.value)


def test_a_gpu_that_a_variable_hides_is_said_to_be_hidden(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    install(monkeypatch, H100, seen=False)
    assert "but CUDA_VISIBLE_DEVICES='' hides it: unset that variable and restart." in hardware.machine().limits()[0]


def test_without_any_gpu_nothing_is_explained(monkeypatch):
    install(monkeypatch, seen=False)
    assert hardware.machine().limits()[0] == "There is no NVIDIA GPU here: TF32 and GPU power are n/a."


def test_a_gpu_that_is_not_in_use_by_choice_is_not_denied(monkeypatch):
    install(monkeypatch, H100, cores=64)
    assert hardware.machine("cpu").limits()[0] == ("The GPU of this machine is not in use. TF32 and GPU power are n/a.")


@pytest.mark.parametrize(("card", "times", "refused"), [(T4, 9.0, True), (T4, 2.0, False), (H100, 9.0, False)])
def test_bf16_is_refused_where_a_gpu_emulates_it_slowly(monkeypatch, card, times, refused):
    install(monkeypatch, card)
    loop = importlib.import_module("speedkit.train")
    monkeypatch.setattr(loop, "slowdown", lambda name, model, images, labels: times)
    probe = SimpleNamespace(probe=(Sliced(), Sliced()))
    recipe = Recipe(precision="bf16")
    if refused:
        with pytest.raises(CannotRun, match=r"Three bf16 steps took 9 times as long .* on Tesla T4: choose fp16 or"):
            loop.refuse_if_slow(recipe, hardware.machine(), None, probe)
        loop.refuse_if_slow(recipe.but(allow_slow=True), hardware.machine(), None, probe)
    else:
        loop.refuse_if_slow(recipe, hardware.machine(), None, probe)


class Sliced:
    """Stands for a tensor that is cut and moved to a device which is not there."""

    def __getitem__(self, part):
        return self

    def to(self, device):
        return self


def test_the_first_card_that_torch_can_use_is_taken(monkeypatch):
    install(monkeypatch, V100, LAPTOP)
    assert hardware.machine().device == "cuda:1"
    assert hardware.machine("cuda:1").name == LAPTOP.name
    with pytest.raises(CannotRun, match="not built for Tesla V100"):
        hardware.machine("cuda:0")
    with pytest.raises(CannotRun, match="torch finds 2 CUDA GPUs here"):
        hardware.machine("cuda:2")


def test_apples_gpu_is_taken_only_if_asked_for(monkeypatch):
    install(monkeypatch, seen=False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.mps, "recommended_max_memory", lambda: 8 * GIB)
    assert hardware.machine().device == "cpu"
    apple = hardware.machine("mps")
    assert apple.kind == "mps"
    assert apple.limits()[0] == "Training on Apple's GPU has not been tested. TF32 and GPU power are n/a."


def test_an_amd_gpu_is_not_taken_for_an_ampere(monkeypatch):
    install(monkeypatch, Card("AMD Radeon RX 7900 XTX", 11, 0, 24 * GIB), cuda=None, hip="6.4", built_for=["gfx1100"])
    machine = hardware.machine()
    assert (machine.device, machine.tf32, machine.bf16) == ("cuda:0", False, True)


@pytest.mark.parametrize(
    ("capability", "architectures", "fits"),
    [
        ((8, 9), ["sm_80"], True),  # a higher minor number
        ((8, 0), ["sm_86"], False),  # a lower one
        ((9, 0), ["sm_80"], False),  # another major number
        ((9, 0), ["sm_80", "compute_80"], True),  # intermediate code runs on all newer cards
        ((7, 0), ["compute_75"], False),
        ((9, 0), ["sm_90a"], True),
        ((10, 3), ["sm_100a"], False),  # this letter: on exactly this card
        ((10, 3), ["sm_100f"], True),  # this one: on its family
        ((12, 0), ["sm_100f"], False),
        ((12, 0), ["sm_100", "sm_120"], True),
        ((9, 4), ["gfx942"], True),
        ((7, 0), [], True),  # not known
    ],
)
def test_which_cards_a_build_runs_on(capability, architectures, fits):
    assert is_built_for(capability, architectures) is fits


# NVML


def gpu_of(monkeypatch, card, **options):
    install(monkeypatch, card, **options)
    return Gpu(torch.device("cuda:0"))


def with_pids(*pids, **more):
    return Card("a card", 8, 0, GIB, pids=pids, **more)


@pytest.mark.parametrize(
    ("pids", "reserved", "count"),
    [
        ((), 0, 0),
        ((1, 2), 0, 2),  # before this process has a context, it is not among them
        ((1,), 0, 1),
        ((1, os.getpid()), 2**20, 1),
        ((1, 2, 3), 2**20, 2),  # in a container: one of them is this process, by another number
        ((), 2**20, 0),
    ],
)
def test_other_processes_are_counted(monkeypatch, pids, reserved, count):
    found = gpu_of(monkeypatch, with_pids(*pids))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: reserved)
    assert found.others() == count


def test_on_windows_other_processes_are_not_known(monkeypatch):
    monkeypatch.setattr("sys.platform", "win32")
    assert gpu_of(monkeypatch, with_pids(1, 2, 3)).others() is None


@pytest.mark.parametrize("card", [H100, SLICE], ids=lambda card: card.name)
def test_a_whole_card_and_a_slice_are_found(monkeypatch, card):
    assert gpu_of(monkeypatch, card).handle is card


def test_energy_is_the_difference_of_two_readings(monkeypatch):
    card = with_pids(energy=100.0)
    found = gpu_of(monkeypatch, card)
    card.energy = 130.0
    assert found.readings() == {"energy_j": 30.0, "utilisation": 0.5}
    assert found.note() == ""


def test_beside_others_energy_is_not_the_runs_own(monkeypatch):
    found = gpu_of(monkeypatch, with_pids(77))
    assert found.readings() == pytest.approx({"energy_j": float("nan"), "utilisation": 0.5}, nan_ok=True)
    assert found.note() == (
        "1 other process was using this GPU: times are not those of a run alone, and its energy is n/a."
    )


def test_the_energy_of_a_slice_is_that_of_the_whole_card_and_so_not_told(monkeypatch):
    found = gpu_of(monkeypatch, SLICE)
    assert found.readings() == pytest.approx({"energy_j": float("nan"), "utilisation": 0.5}, nan_ok=True)
    assert found.note() == "This GPU is a slice of a card (MIG): its energy is n/a."


def test_an_energy_counter_that_is_not_supported_hides_nothing_else(monkeypatch):
    found = gpu_of(monkeypatch, with_pids(1, energy=None))
    assert found.readings() == pytest.approx({"energy_j": float("nan"), "utilisation": 0.5}, nan_ok=True)
    assert found.others() == 1


# What follows from it


def test_no_more_workers_are_offered_than_a_recipe_may_have(monkeypatch):
    for count in (1, 2, 16, 64, 104):
        offered = control_for("workers", Recipe(), count).options
        values = [value if isinstance(value, int) else value[1] for value in offered]
        assert max(values) <= 64
        Recipe(workers=max(values))


def test_the_current_device_is_the_runs(monkeypatch):
    chosen = []

    class Device:
        def __init__(self, device):
            chosen.append(device)

        def __enter__(self):
            pass

        def __exit__(self, *_):
            pass

    monkeypatch.setattr(torch.cuda, "device", Device)
    with in_use("cuda:1"), in_use("cpu"):
        assert chosen == ["cuda:1"]
    assert cores() >= 1
