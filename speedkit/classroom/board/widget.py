"""The class board: the results of a whole room on one chart, which fills by itself.

    sk.share(result, name="Ada")  # each learner, with SPEEDKIT_BOARD set to a folder that all can write
    sk.Board()                    # whoever stands at the projector

The same technique wins on one machine and loses on another: to see that takes more machines than one's own.
"""

import csv
import html
import io
import threading
from datetime import datetime
from pathlib import Path

import ipywidgets as widgets
from IPython.display import display

from speedkit.classroom.board import chart
from speedkit.classroom.board.results import NO_FOLDER, TECHNIQUES, Folder, Result, latest, share
from speedkit.classroom.prediction import Prediction
from speedkit.classroom.saved import saved_comparisons
from speedkit.comparison.metrics import METRICS
from speedkit.lab.runner import stop_what_this_cell_showed
from speedkit.recipe import SWITCHES
from speedkit.support.files import write_atomically
from speedkit.support.messages import _, message_of, ngettext
from speedkit.support.settings import board_folder

EVERY = 3.0  # seconds between two looks into the folder
SAID_PROBLEMS = 8
FORMULA = ("=", "+", "-", "@")  # how a text begins that a spreadsheet may compute
STYLE = """<style>
.sk-board {border: 1px solid var(--jp-border-color2, #ccc); border-radius: 6px; padding: 12px 16px; overflow: hidden}
.sk-board > .widget-box, .sk-board > .widget-html {margin: 0; overflow: visible}
.sk-board .widget-html-content {line-height: 1.45}
.sk-choices {gap: 6px 18px}
.sk-choices select, .sk-choices option {color: var(--jp-ui-font-color1, #222);
  background-color: var(--jp-layout-color1, #fff)}
.sk-choices select {border: 1px solid var(--jp-border-color0, #999)}
.sk-board-status {flex: 1 1 220px; font-variant-numeric: tabular-nums; opacity: 0.85}
.sk-board-chart {display: block; margin-top: 8px; max-height: max(600px, calc(100vh - 170px))}
.sk-skipped {border-left: 4px solid #d32f2f; border-radius: 3px; padding: 8px 12px; margin: 8px 0 0;
  background: rgba(211, 47, 47, 0.12); overflow-wrap: anywhere}
</style>"""
COLUMNS = (
    *("who", "nickname", "technique", "changes", "task", "metric", "title", "unit", "effect", "low", "high", "verdict"),
    *("why", "claimed", "outcome", "predicted", "predicted_size", "pairs", "smoke", "hardware", "kind", "cores"),
    *("memory", "device_memory", "system", "versions", "shared", "file"),
)


