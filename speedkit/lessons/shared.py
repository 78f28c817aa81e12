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


def trained(recipe: Recipe) -> nn.Module:
    """The network of a recipe, trained."""
    models = []
    fit(recipe, on_model=models.append)
    return models[0]


def check_price(price_per_hour: float, runs: int):
    """Checks the two numbers that a bill for training needs.

    Raises:
        ValueError: the price is negative or not a number, or ``runs`` is less than 1.
    """
    if not price_per_hour >= 0 or not math.isfinite(price_per_hour) or runs < 1:
        raise ValueError(
            f"price_per_hour={price_per_hour!r}, runs={runs!r}: the price must be 0 or more, and runs at least 1."
        )


class SavedTensors:
    """Counts the memory that autograd saves for the backward pass: each storage once, the weights not at all."""

    def __init__(self, model: nn.Module):
        self.parameters = list(model.parameters())
        self.weights = {p.untyped_storage().data_ptr() for p in self.parameters}
        self.tensors = {}  # address of a storage -> a tensor in it, held so that the address is not reused

    def hooks(self):
        """The context in which to run the forward pass."""
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
        """Bytes of autocast's 16-bit copies of weights, and of everything else. Call it before the weights change."""
        sizes = {True: 0, False: 0}
        for tensor in self.tensors.values():
            sizes[self._is_copy(tensor)] += tensor.untyped_storage().nbytes()
        return sizes[True], sizes[False]


def memory(recipe: Recipe) -> dict[str, float]:
    """Bytes of the tensors of one training step, by purpose; the first five add up to "total".

    "peak on the device" is what CUDA's allocator reports; nan elsewhere.
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
        "activations saved for backward": activations,
    }
    found["total"] = sum(found.values())
    return found | {"peak on the device": torch.cuda.max_memory_allocated(images.device) if cuda else math.nan}


def accuracy(model: nn.Module, images, labels) -> float:
    """Share of images uint8 [N, C, H, W] that ``model`` gets right, computing in fp32."""
    device = next(model.parameters()).device.type
    with Precision("fp32", device) as precision:
        return drain(score(model, images, labels, precision))[1]


def source_of(*objects) -> Code:
    """The source of functions and classes, coloured, as a cell's last line: the code that runs, not a copy of it."""
    sources = (textwrap.dedent(inspect.getsource(each)).rstrip() for each in objects)
    return Code("\n\n".join(sources), language="python")
