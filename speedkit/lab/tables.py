"""Tables that notebooks show: several runs, or several stopwatches, beside each other."""

import html
import math

from speedkit.lab.chart import labels
from speedkit.run import Run, number, percent, seconds, size
from speedkit.words import english, retold, say

CUT = english("Cut to a few steps by SPEEDKIT_SMOKE: no figure here means anything.")


class Table:
    """Rows of texts under a heading, shown as HTML in a notebook and as aligned text elsewhere.

    links: where the first cell of each row leads to, in HTML; without them, nowhere.
    """

    def __init__(self, heading: list[str], rows: list[list[str]], caption: str = "", links: list[str] | None = None):
        self.heading, self.rows, self.caption, self.links = heading, rows, caption, links

    def __repr__(self):
        lines = [self.heading, *self.rows]
        widths = [max(len(line[i]) for line in lines) for i in range(len(self.heading))]
        text = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines]
        return "\n".join([*(line.rstrip() for line in text), *([self.caption] if self.caption else [])])

    def _repr_html_(self):
        def row(cells, tag, link=None):
            texts = [html.escape(cell) for cell in cells]
            if link:
                texts[0] = f"<a href='{html.escape(link)}'>{texts[0]}</a>"
            return "<tr>" + "".join(f"<{tag} style='text-align:left'>{text}</{tag}>" for text in texts) + "</tr>"

        links = self.links or [None] * len(self.rows)
        body = "".join(row(cells, "td", link) for cells, link in zip(self.rows, links, strict=True))
        caption = f"<p>{html.escape(self.caption)}</p>" if self.caption else ""
        return f"<table><thead>{row(self.heading, 'th')}</thead><tbody>{body}</tbody></table>{caption}"


def side_by_side(*runs: Run) -> Table:
    """One row a run: what a step costs and where its time goes. It compares nothing: one run each proves nothing."""
    heading = [retold("run"), retold("a step"), say("waiting"), say("computing"), "images/s", say("peak memory")]
    heading += [say("validation accuracy"), say("ended")]
    rows = [
        [
            label,
            seconds(run.mean("step_s")),
            seconds(run.mean("wait_s")),
            seconds(run.mean("compute_s")),
            number(run.mean("images_per_s")),
            size(run.figures.get("peak_memory")),
            percent(run.last("validation_accuracy")),
            retold(run.status),
        ]
        for label, run in zip(labels(runs), runs, strict=True)
    ]
    caption = say("Means over the steps of one run each, the first step left out.")
    if any(run.smoke for run in runs):
        caption += f" {retold(CUT)}"
    return Table(heading, rows, caption)


def stopwatches(**readings: float) -> Table:
    """Readings in seconds of the same step by several stopwatches, and each as a multiple of the last one."""
    *_, reference = readings.values()
    rows = []
    for name, value in readings.items():
        times = value / reference if reference else math.nan
        rows.append([name.replace("_", " "), seconds(value), f"{times:.2f}" if math.isfinite(times) else say("n/a")])
    return Table([say("stopwatch"), retold("a step"), say("times the last row")], rows)
