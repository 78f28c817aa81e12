"""The memory of one training step, counted: every tensor, by what it is for, at the moment when they need the most.

Nothing is trained and no memory is taken: torch goes through two steps of the recipe with tensors that have shapes but
no content, and ``MemTracker`` follows each of them. So the figure is exact and the same each time, on any device. It
leaves out what is not a tensor: the libraries, their workspaces, and the allocator's rounding.

Source: ``torch.distributed._tools.mem_tracker``. It is private to torch: where it is missing or has changed, the figure
is not available.
"""

from functools import lru_cache

import torch
from torch import nn

from speedkit.recipe import Recipe

PARTS = {  # in the order of a stacked bar: the parts of MemTracker that each is made of
    "weights": ("Parameter", "Buffer"),
    "optimizer": ("Optstate",),
    "gradients": ("Gradient",),
    "activations": ("Activation",),
    "temporary": ("Temp", "Other"),
}
DECISIVE = ("model", "batch_size", "precision", "batchnorm", "optimizer")  # the other fields change no tensor's size


def step_memory(recipe: Recipe, shape: tuple[int, int, int], classes: int, device: str) -> dict[str, float]:
    """Bytes at the peak of a step, as scalars of a run: ``step_memory`` and, by part, ``step_memory_weights`` ...

    It is the second step of a new network, so that the optimizer has its state, and the gradients of the step before
    are still there during forward. shape: (channels, height, width) of an image. {} if torch cannot count here.
    """
    decisive = recipe.but(**{name: getattr(Recipe(), name) for name in Recipe.model_fields if name not in DECISIVE})
    return dict(_counted(decisive, tuple(shape), classes, torch.device(device).type))


@lru_cache(maxsize=256)
def _counted(recipe, shape, classes, kind):
    try:
        return _count(recipe, shape, classes, kind)
    except Exception:  # private parts of torch: any of them may change
        return {}


def _count(recipe, shape, classes, kind):
    from torch._subclasses.fake_tensor import FakeTensorMode  # here, because it takes half a second
    from torch.distributed._tools.mem_tracker import MemTracker

    from speedkit.techniques.precision import AUTOCAST
    from speedkit.train import new_network, optimization

    with FakeTensorMode(), torch.device(kind), torch.enable_grad():
        model = new_network(recipe, shape, classes, torch.zeros(shape[0]), torch.ones(shape[0])).train()
        optimizer, __ = optimization(recipe, model, 1)
        images = torch.zeros((recipe.batch_size, *shape), dtype=torch.uint8)
        labels = torch.zeros(recipe.batch_size, dtype=torch.int64)
        tracker = MemTracker()
        tracker.track_external(model, optimizer, images, labels)
        with tracker:
            for __ in range(2):
                tracker.reset_mod_stats()
                with torch.autocast(kind, AUTOCAST.get(recipe.precision), enabled=recipe.precision in AUTOCAST):
                    loss = nn.functional.cross_entropy(model(images), labels)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
    found = {device.type: parts for device, parts in tracker.get_tracker_snapshot("peak").items()}[kind]
    sizes = {str(getattr(part, "value", part)): float(size) for part, size in found.items()}
    scalars = {f"step_memory_{name}": sum(sizes.get(part, 0.0) for part in parts) for name, parts in PARTS.items()}
    if sum(scalars.values()) != sizes["Total"]:
        return {}  # there is a kind of tensor that we do not know
    return {"step_memory": sizes["Total"]} | scalars
