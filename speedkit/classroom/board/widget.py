"""The class board: the results of a whole room on one chart, which fills by itself.

    sk.share(result, name="Ada")  # each learner, with SPEEDKIT_BOARD set to a folder that all can write to
    sk.Board()                    # the instructor, at the projector

The same technique can win on one machine and lose on another. Seeing that takes more than one machine.
"""

import csv
import io
import threading
from datetime import datetime
from pathlib import Path

import ipywidgets as widgets
from markupsafe import Markup

from speedkit.classroom.board import chart
from speedkit.classroom.board.results import NO_FOLDER, TECHNIQUES, Folder, Result, latest, share
from speedkit.classroom.prediction import Prediction
from speedkit.classroom.saved import saved_comparisons
from speedkit.comparison.metrics import METRICS
from speedkit.lab.display import html_for_each, show_widget, style_sheet
from speedkit.lab.runner import stop_what_this_cell_showed
from speedkit.recipe import SWITCHES
from speedkit.support.files import write_atomically
from speedkit.support.messages import _, message_of, ngettext
from speedkit.support.variables import board_folder

EVERY = 3.0  # seconds between two looks into the folder
MOST_PROBLEMS = 8  # skipped files that are named
FORMULA = ("=", "+", "-", "@")  # a spreadsheet may compute a text that begins with one of these
LINE, STATUS = "<div>{}</div>", "<div role='status'>{}</div>"
COLUMNS = (
    *("who", "nickname", "technique", "changes", "task", "metric", "title", "unit", "effect", "low", "high", "verdict"),
    *("why", "claimed", "outcome", "predicted", "predicted_size", "pairs", "smoke", "hardware", "kind", "cores"),
    *("memory", "device_memory", "system", "versions", "shared", "file"),
)


