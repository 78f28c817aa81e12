"""How large each lesson's task is: on a GPU large enough to keep it busy, on a CPU small enough to end soon."""

from speedkit.hardware import machine

SIZES = {  # lesson, or team of lesson 8 -> fields of its recipe on a CPU, and on a GPU
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
    "vision": (
        {"data": "jpeg", "stored_size": 64, "image_size": 32, "subset": 640, "epochs": 2},
        {"data": "jpeg", "stored_size": 64, "image_size": 64, "subset": 2560, "batch_size": 256, "model": "wide"},
    ),
    "language": (
        {"data": "text-sqlite", "model": "tcn", "subset": 640, "epochs": 2, "batch_size": 32},
        {"data": "text-sqlite", "model": "tcn", "subset": 10_240, "batch_size": 512},
    ),
    "recommendation": (
        {"data": "ratings-sqlite", "subset": 2560, "epochs": 2},
        {"data": "ratings-sqlite", "subset": 20_480, "batch_size": 2048},
    ),
    "vision by heart": (
        {"subset": 128, "epochs": 10, "batch_size": 32},
        {"subset": 512, "epochs": 12, "batch_size": 128},
    ),
    "language by heart": (
        {"subset": 128, "epochs": 10, "batch_size": 32},
        {"subset": 512, "epochs": 20, "batch_size": 128},
    ),
    "recommendation by heart": (
        {"subset": 512, "epochs": 10, "batch_size": 128},
        {"subset": 2048, "epochs": 20, "batch_size": 512},
    ),
}


def of(lesson: str, kind: str | None = None) -> dict:
    """The fields of a lesson's recipe that depend on the device. kind: "cpu" or "cuda"; default: this machine's."""
    on_cpu, on_gpu = SIZES[lesson]
    return dict(on_gpu if (kind or machine().kind) == "cuda" else on_cpu)
