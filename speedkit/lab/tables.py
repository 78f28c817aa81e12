"""Tables of several runs, and of several readings of the same step."""

import math

from speedkit.recipe import TITLES, Recipe
from speedkit.run import Run, labels
from speedkit.run_words import is_disturbed
from speedkit.support.messages import N_, _
from speedkit.support.table import Table
from speedkit.support.units import number, percent, seconds, size
from speedkit.tasks import task_of

TASK = ("data", "subset", "epochs", "batch_size")  # what runs should have in common if their figures are compared
MARK = "⚠"
DISTURBED_RUNS = N_(
    "{mark} Other programs competed with this run for the cores: close them and run again before you trust its times."
)
CUT = N_("Cut to a few steps by SPEEDKIT_SMOKE: these numbers mean nothing.")


def marked(name: str, *runs: Run) -> str:
    """The name of a row about these runs, marked if one of them was disturbed."""
    return f"{name} {MARK}" if any(map(is_disturbed, runs)) else name


def warning(*runs: Run) -> str:
    """What a table of these runs says first: that some were disturbed; "" if none was."""
    return _(DISTURBED_RUNS, mark=MARK) if any(map(is_disturbed, runs)) else ""


def value_of(recipe, name) -> str:
    """The value of a recipe's field in a table."""
    value = getattr(recipe, name)
    return _("all") if value is None else f"{value:,}" if isinstance(value, int) else str(value)


def table_of_runs(*runs: Run) -> Table:
    """Shows runs in one table: ``sk.table_of_runs(*panel.runs)``.

    It does not compare them: one run of each recipe proves nothing. Use :func:`speedkit.compare` for that.

    Args:
        runs: any number of runs, from a panel, :func:`speedkit.fit` or a file.

    Returns:
        A table with one row per run: time per step, waiting and computing (each with its unit), images per second,
        the memory of one training step (counted) and, if a run was on a GPU, the peak memory there, the last validation
        accuracy, and the status of the run. If the runs differ in their data, its amount, epochs or batch size, these
        are columns, too. Times and rates are means over the steps, without the first one. "n/a": not measured. Runs of
        which other programs took much of the processor time are marked.
    """
    differing = [name for name in TASK if len({getattr(run.recipe, name) for run in runs}) > 1]
    same = {name: getattr(Recipe(), name) for name in differing}  # a label need not repeat what a column says
    alike = [Run(run.recipe.model_copy(update=same), run.name) for run in runs]
    heading = [_("run"), *(_(TITLES[name]) for name in differing)]
    units = {task_of(run.recipe).unit for run in runs}
    rate = _(units.pop()) if len(units) == 1 else _("throughput")
    heading += [_("time per step"), _("waiting"), _("computing"), rate, _("memory of a step")]
    on_gpu = any(not run.memory_is_of_processes for run in runs)
    heading += [*([_("peak memory")] if on_gpu else []), _("validation accuracy"), _("status")]
    rows = [
        [
            marked(label, run),
            *(value_of(run.recipe, name) for name in differing),
            seconds(run.mean("step_s")),
            seconds(run.mean("wait_s")),
            seconds(run.mean("compute_s")),
            number(run.mean("images_per_s")) + (f" {_(task_of(run.recipe).unit)}" if units else ""),
            size(run.scalars.get("step_memory")),
            *([size(math.nan if run.memory_is_of_processes else run.scalars.get("peak_memory"))] if on_gpu else []),
            percent(run.last("validation_accuracy")),
            _(run.status),
        ]
        for label, run in zip(labels(alike), runs, strict=True)
    ]
    caption = _("Means over the steps of each run, without the first step.")
    if any(run.smoke for run in runs):
        caption += f" {_(CUT)}"
    return Table(heading, rows, caption, warning=warning(*runs))


def table_against(baseline: Run, runs: list[Run]) -> Table:
    """The runs of a panel, one in a row, each figure with its ratio to the baseline's; accuracies, with the difference.

    Runs of another task than the baseline's have no ratios.
    """
    rate = _(task_of(baseline.recipe).unit)
    heading = [_("run"), _("time per step"), _("waiting"), rate, _("memory of a step"), _("time"), _("accuracy")]
    rows = []
    for label, run in zip(labels(runs), runs, strict=True):
        other = run if task_of(run.recipe) is not task_of(baseline.recipe) else baseline
        cells = [
            _beside(words(mine), mine, its) for mine, its, words in zip(_means(run), _means(other), WORDS, strict=True)
        ]
        mine, its = (each.last("validation_accuracy") for each in (run, other))
        points = f" ({100 * (mine - its):+.1f})" if other is not run and math.isfinite(mine - its) else ""
        rows.append([marked(label, run), *cells, f"{percent(mine)}{points}"])
    caption = _("In brackets: compared with {name}. One run each, so a difference can be chance.", name=baseline.label)
    return Table(heading, rows, caption if len(runs) > 1 else "", warning=warning(*runs))


WORDS = (seconds, seconds, number, size, seconds)  # of the figures of a run in such a table


def _means(run):
    means = [run.mean(name) for name in ("step_s", "wait_s", "images_per_s")]
    return [*means, run.scalars.get("step_memory", math.nan), run.seconds]


def _beside(words, mine, its):
    return f"{words} (× {mine / its:.2f})" if mine != its and its and math.isfinite(mine / its) else words


def table_of_timings(**readings: float) -> Table:
    """Shows how long the same step takes by several stopwatches: ``sk.table_of_timings(no_sync=0.002, fair=0.031)``.

    Args:
        readings: seconds by name, at least one; underscores become spaces. The last one is the reference.

    Returns:
        A table with one row per reading: the time per step, and its ratio to the last row's ("n/a" if that is 0).

    Raises:
        ValueError: no reading is given.
    """
    if not readings:
        raise ValueError("Give at least one reading in seconds, such as fair=0.031.")
    *__, reference = readings.values()
    rows = []
    for name, value in readings.items():
        ratio = value / reference if reference else math.nan
        rows.append([name.replace("_", " "), seconds(value), f"× {ratio:.2f}" if math.isfinite(ratio) else _("n/a")])
    return Table([_("stopwatch"), _("time per step"), _("relative to the last row")], rows)