class Board:
    """What a room has shared, a chart for each technique and metric. Show it as a cell's last line.

    folder: where the results lie; without it, ``SPEEDKIT_BOARD`` says it, and where that says nothing, the board shows
    how to set it. technique, metric: what is shown first; without them the technique of the first result, and the time
    that it is about. every: seconds between two looks into the folder.

    While it is shown, it looks into the folder in a thread of its own and draws anew when something has changed there,
    until :meth:`stop` or until its cell is run again. Of one nickname, machine, technique and setting the result that
    was shared last counts. Learners without a nickname are called machine 1, 2, ... in the order of their first result.
    What is drawn anew is in the language in force then; the names of the lists stay as they were made.

    Raises:
        ValueError: there is no such technique or metric.
    """

    def __init__(self, folder=None, technique: str | None = None, metric: str | None = None, *, every: float = EVERY):
        for name, value, allowed in (("technique", technique, TECHNIQUES), ("metric", metric, tuple(METRICS))):
            if value is not None and value not in allowed:
                raise ValueError(f"{name}={str(value)[:40]!r} is not on the board: give {' | '.join(allowed)}.")
        self.folder, self.every = board_folder(folder), every
        self._files = Folder(self.folder) if self.folder else None
        self._follow = technique is None  # the first result that arrives
        self._own_metric = metric
        self._drawing, self._over = threading.RLock(), threading.Event()
        self._thread: threading.Thread | None = None
        self._build(technique or SWITCHES[0])
        self.refresh()

    def _build(self, technique):
        metric = self._own_metric or chart.first_metric(technique)
        layout, style = {"width": "auto"}, {"description_width": "initial"}
        common = {"layout": layout, "style": style}
        choices = [(chart.technique_title(name), name) for name in TECHNIQUES]
        self.technique = widgets.Dropdown(options=choices, value=technique, description=_("Technique"), **common)
        choices = [(_(each.title), name) for name, each in METRICS.items()]
        self.metric = widgets.Dropdown(options=choices, value=metric, description=_("Measured"), **common)
        self.status, self.picture, self.skipped = (widgets.HTML(layout=layout) for __ in range(3))
        self.status.add_class("sk-board-status")
        choices = widgets.HBox([self.technique, self.metric, self.status])
        choices.add_class("sk-choices")
        choices.layout.flex_flow = "row wrap"
        choices.layout.align_items = "center"
        style = widgets.HTML(STYLE, layout={"display": "none"})
        self.box = widgets.VBox([style, choices, self.picture, self.skipped])
        self.box.add_class("sk-board")
        self.technique.observe(self._chose_technique, "value")
        self.metric.observe(self._chose_metric, "value")

    # What there is

    @property
    def results(self) -> list[Result]:
        """What could be read and counts, in the order in which it was shared."""
        return latest(self._files.results) if self._files else []

    @property
    def problems(self) -> dict[str, str]:
        """The files that were skipped: name -> reason."""
        return self._files.problems if self._files else {}

    def refresh(self) -> bool:
        """Looks into the folder now, and draws if anything has changed; whether it has."""
        with self._drawing:
            changed = self._files.look() if self._files else False
            if changed or not self.picture.value:
                self._draw()
            return changed

    # Showing

    def __repr__(self):
        lines = [chart.text(self._everything(), self.technique.value, self.metric.value), self._where()]
        skipped = (_("Skipped: {name}: {why}", name=name, why=_(why)) for name, why in self.problems.items())
        return "\n".join([*lines, *skipped])

    def _ipython_display_(self):
        """Shows the widgets, and begins to look into the folder."""
        stop_what_this_cell_showed(self)
        mimebundle = self.box._repr_mimebundle_()
        bundle, metadata = mimebundle if isinstance(mimebundle, tuple) else (mimebundle, {})
        display(bundle | {"text/plain": repr(self)}, metadata=metadata, raw=True)
        self.start()

    def start(self):
        """Looks into the folder every few seconds from now on, in a thread. Showing the board does so by itself."""
        with self._drawing:
            if self._files and (self._thread is None or self._over.is_set()):
                self._over = threading.Event()
                self._thread = threading.Thread(
                    target=self._tick, args=(self._over,), name="speedkit board", daemon=True
                )
                self._thread.start()

    def stop(self):
        """Looks no more; what is shown stays."""
        self._over.set()

    def _tick(self, over):
        while not over.wait(self.every):
            try:
                self.refresh()
            except Exception as error:  # a board that stands still should say so
                why = f"{type(error).__name__}: {error}"
                self.status.value = html.escape(_("Not up to date: {why}", why=why))

    def _everything(self):
        return self._files.results if self._files else []

    def _draw(self):
        results = self._everything()
        self._go_to_the_first(results)
        self.picture.value = chart.svg(results, self.technique.value, self.metric.value)
        self.status.value = f"<div role='status'>{html.escape(self._where())}</div>"
        skipped = self.problems.items()
        problems = [
            _("<b>{name}</b> is skipped: {why}", name=html.escape(name), why=html.escape(_(why)))
            for name, why in skipped
        ]
        if (more := len(problems) - SAID_PROBLEMS) > 0:
            problems[SAID_PROBLEMS:] = [ngettext("{n} more file is skipped.", "{n} more files are skipped.", more)]
        self.skipped.value = f"<div class='sk-skipped'>{'<br>'.join(problems)}</div>" if problems else ""

    def _where(self):
        if self._files is None:
            return _(NO_FOLDER)
        if not self._files.found:
            return _(
                "The folder {folder} cannot be looked into ({why}). As soon as it can be, it will.",
                folder=self.folder,
                why=self._files.why,
            )
        counted = latest(self._files.results)
        machines, results = len({result.seat for result in counted}), len(counted)
        words = ngettext(
            "{n} result from {machines} in {folder}, as of {time}",
            "{n} results from {machines} in {folder}, as of {time}",
            results,
            machines=ngettext("{n} machine", "{n} machines", machines),
            folder=self.folder.name,
            time=f"{datetime.now():%H:%M:%S}",
        )
        return _("{words}; {more}", words=words, more=_(self._files.why)) if self._files.why else words

    def _go_to_the_first(self, results):
        if self._follow and results:
            self._follow = False
            self._quietly(results[0].technique, self._own_metric or chart.first_metric(results[0].technique))

    def _quietly(self, technique, metric):
        """Sets both lists without drawing for each."""
        self._setting = True
        try:
            self.technique.value, self.metric.value = technique, metric
        finally:
            self._setting = False

    _setting = False

    def _chose_technique(self, change):
        with self._drawing:
            if not self._setting:
                self._follow = False
                self._quietly(change["new"], chart.first_metric(change["new"]))
                self._draw()

    def _chose_metric(self, __):
        with self._drawing:
            if not self._setting:
                self._draw()

    # For the instructor

    def to_frame(self):
        """Every result that counts as a pandas DataFrame, a row for each of its metrics."""
        import pandas

        return pandas.DataFrame(self._records(), columns=list(COLUMNS))

    def to_csv(self, path) -> Path:
        """Writes what :meth:`to_frame` gives as CSV for a spreadsheet; the whole file or, where that fails, none.

        A text that a spreadsheet would take for a formula has an apostrophe in front.
        """
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = io.StringIO()
        writer = csv.DictWriter(lines, COLUMNS, lineterminator="\n")
        writer.writeheader()
        for record in self._records():
            writer.writerow({name: _harmless(value) for name, value in record.items()})
        mark = "\ufeff"  # without it Excel takes UTF-8 for something else
        write_atomically(path, mark + lines.getvalue())
        return path

    def _records(self):
        called = chart.names(self._everything())
        for result in self.results:
            machine = result.machine
            common = {"who": called[result.seat]}
            common |= {name: getattr(result, name) for name in ("nickname", "technique", "changes", "task")}
            common |= {name: getattr(result, name) for name in ("pairs", "smoke", "shared", "file")}
            common |= {"hardware": machine.name, "kind": machine.kind, "cores": machine.cores, "memory": machine.memory}
            common |= {"device_memory": machine.device_memory, "system": machine.system}
            common["versions"] = ", ".join(f"{name} {version}" for name, version in result.versions.items())
            for row in result.rows:
                figures = {name: getattr(row, name) for name in COLUMNS if hasattr(row, name)}
                yield common | figures | {"unit": "ratio" if row.is_ratio else "points"}


