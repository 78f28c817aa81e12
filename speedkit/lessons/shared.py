"""What several lessons measure in the same way."""

import inspect
import math
import textwrap

import torch
from IPython.display import Code
from torch import nn

from speedkit.loading import drain
from speedkit.recipe import Recipe
from speedkit.techniques.precision import Precision
from speedkit.train import first_batch, fit, optimization, score

# Networks


def trained(recipe: Recipe) -> nn.Module:
    """The network of a recipe, trained to the end; it is left in evaluation mode."""
    models = []
    fit(recipe, on_model=models.append)
    return models[0]


def accuracy(model: nn.Module, images, labels) -> float:
    """Share (0 to 1) of images uint8 [N, C, H, W] that ``model`` gets right in evaluation mode and in fp32."""
    device = next(model.parameters()).device.type
    with Precision("fp32", device) as precision:
        return drain(score(model, images, labels, precision))[1]


# Memory


class SavedTensors:
    """The tensors that autograd saves for the backward pass: each piece of memory once, without the weights."""

    def __init__(self, model: nn.Module):
        self.parameters = list(model.parameters())
        self.weights = {p.untyped_storage().data_ptr() for p in self.parameters}
        self.tensors = {}  # address of a storage -> a tensor in it, held so that no address is used twice

    def hooks(self):
        return torch.autograd.graph.saved_tensors_hooks(self._pack, lambda tensor: tensor)

    def _pack(self, tensor):
        where = tensor.untyped_storage().data_ptr()
        if where not in self.weights:
            self.tensors.setdefault(where, tensor)
        return tensor

    def _is_copy(self, tensor):
        for p in self.parameters:
            if tensor.dtype != p.dtype and tensor.numel() == p.numel():
                for turned in (p, p.t()) if p.ndim == 2 else (p,):
                    if turned.shape == tensor.shape and torch.equal(tensor, turned.detach().to(tensor.dtype)):
                        return True
        return False

    def count(self) -> tuple[int, int]:
        """Bytes of the 16-bit copies of weights made by autocast, and of everything else. Call it before the update."""
        sizes = {True: 0, False: 0}
        for tensor in self.tensors.values():
            sizes[self._is_copy(tensor)] += tensor.untyped_storage().nbytes()
        return sizes[True], sizes[False]


def memory(recipe: Recipe) -> dict[str, float]:
    """Bytes of the tensors of one training step by purpose; "together" is the sum of the first five.

    "peak on the device" is the allocator's own figure on CUDA, and nan elsewhere.
    """
    images, labels, model = first_batch(recipe.but(subset=recipe.batch_size))
    optimizer, _ = optimization(recipe, model, 1)
    saved, cuda = SavedTensors(model), images.is_cuda
    if cuda:
        torch.cuda.reset_peak_memory_stats(images.device)
    with Precision(recipe.precision, images.device.type) as precision:
        with saved.hooks(), precision.autocast():
            loss = nn.functional.cross_entropy(model(images), labels)
        copies, activations = saved.count()
        precision.step(loss, optimizer)
    parameters = list(model.parameters())
    state = [value for p in parameters for value in optimizer.state[p].values() if torch.is_tensor(value)]
    found = {
        "weights": sum(p.nbytes for p in parameters),
        "gradients": sum(p.grad.nbytes for p in parameters),
        "optimizer state": sum(value.nbytes for value in state),
        "16-bit copies of weights": copies,
        "activations kept for backward": activations,
    }
    found["together"] = sum(found.values())
    return found | {"peak on the device": torch.cuda.max_memory_allocated(images.device) if cuda else math.nan}


# Costs


def check_price(price_per_hour: float, runs: int):
    """Checks what a learner sets for a bill.

    Raises:
        ValueError: the price is negative or not a number, or ``runs`` is not at least 1.
    """
    if not price_per_hour >= 0 or not math.isfinite(price_per_hour) or runs < 1:
        raise ValueError(
            f"price_per_hour={price_per_hour!r}, runs={runs!r}: give a price of 0 or more, and at least 1 run."
        )


# Source code


def source_of(*objects) -> Code:
    """Shows the source of functions and classes, in colour: the code that runs, not a copy of it."""
    sources = (textwrap.dedent(inspect.getsource(each)).rstrip() for each in objects)
    return Code("\n\n".join(sources), language="python")
