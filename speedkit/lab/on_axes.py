"""What a panel's chart shows beside the current run, and along which axis: the learner's choices below the chart."""

from collections.abc import Callable

import ipywidgets as widgets

from speedkit.lab import chart
from speedkit.run import Run, labels
from speedkit.support.messages import _

EARLIER = 4  # earlier runs that stay on the axes


class OnAxes:
    """The controls below a chart: its axis, the run that the others are compared with, and a button for each run."""

    def __init__(self, changed: Callable[[], None]):
        """changed: called after each choice of the learner."""
        self.view, self._changed, self._listing = chart.View(), changed, False
        self.runs: list[Run] = []
        self._hidden: list[Run] = []  # by the learner's hand
        self.axis = widgets.Dropdown(
            options=[(_("steps"), "steps"), (_("seconds"), "seconds")], description=_("Along the axis")
        )
        self.baseline = widgets.Dropdown(description=_("Compare with"))
        for name, control in {"axis": self.axis, "baseline": self.baseline}.items():
            control.add_class("sk-switch")
            control.add_class(f"sk-{name}")
            control.layout.width, control.style.description_width = "auto", "initial"
        self.axis.observe(self._choose_axis, "value")
        self.baseline.observe(lambda __: self._listing or self._changed(), "value")
        self.choices, self.buttons = widgets.Box([self.axis, self.baseline]), widgets.Box()
        self.choices.add_class("sk-switches")
        self.buttons.add_class("sk-runs")
        self.offer([])

    @property
    def against(self) -> Run | None:
        """The run that the others are compared with: the first one, until the learner chooses another."""
        return self.baseline.value

    def earlier(self, shown: Run | None) -> list[Run]:
        """The runs on the axes beside the shown one: the newest and the one compared with, unless they are hidden."""
        others = [run for run in self.runs if run is not shown and run not in self._hidden]
        pinned = [run for run in others[:-EARLIER] if run is self.against]
        return [*pinned, *others[-EARLIER:][len(pinned) :]]

    def offer(self, runs: list[Run]):
        """Lists the runs to choose from, in place of those listed before."""
        chosen = self.against if self.against in runs else next(iter(runs), None)
        before = dict(zip(self.runs, self.buttons.children, strict=True))
        self.runs, self._hidden = [*runs], [run for run in self._hidden if run in runs]
        names = labels(runs)
        self._listing = True  # nothing has been chosen: the caller draws once, when all is listed
        self.baseline.options = [*zip(names, runs, strict=True)]
        self.baseline.index = runs.index(chosen) if runs else None
        self._listing = False
        buttons = [before.pop(run, None) or self._button(run) for run in runs]
        for button, name in zip(buttons, names, strict=True):
            button.description = name
        self.buttons.children = buttons
        for button in before.values():
            button.close()
        self.choices.layout.display = "grid" if runs else "none"
        self.buttons.layout.display = "flex" if len(runs) > 1 else "none"

    def _button(self, run):
        button = widgets.ToggleButton(value=True, tooltip=_("on the axes"))
        button.observe(lambda change: self._choose(run, change.new), "value")
        return button

    def _choose(self, run, shown):
        self._hidden = [other for other in self._hidden if other is not run] + [run] * (not shown)
        self._changed()

    def _choose_axis(self, change):
        self.view.in_seconds = change.new == "seconds"
        self._changed()
