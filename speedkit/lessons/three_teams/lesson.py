"""What the other two networks learn, and the table of six techniques by three teams.

Source for "bound by": Williams et al. 2009, "Roofline: an insightful visual performance model".
"""

from dataclasses import dataclass, field

import torch
from torch import nn

from speedkit.comparison.metrics import title_of
from speedkit.comparison.result import Comparison
from speedkit.comparison.stats import NEEDED_PAIRS
from speedkit.hardware import machine
from speedkit.lab import live
from speedkit.lab.compare import compare
from speedkit.lab.tables import CUT, MARK, marked, warning
from speedkit.lessons import sizes
from speedkit.loading import drain
from speedkit.recipe import TITLES, Recipe
from speedkit.run import DISTURBED, Run
from speedkit.support.messages import _
from speedkit.support.table import Table
from speedkit.support.units import number, percent, seconds, size
from speedkit.tasks import module_of, task_of
from speedkit.train import first_batch, fit

TEAMS = ("vision", "language", "recommendation")
METRICS = {  # what each technique is judged by in the table
    "precision": "step_s",
    "early_stopping": "seconds",
    "augment": "step_s",
    "batchnorm": "validation_accuracy",
    "workers": "step_s",
    "cache": "step_s",
}


# What the networks have learnt


def sample(model: nn.Module, start: str = "ROMEO:\n", length: int = 300, context: int = 64, seed: int = 0) -> "Text":
    """Text that a network writes after ``start``: each byte is drawn with the probability that the network gives it."""
    draw, model = torch.Generator().manual_seed(seed), model.eval()
    device, text = next(model.parameters()).device, list(start.encode())
    with torch.no_grad():
        for __ in range(length):
            given = torch.tensor([[0] * (context - len(text)) + text[-context:]], dtype=torch.uint8, device=device)
            text.append(int(model(given)[0, :, -1].float().cpu().softmax(0).multinomial(1, generator=draw)))
    written = bytes(text).decode(errors="replace")
    return Text("".join(each if each.isprintable() or each == "\n" else "·" for each in written))


class Text(str):
    """A text that is shown as it is, not as Python would write it."""

    def __repr__(self):
        return str(self)


def with_networks(recipe: Recipe) -> tuple[nn.Module, nn.Module]:
    """The network of a recipe, once untrained and once trained."""
    untrained, trained = [], []
    fit(recipe.but(steps=1, learning_rate=1e-8), on_model=untrained.append)
    fit(recipe, on_model=trained.append)
    return untrained[0], trained[0]


def neighbours(model: nn.Module, recipe: Recipe, *names: str, count: int = 6) -> Table:
    """The items whose vectors point most nearly in the direction of each named one's.

    Raises:
        ValueError: the data has no item of that name.
    """
    known = drain(module_of(recipe).load(recipe.effective())).classes
    vectors = nn.functional.normalize(model.items.weight.detach().float().cpu())
    rows = []
    for name in names:
        if name not in known:
            raise ValueError(f"There is no item {name!r} in {recipe.data}.")
        near = vectors @ vectors[known.index(name)]
        near[[0, known.index(name)]] = -2.0  # nothing and itself
        rows.append([name, ", ".join(known[i] for i in near.topk(count).indices)])
    return Table(["item", "nearest by the direction of their vectors"], rows)


# The table


def teams(**changes) -> dict[str, Recipe]:
    """A small recipe for each team, which reads from where its data is stored; ``changes``: to all of them."""
    return {team: Recipe(**sizes.of(team), **changes) for team in TEAMS}


def switched(recipe: Recipe) -> dict[str, dict]:
    """What each technique changes in a recipe here."""
    here = machine(recipe.device)
    return {
        "precision": {"precision": here.half},
        "early_stopping": {"early_stopping": 1},
        "augment": {"augment": "heavy"},
        "batchnorm": {"batchnorm": True},
        "workers": {"workers": min(2, here.cores)},
        "cache": {"cache": "ram"},
    }


