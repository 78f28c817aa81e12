"""What several lessons measure in the same way."""

import inspect
import math
import textwrap

from IPython.display import Code
from torch import nn

from speedkit.counted import PARTS, step_memory
from speedkit.hardware import machine
from speedkit.loading import drain
from speedkit.recipe import Recipe
from speedkit.tasks.images import load
from speedkit.techniques.precision import Precision
from speedkit.train import fit, score


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


def memory(recipe: Recipe) -> dict[str, float]:
    """Bytes of the tensors of one training step at its peak, by purpose, and their "total"; nan if not available."""
    data = drain(load(recipe.but(subset=recipe.batch_size)))
    counted = step_memory(recipe, data.shape, len(data.classes), machine(recipe.device).device)
    found = {name: counted.get(f"step_memory_{name}", math.nan) for name in PARTS}
    return found | {"total": counted.get("step_memory", math.nan)}


def accuracy(model: nn.Module, images, labels) -> float:
    """Share of images uint8 [N, C, H, W] that ``model`` gets right, computing in fp32."""
    device = next(model.parameters()).device.type
    with Precision("fp32", device) as precision:
        return drain(score(model, images, labels, precision))[1]


def source_of(*objects) -> Code:
    """The source of functions and classes, coloured, as a cell's last line: the code that runs, not a copy of it."""
    sources = (textwrap.dedent(inspect.getsource(each)).rstrip() for each in objects)
    return Code("\n\n".join(sources), language="python")
