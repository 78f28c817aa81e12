"""The memory of one training step, counted: every tensor, by what it is for, at the moment when they need the most.

Nothing is trained and no memory is taken: torch goes through two steps of the recipe with tensors that have shapes but
no content, and ``MemTracker`` follows each of them. So the figure is exact and the same each time, on any device. It
leaves out what is not a tensor: the libraries, their workspaces, and the allocator's rounding.

Source: ``torch.distributed._tools.mem_tracker``. It is private to torch: where it is missing or has changed, the figure
is not available.
"""

import threading
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import nn

from speedkit.recipe import Recipe
from speedkit.support.messages import N_, Message

PARTS = {  # in the order of a stacked bar: the parts of MemTracker that each is made of
    "weights": ("Parameter", "Buffer"),
    "optimizer": ("Optstate",),
    "gradients": ("Gradient",),
    "activations": ("Activation", "Other"),  # the other tensors are the batch
    "temporary": ("Temp",),
}
# The other fields change nothing here. (With the channels last, convolutions in 16 bits keep slightly more.)
DECISIVE = ("data", "model", "batch_size", "precision", "batchnorm", "optimizer", "channels_last")
NOT_COUNTED = N_("The memory of a training step cannot be counted with this version of torch ({error}).")


class Shapes(NamedTuple):
    """The shapes of an input and of its label, the number type of inputs, and the number of classes."""

    input: tuple[int, ...]
    label: tuple[int, ...]
    dtype: torch.dtype
    classes: int

    @classmethod
    def of(cls, data) -> "Shapes":
        """Those of a :class:`speedkit.tasks.data.Data`."""
        inputs, labels = data.probe
        return cls(tuple(inputs.shape[1:]), tuple(labels.shape[1:]), inputs.dtype, len(data.classes))


def step_memory(recipe: Recipe, shapes: Shapes, device: str) -> dict[str, float]:
    """Bytes at the peak of a step, as scalars of a run: ``step_memory`` and, by part, ``step_memory_weights`` ...

    It is the second step of a new network, so that the optimizer has its state, and the gradients of the step before
    are still there during forward. {} if torch cannot count here.
    """
    return dict(_figures(recipe, shapes, device)[0])


def record(run, data, device: str):
    """Writes the same into the scalars of a run; where torch cannot count, a note says why."""
    found, why = _figures(run.recipe, Shapes.of(data), device)
    run.scalars |= found
    if why:
        run.note(Message(NOT_COUNTED, error=why))


def _figures(recipe, shapes, device):
    decisive = Recipe(**{name: getattr(recipe, name) for name in DECISIVE}, subset=None)
    return _counted(decisive, shapes, torch.device(device).type)


@lru_cache(maxsize=256)
def _counted(recipe, shapes, kind):
    try:
        return _count(recipe, shapes, kind), ""
    except Exception as error:  # private parts of torch: any of them may change
        return {}, f"{type(error).__name__}: {error}"[:200]


def _count(recipe, shapes, kind):
    from torch._subclasses.fake_tensor import FakeTensorMode  # here, because it takes half a second
    from torch.distributed._tools.mem_tracker import MemTracker

    from speedkit.techniques.precision import AUTOCAST
    from speedkit.train import new_network, optimization

    with FakeTensorMode(), torch.device(kind), torch.enable_grad():
        plain = recipe.but(channels_last=False)  # tensors without content cannot be moved, only made anew
        model = new_network(plain, shapes.input, shapes.classes).train()
        for weight in model.parameters():
            if recipe.channels_last and weight.ndim == 4:
                weight.data = weight.data.contiguous(memory_format=torch.channels_last)
        optimizer, __ = optimization(recipe, model, 1)
        inputs = torch.zeros((recipe.batch_size, *shapes.input), dtype=shapes.dtype)
        labels = torch.zeros((recipe.batch_size, *shapes.label), dtype=torch.int64)
        tracker = _only_here(MemTracker(), optimizer)
        tracker.track_external(model, optimizer, inputs, labels)
        with tracker:
            for __ in range(2):
                tracker.reset_mod_stats()
                with torch.autocast(kind, AUTOCAST.get(recipe.precision), enabled=recipe.precision in AUTOCAST):
                    loss = nn.functional.cross_entropy(model(inputs), labels)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        states = [value for each in optimizer.state.values() for value in each.values() if torch.is_tensor(value)]
    found = {device.type: parts for device, parts in tracker.get_tracker_snapshot("peak").items()}[kind]
    sizes = {str(getattr(part, "value", part)): float(size) for part, size in found.items()}
    scalars = {f"step_memory_{name}": sum(sizes.get(part, 0.0) for part in parts) for name, parts in PARTS.items()}
    if sum(scalars.values()) != sizes["Total"]:
        raise ValueError(f"unknown parts among {', '.join(sizes)}")
    # The tracker counts all that the optimizer makes as its state, even what it frees again at once.
    passing = max(
        0.0, scalars["step_memory_optimizer"] - sum(value.nbytes for value in states if value.device.type == kind)
    )
    scalars["step_memory_optimizer"] -= passing
    scalars["step_memory_temporary"] += passing
    return {"step_memory": sizes["Total"]} | scalars


def _only_here(tracker, optimizer):
    """The tracker without its hooks on all modules and optimizers of the process: other threads may train meanwhile."""
    from torch.distributed._tools.mem_tracker import _MemRefType

    here, modules = threading.get_ident(), tracker._mod_tracker

    def if_here(hook):
        return lambda *args: hook(*args) if threading.get_ident() == here else None

    def step_ends(*_):
        tracker._track_optimizer_states(_MemRefType.OPT, optimizer)
        tracker._in_opt = False

    def register():
        tracker._optimizer_hook_handles = (
            optimizer.register_step_pre_hook(lambda *_: setattr(tracker, "_in_opt", True)),
            optimizer.register_step_post_hook(step_ends),
        )

    modules._fw_pre_hook, modules._fw_post_hook = if_here(modules._fw_pre_hook), if_here(modules._fw_post_hook)
    tracker._register_global_optimizer_hook = register
    return tracker
