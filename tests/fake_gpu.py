"""NVIDIA GPUs that are not there: what torch.cuda and NVML would say about them, for tests on any machine."""

import inspect
import sys
from types import SimpleNamespace

import torch

from speedkit import gpu, hardware

GIB = 2**30
WHEEL = ["sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120", "compute_120"]  # what PyPI's torch was built for


class Card(SimpleNamespace):
    """One GPU: ``name``, ``major`` and ``minor`` of its capability, ``total_memory`` in bytes, ``uuid``.

    broken: what looking at it raises. mig: it is a slice of a card. energy: whether it counts its energy (joules).
    pids: the processes that compute on it.
    """

    def __init__(self, name, major, minor, memory, **more):
        rest = {"uuid": f"{name}-uuid", "broken": None, "mig": False, "energy": 0.0, "pids": ()}
        super().__init__(name=name, major=major, minor=minor, total_memory=memory, **rest | more)


T4 = Card("Tesla T4", 7, 5, 15 * GIB)
V100 = Card("Tesla V100-SXM2-16GB", 7, 0, 16 * GIB)
LAPTOP = Card("NVIDIA GeForce RTX 4060 Laptop GPU", 8, 9, 8 * GIB)
H100 = Card("NVIDIA H100 80GB HBM3", 9, 0, 79 * GIB)
SLICE = Card("NVIDIA H100 80GB HBM3 MIG 1g.10gb", 9, 0, 10 * GIB, mig=True)
FULL = Card("NVIDIA A100", 8, 0, 40 * GIB, broken=RuntimeError("CUDA error: out of memory\nmore lines"))


def install(
    monkeypatch, *cards, seen=True, cuda="13.0", hip=None, driver=("580.10", 13000), built_for=WHEEL, cores=None
):
    """Makes torch, NVML and speedkit believe in ``cards``.

    seen: whether torch can use CUDA. cuda, hip: what torch was built with. driver: its version, and its newest CUDA.
    """

    class NvmlError(Exception):
        pass

    def by_uuid(uuid):
        for card in cards:
            if uuid == f"{'MIG' if card.mig else 'GPU'}-{card.uuid}":
                return card
        raise NvmlError("not found")

    def properties(device):
        index = torch.device(device).index if not isinstance(device, int) else device
        card = cards[index or 0]
        if card.broken:
            raise card.broken
        return card

    def energy(card):
        if card.energy is None:
            raise NvmlError("not supported")
        return card.energy * 1000

    nvml = SimpleNamespace(
        NVMLError=NvmlError,
        nvmlInit=lambda: None,
        nvmlDeviceGetCount=lambda: len(cards),
        nvmlDeviceGetHandleByIndex=lambda index: cards[index],
        nvmlDeviceGetHandleByUUID=by_uuid,
        nvmlDeviceGetName=lambda card: card.name,
        nvmlSystemGetDriverVersion=lambda: driver[0],
        nvmlSystemGetCudaDriverVersion=lambda: driver[1],
        nvmlDeviceGetTotalEnergyConsumption=energy,
        nvmlDeviceGetUtilizationRates=lambda card: SimpleNamespace(gpu=50),
        nvmlDeviceGetComputeRunningProcesses=lambda card: [SimpleNamespace(pid=pid) for pid in card.pids],
    )
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    monkeypatch.setattr(torch.version, "cuda", cuda)
    monkeypatch.setattr(torch.version, "hip", hip)
    answers = {
        "is_available": lambda: seen and bool(cards),
        "device_count": lambda: len(cards) if seen else 0,
        "get_device_properties": properties,
        "get_arch_list": lambda: built_for,
        "memory_reserved": lambda device=None: 0,
        "is_bf16_supported": lambda including_emulation=True: True,
    }
    for name, answer in answers.items():
        monkeypatch.setattr(torch.cuda, name, answer)
    if cores:
        monkeypatch.setattr(hardware, "cores", lambda: cores)
    # Without their caches, so that nothing of this outlives the test.
    monkeypatch.setattr(hardware, "machine", inspect.unwrap(hardware.machine))
    monkeypatch.setattr(gpu, "choose", inspect.unwrap(gpu.choose))
