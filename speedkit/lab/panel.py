"""The panel: six switches, Run and Stop, and time and memory drawn while a training goes on."""

import html
import threading
import time

import ipywidgets as widgets
from IPython.display import display

from speedkit import hardware
from speedkit.lab import chart
from speedkit.lab.controls import control_for, set_control
from speedkit.lab.other_work import OtherWork
from speedkit.lab.runner import Runner, stop_all, stop_on_interrupt, stop_what_this_cell_showed
from speedkit.recipe import SWITCHES, Recipe
from speedkit.run import Progress, Run
from speedkit.support.messages import _, message_of, ngettext, whole
from speedkit.support.typed import parse
from speedkit.support.units import percent, seconds
from speedkit.train import warm_up_torch

FRAME = 0.2  # seconds between two frames of the live chart, at least
SHARE = 0.003  # of a core's time that making frames may take while steps are timed: drawn in a browser on the same
# cores, a frame holds up training for some eight times as long as it was made, and all of it shall stay below 3 %
KEPT = 4  # earlier runs that stay on the axes
STYLE = """<style>
.sk-panel {border: 1px solid var(--jp-border-color2, #ccc); border-radius: 6px; padding: 12px 14px; overflow: hidden;
  container-type: inline-size}
.sk-panel > .widget-box, .sk-panel > .widget-html {margin: 0; overflow: visible}
.sk-panel .widget-html-content {line-height: 1.45}
.sk-switches {display: grid; grid-template-columns: repeat(6, minmax(0, 1fr)); gap: 8px 16px}
@container (max-width: 820px) {.sk-switches {grid-template-columns: repeat(3, minmax(0, 1fr))}}
@container (max-width: 400px) {.sk-switches {grid-template-columns: repeat(2, minmax(0, 1fr))}}
.sk-switch.widget-inline-hbox {flex-direction: column; align-items: stretch; justify-content: flex-end; height: auto;
  margin: 0; position: relative; overflow: visible}
.sk-switch.widget-inline-hbox .widget-label {font-weight: 600; height: auto; line-height: 1.5; text-align: left;
  margin: 0; white-space: normal}
.sk-switch.widget-inline-hbox > :not(.widget-label) {flex: none; width: 100%; height: 28px; margin: 0;
  border-radius: 3px}
.sk-switch select, .sk-switch input, .sk-switch option {color: var(--jp-ui-font-color1, #222);
  background-color: var(--jp-layout-color1, #fff)}
.sk-switch select, .sk-switch input {border: 1px solid var(--jp-border-color0, #999)}
.sk-switch select {background-image: linear-gradient(45deg, transparent 50%, currentColor 50%),
  linear-gradient(135deg, currentColor 50%, transparent 50%); background-repeat: no-repeat;
  background-position: right 13px center, right 8px center; background-size: 5px 5px}
.sk-switch.sk-front::before {content: ""; position: absolute; left: -9px; top: 2px; bottom: 0; width: 3px;
  border-radius: 2px; background: var(--jp-brand-color1, #1976d2)}
.sk-switch.sk-front .widget-label {color: var(--jp-brand-color1, #1976d2)}
.sk-task {margin-top: 8px !important}
.sk-buttons {margin: 12px 0 8px !important; gap: 6px 10px}
.sk-buttons > * {margin: 0}
.sk-buttons .jupyter-button {width: auto; padding: 0 16px; border-radius: 3px}
.sk-buttons .sk-run::before, .sk-buttons .sk-stop::before {content: ""; display: inline-block; width: 10px;
  height: 11px; margin-right: 8px; background: currentColor; vertical-align: -1px}
.sk-buttons .sk-run::before {clip-path: polygon(0 0, 100% 50%, 0 100%)}
.sk-status {flex: 1 1 220px; font-variant-numeric: tabular-nums}
.sk-where {min-height: 24px}
.sk-note {font-size: 0.92em; opacity: 0.8}
.sk-error {border-left: 4px solid #d32f2f; border-radius: 3px; padding: 8px 12px; margin: 0 0 8px;
  background: rgba(211, 47, 47, 0.12)}
.sk-chart {display: block; margin-top: 10px}
</style>"""


