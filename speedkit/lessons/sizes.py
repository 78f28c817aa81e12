"""How large each lesson's task is: on a GPU large enough to keep it busy, on a CPU small enough to end soon."""

from speedkit.hardware import machine

SIZES = {  # lesson -> fields of its recipe on a CPU, and on a GPU
    "stopwatch": ({"batch_size": 64, "subset": 64}, {"batch_size": 2048, "subset": 2048}),
    "precision": (
        {"model": "mlp", "batch_size": 512},
        {"model": "wide", "batch_size": 1024, "cache": "device", "channels_last": True},
    ),
    "early_stopping": ({"batch_size": 64}, {"batch_size": 16}),  # long enough for a GPU's energy counter
    "batchnorm": ({"subset": 4000}, {"subset": 8000}),
    "all_together": (
        {"image_size": 32, "batch_size": 32, "subset": 320},
        {"model": "wide", "image_size": 64, "batch_size": 128, "subset": 1280},
    ),
}


def of(lesson: str, kind: str | None = None) -> dict:
    """The fields of a lesson's recipe that depend on the device. kind: "cpu" or "cuda"; default: this machine's."""
    on_cpu, on_gpu = SIZES[lesson]
    return dict(on_gpu if (kind or machine().kind) == "cuda" else on_cpu)