@dataclass(repr=False)
class Teams:
    """Comparisons by (technique, team). It shows itself as the table of these techniques by all teams."""

    recipes: dict[str, Recipe]
    techniques: tuple[str, ...] = tuple(METRICS)
    comparisons: dict[tuple[str, str], Comparison] = field(default_factory=dict)

    def table(self) -> Table:
        """One row per technique, one column per team: effect, interval and verdict."""
        rows = []
        for technique in self.techniques:
            metric = METRICS[technique]
            cells = [self._cell(technique, metric, team) for team in self.recipes]
            rows.append([_(TITLES[technique]), _title(metric, self.recipes), *cells])
        smoke = any(each.smoke for each in self.comparisons.values())
        busy = any(each.others_share > DISTURBED for each in self.comparisons.values())
        caption = f"Five pairs of runs in each cell, switched on / off. {CUT if smoke else ''}".strip()
        said = f"{MARK} Other programs competed for the cores: close them and measure again." if busy else ""
        return Table(["technique", "judged by", *self.recipes], rows, caption, warning=said)

    def _cell(self, technique, metric, team):
        if (comparison := self.comparisons.get((technique, team))) is None:
            return "not measured yet"
        row = comparison.row(metric)
        __, __, effect, between = row.texts()
        mark = f" {MARK}" if comparison.others_share > DISTURBED else ""
        if comparison.too_few or row.why:
            return f"{effect}: {_(row.verdict)}{mark}"
        return f"{effect} ({between}): {_(row.verdict)}{mark}"

    def __repr__(self):
        return repr(self.table())

    def _repr_html_(self):
        return self.table()._repr_html_()


def _title(metric, recipes):
    titles = dict.fromkeys(title_of(metric, recipe) for recipe in recipes.values())
    return " / ".join(_(title) for title in titles)


def measure(recipes: dict[str, Recipe], techniques=tuple(METRICS), pairs: int = NEEDED_PAIRS, progress=True) -> Teams:
    """Compares each recipe without and with each technique, in pairs of runs.

    For early stopping, each recipe gets few samples and many epochs: it is to have something to stop.
    """
    found = Teams(recipes, tuple(techniques))
    cells = [(technique, team) for technique in techniques for team in recipes]
    with live.progress(cells, unit="cell", wanted=progress) as bar:
        for technique, team in bar:
            bar.set_description(f"{technique}, {team}")
            recipe = recipes[team]
            if technique == "early_stopping":
                recipe = recipe.but(**sizes.of(f"{team} by heart"))
            variant = recipe.but(**switched(recipe)[technique])
            found.comparisons[technique, team] = compare(recipe, variant, pairs, progress=False)
    return found


def where(**runs: Run) -> Table:
    """Where a step goes in a run of each team, and what that bounds."""
    rows = []
    for name, run in runs.items():
        step, read, augment = (run.mean(column) for column in ("step_s", "read_s", "augment_s"))
        rows.append(
            [
                marked(name, run),
                seconds(step),
                percent(run.waiting_share),
                percent(read / step),
                percent(augment / step),
                f"{number(run.mean('images_per_s'))} {_(task_of(run.recipe).unit)}",
                size(run.scalars.get("step_memory_weights")),
                size(run.scalars.get("step_memory_activations")),
            ]
        )
    heading = ["team", "time per step", "waiting", "reading", "augmenting", "throughput", "weights", "activations"]
    caption = "One run each. Reading and augmenting are what the loader spends on a batch, as a share of the step."
    caption = f"{caption} {CUT}" if any(run.smoke for run in runs.values()) else caption
    return Table(heading, rows, caption, warning=warning(*runs.values()))


# Make it lose


def looks_ahead(*recipes: Recipe) -> Table:
    """Whether the output for the first half of a window depends on its second half, in training and in evaluation.

    The network is untrained. Shown is the largest change of a logit, beside their standard deviation.
    """
    rows = []
    for recipe in recipes:
        inputs, __, model = first_batch(recipe)
        half, changed = inputs.shape[1] // 2, inputs.clone()
        changed[:, half:] = inputs.flip(0)[:, half:]  # another window's
        for mode in ("training", "evaluation"):
            model.train(mode == "training")
            with torch.no_grad():
                before, after = (model(given)[:, :, :half].float() for given in (inputs, changed))
            change, usual = float((after - before).abs().max()), float(before.std())
            said = "yes" if change > 1e-4 * usual else "no"
            norm = "batch norm" if recipe.batchnorm else "no batch norm"
            rows.append([f"{recipe.model}, {norm}", mode, said, f"{change:.2g}", f"{usual:.2g}"])
    heading = ["network", "mode", "does it see later bytes?", "largest change of a logit", "their deviation"]
    return Table(heading, rows)
