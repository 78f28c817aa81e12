"""Tables that notebooks show: several runs, or several stopwatches, beside each other."""

import math

from speedkit.run import Run, labels
from speedkit.support.messages import N_, _
from speedkit.support.table import Table
from speedkit.support.units import number, percent, seconds, size

CUT = N_("Cut to a few steps by SPEEDKIT_SMOKE: no figure here means anything.")


def table_of_runs(*runs: Run) -> Table:
    """One row a run: what a step costs and where its time goes. It compares nothing: one run each proves nothing."""
    heading = [_("run"), _("a step"), _("waiting"), _("computing"), "images/s", _("peak memory")]
    heading += [_("validation accuracy"), _("ended")]
    rows = [
        [
            label,
            seconds(run.mean("step_s")),
            seconds(run.mean("wait_s")),
            seconds(run.mean("compute_s")),
            number(run.mean("images_per_s")),
            size(run.scalars.get("peak_memory")),
            percent(run.last("validation_accuracy")),
            _(run.status),
        ]
        for label, run in zip(labels(runs), runs, strict=True)
    ]
    caption = _("Means over the steps of one run each, the first step left out.")
    if any(run.smoke for run in runs):
        caption += f" {_(CUT)}"
    return Table(heading, rows, caption)


def table_of_timings(**readings: float) -> Table:
    """Readings in seconds of the same step by several stopwatches, and each as a multiple of the last one."""
    *__, reference = readings.values()
    rows = []
    for name, value in readings.items():
        times = value / reference if reference else math.nan
        rows.append([name.replace("_", " "), seconds(value), f"{times:.2f}" if math.isfinite(times) else _("n/a")])
    return Table([_("stopwatch"), _("a step"), _("times the last row")], rows)