class Board:
    """Everything that a room has shared: one chart for each technique and metric. Show it as a cell's last line.

    Args:
        folder: the folder with the results. Default: ``SPEEDKIT_BOARD``; without that, the board says how to set it.
        technique: what to show first, such as ``"cache"``. Default: the technique of the first result that arrives.
        metric: what to show first, a name in ``sk.METRICS``. Default: the time that the technique is about.
        every: seconds between two looks into the folder.

    While it is shown, a thread looks into the folder and redraws the chart when something has changed, until
    :meth:`stop` or until the cell is run again. For each learner, technique and setting, the latest result counts.
    Learners without a nickname are called learner 1, 2, ... in the order of their first result. What is redrawn is in
    the current language; the two lists keep the language in which they were made.

    Raises:
        ValueError: there is no such technique or metric.
    """

    def __init__(self, folder=None, technique: str | None = None, metric: str | None = None, *, every: float = EVERY):
        for name, value, allowed in (("technique", technique, TECHNIQUES), ("metric", metric, tuple(METRICS))):
            if value is not None and value not in allowed:
                raise ValueError(f"{name}={str(value)[:40]!r} is not on the board: choose from {', '.join(allowed)}.")
        self.folder, self.every = board_folder(folder), every
        self._files = Folder(self.folder) if self.folder else None
        self._follow = technique is None  # the first result that arrives
        self._setting = False  # whether both lists are being set: one drawing is enough
        self._own_metric = metric
        self._looking, self._drawing, self._over = threading.Lock(), threading.RLock(), threading.Event()
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
        self.box = widgets.VBox([style_sheet(), choices, self.picture, self.skipped])
        self.box.add_class("sk-board")
        self.technique.observe(self._chose_technique, "value")
        self.metric.observe(self._chose_metric, "value")

    # Reading

    @property
    def results(self) -> list[Result]:
        """The results that could be read and that count, in the order in which they were shared."""
        return latest(self._files.results) if self._files else []

    @property
    def problems(self) -> dict[str, str]:
        """The files that were skipped: name -> reason, in English."""
        return self._files.problems if self._files else {}

    def refresh(self) -> bool:
        """Looks into the folder now and redraws if something has changed; returns whether it has."""
        with self._looking:  # a slow or dead network drive may take minutes: nothing else waits for it
            changed = self._files.look() if self._files else False
        with self._drawing:
            if changed or not self.picture.value:
                self._draw()
        return changed

    # Showing

    def __repr__(self):
        lines = [chart.text(self._everything(), self.technique.value, self.metric.value), self._where()]
        return "\n".join([*lines, *self._skipped()])

    def _skipped(self):
        return [_("Skipped {name}: {why}", name=name, why=_(why)) for name, why in self.problems.items()]

    def _ipython_display_(self):
        """Shows the widgets and starts to look into the folder."""
        stop_what_this_cell_showed(self)
        show_widget(self.box, repr(self))
        self.start()

    def start(self):
        """Starts the thread that looks into the folder every few seconds. Showing the board does so, too."""
        with self._drawing:
            if self._files and (self._thread is None or self._over.is_set()):
                self._over = threading.Event()
                over = (self._over,)
                self._thread = threading.Thread(target=self._tick, args=over, name="speedkit board", daemon=True)
                self._thread.start()

    def stop(self):
        """Stops looking into the folder; the chart stays as it is."""
        self._over.set()

    def _tick(self, over):
        while not over.wait(self.every):
            try:
                self.refresh()
            except Exception as error:  # a board that stands still should say so
                why = f"{type(error).__name__}: {error}"
                self.status.value = Markup(STATUS).format(_("Not up to date: {why}", why=why))

    def _everything(self):
        return self._files.results if self._files else []

    def _draw(self):
        results = self._everything()
        self._go_to_the_first(results)
        self.picture.value = chart.svg(results, self.technique.value, self.metric.value)
        self.status.value = Markup(STATUS).format(self._where())
        skipped = self._skipped()
        if (more := len(skipped) - MOST_PROBLEMS) > 0:
            skipped[MOST_PROBLEMS:] = [ngettext("{n} more file is skipped.", "{n} more files are skipped.", more)]
        self.skipped.value = (
            Markup("<div class='sk-skipped'>{}</div>").format(html_for_each(LINE, skipped)) if skipped else ""
        )

    def _where(self):
        if self._files is None:
            return _(NO_FOLDER)
        if not self._files.found:
            return _("Cannot read {folder} ({why}); still trying.", folder=self.folder, why=self._files.why)
        counted = latest(self._files.results)
        words = ngettext(
            "{n} result from {learners} in {folder}, as of {time}",
            "{n} results from {learners} in {folder}, as of {time}",
            len(counted),
            learners=ngettext("{n} learner", "{n} learners", len({result.seat for result in counted})),
            folder=self.folder.name,
            time=f"{datetime.now():%H:%M:%S}",
        )
        return _("{words}; {more}", words=words, more=_(self._files.why)) if self._files.why else words

    def _go_to_the_first(self, results):
        if self._follow and results:
            self._follow = False
            self._quietly(results[0].technique, self._own_metric or chart.first_metric(results[0].technique))

    def _quietly(self, technique, metric):
        """Sets both lists without drawing the chart for each of them."""
        self._setting = True
        try:
            self.technique.value, self.metric.value = technique, metric
        finally:
            self._setting = False

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
        """The results that count, as a pandas DataFrame with one row per result and metric.

        ``effect``, ``low``, ``high`` and ``predicted_size`` are ratios or points, as ``unit`` says, and missing if
        not known; ``memory`` and ``device_memory`` are in bytes. Words are English.
        """
        import pandas

        return pandas.DataFrame(self._records(), columns=list(COLUMNS))

    def to_csv(self, path) -> Path:
        """Writes the table of :meth:`to_frame` as CSV for a spreadsheet, the whole file or none, and returns its path.

        An apostrophe is put before a text that a spreadsheet would take for a formula.

        Raises:
            OSError: the file cannot be written.
        """
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = io.StringIO()
        writer = csv.DictWriter(lines, COLUMNS, lineterminator="\n")
        writer.writeheader()
        for record in self._records():
            writer.writerow({name: _harmless(value) for name, value in record.items()})
        mark = "\ufeff"  # without it, Excel misreads UTF-8
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
    """A field for a nickname and a button that shares the results saved by the lessons, with their predictions.

    Show it as a cell's last line.

    Args:
        folder: the board's folder. Default: ``SPEEDKIT_BOARD``.
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
        self._say([_("Saved by your lessons: {found}.", found=found) if found else _nothing_saved()])
        row = widgets.HBox([self.name, self.button], layout={"flex_flow": "row wrap"})
        self.box = widgets.VBox([style_sheet(), row, self.line])
        self.box.add_class("sk-sharing")

    def _share(self, __=None):
        self.button.disabled = True
        found = saved_comparisons()
        try:
            lines = []
            for technique, comparison in found.comparisons.items():
                prediction = Prediction(technique, *METRICS)  # what was committed in the lesson
                lines.append(str(share(comparison, self.name.value, self.folder, prediction=prediction)))
        except ValueError as error:
            lines = [_(message_of(error))]
        finally:
            self.button.disabled = False
        self._say([*(lines or [_nothing_saved()]), *found.notes])

    def _say(self, lines):
        self.line.value = Markup(STATUS).format(html_for_each(LINE, lines))

    def __repr__(self):
        return _("a button that shares your saved results (live widgets: run this cell to use them)")

    def _ipython_display_(self):
        show_widget(self.box, repr(self))


def _nothing_saved():
    return _("Your lessons have not saved anything yet.")