class Panel:
    """Switches for the six techniques, a task to train on, and the live chart. Show it as a cell's last line.

    recipe: where everything starts; what has no control stays as it is there.
    front: the name of the switch that a lesson is about; it is marked.
    settings: fields of :class:`Recipe` beside the six that the learner can set too.

    ``runs`` holds every run that has ended here, ``run(...)`` starts one from code and waits for it. Switches and
    buttons keep the language in which they were made: after ``speedkit.language(...)``, run the panel's cell again.

    Raises:
        ValueError: ``front`` or ``settings`` names a field that there is not.
    """

    def __init__(
        self, recipe: Recipe | None = None, *, front: str | None = None, settings=("data", "subset", "epochs")
    ):
        self.recipe = recipe or Recipe()
        self.runs: list[Run] = []
        self._shown: Run | None = None
        self._runner: Runner | None = None
        self._ended, self._frames = threading.Event(), threading.Lock()
        self._progress: Progress | None = None
        self._keepsake = {"text/plain": _("No run has ended in this panel yet.")}
        self._handles = []
        self._build(front, settings)
        self._show_status(_("Ready: {machine}.", machine=hardware.machine(self.recipe.device).sentence()))
        self._neighbours = OtherWork(self.recipe)
        self._show_neighbours(time.strftime("%H:%M"))
        self._draw()

    # Building

    def _build(self, front, settings):
        cores = hardware.cores()
        fields = Recipe.model_fields
        if front not in (None, *SWITCHES):
            raise ValueError(f"front={front!r} is not a switch: give one of {', '.join(SWITCHES)}.")
        for name in settings:
            if name in SWITCHES or name not in fields:
                others = ", ".join(other for other in fields if other not in SWITCHES)
                raise ValueError(f"settings={name!r} is not allowed: the six switches are there, give any of {others}.")
        self.controls = {name: control_for(name, self.recipe, cores) for name in (*SWITCHES, *settings)}
        for name, control in self.controls.items():
            control.add_class("sk-switch")
            control.add_class(f"sk-{name.replace('_', '-')}")
            if name == front:
                control.add_class("sk-front")
            control.observe(lambda __: self._keep_event_order(), "value")
        self.run_button = widgets.Button(description=_("Run"), button_style="primary")
        self.stop_button = widgets.Button(description=_("Stop"), disabled=True)
        self.clear_button = widgets.Button(description=_("Forget earlier runs"))
        for name, button in {"run": self.run_button, "stop": self.stop_button, "clear": self.clear_button}.items():
            button.add_class(f"sk-{name}")
        self.run_button.on_click(lambda __: self._clicked_run())
        self.stop_button.on_click(lambda __: self.stop())
        self.clear_button.on_click(lambda __: self.forget())
        self.bar = widgets.FloatProgress(min=0.0, max=1.0, layout={"width": "180px"})
        self.status, self.problem, self.where, self.beside, self.picture = (widgets.HTML() for __ in range(5))
        for part in (self.status, self.problem, self.where, self.beside, self.picture):
            part.layout.width = "auto"
        self.status.add_class("sk-status")
        self.problem.add_class("sk-problem")
        self.where.add_class("sk-where")
        self.beside.add_class("sk-beside")
        switches = widgets.Box([self.controls[name] for name in SWITCHES])
        task = widgets.Box([self.controls[name] for name in settings])
        for box in (switches, task):
            box.add_class("sk-switches")
        task.add_class("sk-task")
        buttons = widgets.HBox([self.run_button, self.stop_button, self.clear_button, self.bar, self.status])
        buttons.add_class("sk-buttons")
        buttons.layout.flex_flow = "row wrap"
        buttons.layout.align_items = "center"
        parts = [widgets.HTML(STYLE, layout={"display": "none"}), switches, *([task] if settings else [])]
        self.box = widgets.VBox([*parts, buttons, self.problem, self.where, self.beside, self.picture])
        self.box.add_class("sk-panel")

    def _ipython_display_(self):
        """Shows the widgets, and below them an ordinary output that keeps the last figure in the saved notebook."""
        stop_what_this_cell_showed(self)
        mimebundle = self.box._repr_mimebundle_()
        bundle, metadata = mimebundle if isinstance(mimebundle, tuple) else (mimebundle, {})
        bundle["text/plain"] = _("speedkit panel (live widgets: run this cell to use them)")
        display(bundle, metadata=metadata, raw=True)
        self._handles.append(display(self._keepsake, raw=True, display_id=True))
        stop_on_interrupt()
        # Meanwhile the learner reads: the first Run need not wait for it.
        threading.Thread(target=warm_up_torch, name="loading torch", daemon=True).start()

    # Running

    def read(self) -> Recipe:
        """The recipe that the controls say now.

        Raises:
            ValueError: a control holds a value that is not allowed.
        """
        values = {}
        for name, control in self.controls.items():
            value = control.value
            if isinstance(control, widgets.Text):
                text = value.strip()
                value = parse(Recipe, name, "none" if text == control.nothing else text)
            values[name] = value
        values["early_stopping"] = values["early_stopping"] or None  # a list cannot hold None
        return self.recipe.but(**values)

    def _clicked_run(self):
        if not self.run_button.disabled:  # of two quick clicks, the second is heard when the first one's run has begun
            self.start()

    def start(self):
        """What the Run button does: trains in the background. An error is shown in the panel."""
        try:
            recipe = self.read()
        except ValueError as error:
            self._show_problem(message_of(error))
            return
        self._begin(recipe).start()

    def run(self, **switches) -> Run:
        """Sets controls (``panel.run(cache="ram")``), trains, waits, draws, and gives the run.

        Raises:
            ValueError: a value is not allowed, or this machine cannot do it.
            NotFinite: the loss became nan or infinite.
            RuntimeError: the run ended without a single step.
            Exception: whatever else made the training fail.
        """
        recipe = self.read().but(**switches)
        for name in switches.keys() & self.controls.keys():
            set_control(self.controls[name], getattr(recipe, name))
        runner = self._begin(recipe)
        runner.here()
        if runner.run.count == 0:
            raise RuntimeError("The run ended without a single step.")
        return runner.run

    def stop(self):
        """What the Stop button does: ends the run after the step that it is in."""
        if self._runner is not None and self._shown is not None and self._shown.status in ("new", "running"):
            self._show_status(_("Stopping …"))
            self._runner.stop()

    def forget(self):
        """Takes the earlier runs off the axes and out of ``runs``; the one that is shown last stays."""
        with self._frames:
            self.runs = [run for run in self.runs if run is self._shown]
            self._draw()

    def _begin(self, recipe):
        stop_all()  # also this panel's own: its last frame is then drawn before the first of the new run
        runner = Runner(recipe, lambda record: self._watch(runner, record))
        self._runner, self._shown, self._progress = runner, runner.run, None
        self._neighbours = OtherWork(recipe)
        self._show_problem("")
        self.where.value = ""
        self.bar.value, self.bar.bar_style = 0.0, "info"
        self.run_button.disabled, self.stop_button.disabled = True, False
        self._keep_event_order()
        self._show_status(_("Preparing …"))
        self._show_neighbours()
        self._ended = threading.Event()
        threading.Thread(target=self._tick, args=(runner.run, self._ended), name="speedkit chart", daemon=True).start()
        return runner

    def _watch(self, runner, record):
        """Called in the thread that trains, after each record: it must cost next to nothing."""
        if record is None:
            self._finish(runner)
        elif isinstance(record, Progress):
            self._progress = record
        else:
            self._progress = None

    def _tick(self, run, ended):
        """The chart's own thread: a frame now and then, and only when something changed."""
        seen, pause = None, FRAME
        while not ended.wait(pause):
            state, began = (run.count, self._progress), time.thread_time()
            if state != seen or self._neighbours.due():
                with self._frames:
                    if not ended.is_set() and state != seen:
                        self._draw()  # first: it takes longest, and what is sent together a browser draws together
                        self._show_progress(run)
                    if not ended.is_set() and self._neighbours.due():
                        self._show_neighbours()
                seen = state
                pause = max(FRAME, (time.thread_time() - began) / SHARE) if state[0] else FRAME

    def _finish(self, runner):
        run = runner.run
        self._ended.set()
        with self._frames:
            self.run_button.disabled, self.stop_button.disabled = False, True
            self._keep_event_order()
            self.bar.value = 1.0 if run.status == "finished" else self.bar.value
            self.bar.bar_style = {"finished": "success", "stopped": "warning"}.get(run.status, "danger")
            status = _(run.status).capitalize()
            if run.count:
                status = ngettext(
                    "{status} after {n} step, {time}.",
                    "{status} after {n} steps, {time}.",
                    run.count,
                    status=status,
                    time=seconds(run.seconds),
                )
            else:
                status = _("{status} before the first step.", status=status)
            self._show_status(status)
            self._show_problem(runner.problem)
            self.beside.value = ""
            if kept := self._neighbours.note():
                run.note(kept)
            if run.count:
                self.runs.append(run)
                self._draw()
                earlier = self._earlier()
                self._keepsake = {"image/png": chart.png(run, earlier), "text/plain": chart.text(run, earlier)}
                for handle in self._handles:
                    handle.update(self._keepsake, raw=True)
            else:  # there is nothing to see of it: the run before stays
                self._shown = self.runs[-1] if self.runs else None
                self._draw()

    def _keep_event_order(self):
        """Keeps a click on Run behind what was typed before it.

        ipykernel 7.4 hears a widget in the thread that last sent something of it. So whenever Run or a control sends,
        all of them do, Run last: they are then heard in one thread, in the order in which they were used.
        """
        for widget in (*self.controls.values(), self.run_button):
            widget.send_state("tooltip")

    # Showing

    def _earlier(self):
        return [run for run in self.runs if run is not self._shown][-KEPT:]

    def _draw(self):
        run = self._shown or Run(self.recipe)
        self.picture.value = chart.svg(run, self._earlier())
        if run.count:
            notes = "".join(f"<div class='sk-note'>{html.escape(_(note))}</div>" for note in run.notes)
            self.where.value = f"<div class='sk-line'><b>{html.escape(run.where_time_goes())}</b></div>{notes}"

    def _show_progress(self, run):
        progress = self._progress
        if progress is not None:
            done, total = whole(progress.done), whole(progress.total)
            self._show_status(_("{done} of {total} {what} …", done=done, total=total, what=_(progress.what)))
            if not run.count:
                self.bar.value = progress.done / max(1, progress.total)
        elif run.count and run.total_steps:
            share = run.count / run.total_steps
            left = run.seconds / run.count * (run.total_steps - run.count)
            accuracy = run.last("validation_accuracy")
            reached = ""
            if accuracy == accuracy:
                reached = _(", validation accuracy {accuracy}", accuracy=percent(accuracy))
            self.bar.value = share
            done, total = whole(run.count), whole(run.total_steps)
            words = _("Step {done} of {total}, {time} left", done=done, total=total, time=seconds(left))
            self._show_status(words + reached)

    def _show_neighbours(self, when=""):
        """What else goes on on this machine, where something does; ``when`` it was looked at, before a run."""
        sentences = self._neighbours.look()
        if when:
            sentences = [_("{when}: {sentence}", when=when, sentence=sentence) for sentence in sentences]
        shown = "".join(f"<div class='sk-note'>{html.escape(sentence)}</div>" for sentence in sentences)
        if shown != self.beside.value:
            self.beside.value = shown

    def _show_status(self, text):
        self.status.value = f"<div role='status' class='sk-line'>{html.escape(text)}</div>"

    def _show_problem(self, text):
        self.problem.value = f"<div role='alert' class='sk-error'>{html.escape(_(text))}</div>" if text else ""