def _harmless(value):
    return f"'{value}" if isinstance(value, str) and value.lstrip().startswith(FORMULA) else value


class Sharing:
    """A nickname, if one likes, and a button that shares what the lessons have kept, with the predictions about it.

    Show it as a cell's last line.

    folder: as in :func:`share`.
    """

    def __init__(self, folder=None):
        self.folder = folder
        self.name = widgets.Text(
            description=_("Nickname (optional)"), continuous_update=False, style={"description_width": "initial"}
        )
        self.button = widgets.Button(description=_("Share"), button_style="primary")
        self.line = widgets.HTML()
        self.button.on_click(self._share)
        found = ", ".join(chart.technique_title(technique) for technique in saved_comparisons().comparisons)
        kept_so_far = _("Your lessons have kept: {found}.", found=found) if found else _nothing_kept()
        self._say([kept_so_far])
        self.box = widgets.VBox([widgets.HBox([self.name, self.button], layout={"flex_flow": "row wrap"}), self.line])
        self.box.add_class("sk-sharing")

    def _share(self, __=None):
        self.button.disabled = True
        found = saved_comparisons()
        try:
            lines = []
            for technique, comparison in found.comparisons.items():
                prediction = Prediction(technique, *METRICS)  # the lesson's
                lines.append(str(share(comparison, self.name.value, self.folder, prediction=prediction)))
        except ValueError as error:
            lines = [_(message_of(error))]
        finally:
            self.button.disabled = False
        self._say([*(lines or [_nothing_kept()]), *found.notes])

    def _say(self, lines):
        self.line.value = f"<div role='status'>{'<br>'.join(html.escape(line) for line in lines)}</div>"

    def __repr__(self):
        return _("a button that shares what the lessons have kept (live widgets: run this cell to use them)")

    def _ipython_display_(self):
        mimebundle = self.box._repr_mimebundle_()
        bundle, metadata = mimebundle if isinstance(mimebundle, tuple) else (mimebundle, {})
        display(bundle | {"text/plain": repr(self)}, metadata=metadata, raw=True)


def _nothing_kept():
    return _("Your lessons have kept nothing yet.")
