"""What several lessons measure in the same way."""

import inspect
import math
import textwrap

from IPython.display import Code
from matplotlib.figure import Figure
from torch import nn

from speedkit.counted import Shapes, step_memory
from speedkit.hardware import machine
from speedkit.lab.chart.content import PARTS
from speedkit.lab.picture import PART_COLOURS, Picture, drawn
from speedkit.loading import drain
from speedkit.recipe import Recipe
from speedkit.support.table import Table
from speedkit.support.units import size
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
    counted = step_memory(recipe, Shapes.of(data), machine(recipe.device).device)
    found = {title: counted.get(f"step_memory_{name}", math.nan) for name, title in PARTS.items()}
    return found | {"total": counted.get("step_memory", math.nan)}


def memory_table(*recipes: Recipe) -> Table:
    """The bytes of one training step at its peak, counted: a column per recipe; of two recipes, their ratio, too."""
    columns, pair = [memory(recipe) for recipe in recipes], len(recipes) == 2
    rows = [[title, *(size(column[title]) for column in columns)] for title in columns[0]]
    for row in rows if pair else ():
        first, second = (column[row[0]] for column in columns)
        row.append(f"× {second / first:.2f}" if first > 0 else "n/a")
    caption = "The tensors of one step at its peak, counted one by one, not read from the process."
    return Table(["", *map(_title, recipes), *(["ratio"] if pair else [])], rows, caption)


def _title(recipe):
    norm = ", batch norm" if recipe.batchnorm else ""
    return f"{recipe.model}, batch {recipe.batch_size}, {recipe.precision}{norm}"


@drawn("The tensors of a training step, by purpose.")
def memory_figure(*recipes: Recipe) -> Picture:
    """Stacked bars of the same bytes. Recipes come in pairs, drawn relative to the first recipe of the pair."""
    figure = Figure(figsize=(9, 0.9 + 0.42 * len(recipes)), layout="constrained")
    axes = figure.subplots()
    columns = [memory(recipe) for recipe in recipes]
    heights = [-i - 0.25 * (i // 2) for i in range(len(recipes))]
    for i, (column, height) in enumerate(zip(columns, heights, strict=True)):
        left, whole = 0.0, columns[i - i % 2]["total"]
        for title, colour in zip(PARTS.values(), PART_COLOURS, strict=True):
            share = 100 * column[title] / whole
            look = {"color": colour, "edgecolor": "white", "linewidth": 0.8, "label": None if i else title}
            axes.barh(height, share, left=left, height=0.7, **look)
            left += share
        if math.isfinite(left):
            axes.text(left + 1, height, size(column["total"]), va="center", fontsize=8)
    axes.set_yticks(heights, [_title(recipe) for recipe in recipes], fontsize=8)
    axes.set_xlim(0, max(axes.get_xlim()[1], 125))
    axes.set_xlabel("% of the first bar of each pair", fontsize=8)
    axes.tick_params(axis="x", labelsize=8)
    figure.legend(*axes.get_legend_handles_labels(), fontsize=8, ncols=5, loc="outside upper center", frameon=False)
    return figure


def accuracy(model: nn.Module, images, labels) -> float:
    """Share of images uint8 [N, C, H, W] that ``model`` gets right, computing in fp32."""
    device = next(model.parameters()).device.type
    with Precision("fp32", device) as precision:
        return drain(score(model, images, labels, precision))[1]


def source_of(*objects) -> Code:
    """The source of functions and classes, coloured, as a cell's last line: the code that runs, not a copy of it."""
    sources = (textwrap.dedent(inspect.getsource(each)).rstrip() for each in objects)
    return Code("\n\n".join(sources), language="python")
