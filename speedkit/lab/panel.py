"""The panel: six switches, Run and Stop, and a chart of time and memory that moves while a run trains."""

import threading
import time

import ipywidgets as widgets
from IPython.display import display
from markupsafe import Markup

from speedkit import hardware
from speedkit.lab import chart
from speedkit.lab.controls import control_for, read_controls, set_control, set_task
from speedkit.lab.display import html_for_each, show_widget, style_sheet
from speedkit.lab.live import live
from speedkit.lab.on_axes import OnAxes
from speedkit.lab.other_work import OtherWork
from speedkit.lab.runner import Runner, stop_all, stop_on_interrupt, stop_what_this_cell_showed
from speedkit.lab.tables import table_against
from speedkit.recipe import SWITCHES, Recipe
from speedkit.run import Run
from speedkit.support.messages import _, message_of, ngettext, whole
from speedkit.support.units import percent, seconds
from speedkit.tasks import Progress, task_of
from speedkit.train import warm_up_torch

FRAME = 0.2  # seconds between two frames of the live chart, at least
SHARE = 0.003  # of a core's time that frames may take while steps are timed. Drawing a frame in a browser on the same
# cores delays training by about eight times what making it took; together they should cost less than 3 %.
NOTE = "<div class='sk-note'>{}</div>"


class Panel:
    """Six switches, a task to train on, and a live chart. Show it as a cell's last line.

    Args:
        recipe: the starting point; every field without a control keeps its value. Default: the baseline.
        front: the switch that a lesson is about, such as ``"cache"``; it is marked in colour.
        settings: other fields of :class:`Recipe` that get a control, by name, below the switches.

    ``runs`` holds every run that has ended here, newest last; :meth:`run` makes one from code and waits for it. Only
    one run trains at a time in a kernel: starting another one stops it. Switches and buttons keep the language in
    which they were made; after ``sk.language(...)``, run the panel's cell again.

    Raises:
        ValueError: ``front`` is not a switch, or ``settings`` names a field that is a switch or does not exist.
    """

    def __init__(
        self, recipe: Recipe | None = None, *, front: str | None = None, settings=("data", "subset", "epochs")
    ):
        self.recipe = recipe or Recipe()
        self.runs: list[Run] = []
        self._shown: Run | None = None
        self._runner: Runner | None = None
        self._ended, self._frames = threading.Event(), threading.RLock()
        self._progress: Progress | None = None
        self._drawn_in_cell = False  # the chart moves in the cell that called :meth:`run`, where the learner looks
        self._keepsake = {"text/plain": _("No run has ended in this panel yet.")}
        self._handles = []
        self._build(front, settings)
        self._show_status(_("Ready: {machine}.", machine=hardware.machine(self.recipe.device).sentence()))
        self._other_work = OtherWork(self.recipe)
        self._show_other_work(time.strftime("%H:%M"))
        self._draw()

    # Building

    def _build(self, front, settings):
        cores = hardware.cores()
        fields = Recipe.model_fields
        if front not in (None, *SWITCHES):
            raise ValueError(f"front={front!r} is not a switch: choose from {', '.join(SWITCHES)}.")
        for name in settings:
            if name in SWITCHES or name not in fields:
                others = ", ".join(other for other in fields if other not in SWITCHES)
                raise ValueError(f"settings={name!r} is not allowed: besides the switches, choose from {others}.")
        self.controls = {name: control_for(name, self.recipe, cores) for name in (*SWITCHES, *settings)}
        for name, control in self.controls.items():
            control.add_class("sk-switch")
            control.add_class(f"sk-{name.replace('_', '-')}")
            if name == front:
                control.add_class("sk-front")
            control.observe(lambda __: self._keep_event_order(), "value")
            control.disabled = name in self.recipe.unused()
        if "data" in self.controls:
            self.controls["data"].observe(self._choose_data, "value")
        self.run_button = widgets.Button(description=_("Run"), button_style="primary")
        self.stop_button = widgets.Button(description=_("Stop"), disabled=True)
        self.clear_button = widgets.Button(description=_("Forget earlier runs"))
        for name, button in {"run": self.run_button, "stop": self.stop_button, "clear": self.clear_button}.items():
            button.add_class(f"sk-{name}")
        self.run_button.on_click(lambda __: self._clicked_run())
        self.stop_button.on_click(lambda __: self.stop())
        self.clear_button.on_click(lambda __: self.forget())
        self.bar = widgets.FloatProgress(min=0.0, max=1.0, layout={"width": "180px"})
        self.status, self.problem, self.where, self.other_work = (widgets.HTML() for __ in range(4))
        self.picture, self.table = widgets.HTML(), widgets.HTML()
        for part in (self.status, self.problem, self.where, self.other_work, self.picture, self.table):
            part.layout.width = "auto"
        self.table.add_class("sk-table")
        self.picture.add_class("sk-picture")
        self.on_axes = OnAxes(self._look_again)
        self.status.add_class("sk-status")
        self.problem.add_class("sk-problem")
        self.where.add_class("sk-where")
        self.other_work.add_class("sk-other-work")
        switches = widgets.Box([self.controls[name] for name in SWITCHES])
        task = widgets.Box([self.controls[name] for name in settings])
        for box in (switches, task):
            box.add_class("sk-switches")
        task.add_class("sk-task")
        buttons = widgets.HBox([self.run_button, self.stop_button, self.clear_button, self.bar, self.status])
        buttons.add_class("sk-buttons")
        buttons.layout.flex_flow = "row wrap"
        buttons.layout.align_items = "center"
        parts = [style_sheet(), switches, *([task] if settings else [])]
        self.box = widgets.VBox(
            [
                *parts,
                buttons,
                self.problem,
                self.where,
                self.other_work,
                self.picture,
                self.on_axes.choices,
                self.on_axes.buttons,
                self.table,
            ]
        )
        self.box.add_class("sk-panel")

    def _ipython_display_(self):
        """Shows the widgets, and below them an ordinary output: the last figure, which stays in the saved notebook."""
        if stop_what_this_cell_showed(self):
            self._show_status(_("The run that this cell had started before was stopped."))
        show_widget(self.box, _("speedkit panel (live widgets: run this cell to use them)"))
        self._handles.append(display(self._keepsake, raw=True, display_id=True))
        stop_on_interrupt()
        # While the learner reads, so that the first Run does not have to wait for it.
        threading.Thread(target=warm_up_torch, name="loading torch", daemon=True).start()

    def _choose_data(self, change):
        before, after = Recipe(data=change.old), Recipe(data=change.new)
        if task_of(before) is not task_of(after):
            set_task(self.controls, before, after)

    # Running

    def read(self) -> Recipe:
        """The recipe as the controls are set now.

        Raises:
            ValueError: a control holds a value that is not allowed.
        """
        return self.recipe.but(**read_controls(self.controls, self.recipe))

    def _clicked_run(self):
        if not self.run_button.disabled:  # a second quick click arrives when the run has begun
            self.start()

    def start(self):
        """What the Run button does: trains in the background. Errors are shown in the panel."""
        try:
            recipe = self.read()
        except ValueError as error:
            self._show_problem(message_of(error))
            return
        self._begin(recipe).start()

    def run(self, **switches) -> Run:
        """Trains with the controls as they are and waits for the end: ``panel.run(cache="ram")``.

        Args:
            switches: fields of :class:`Recipe` to change first; their controls change with them.

        Returns:
            The run, drawn on the chart and added to ``runs``; ``run.status`` is "finished", or "stopped" after Stop.

        Raises:
            ValueError: a value is not allowed, or this machine cannot do it.
            NotFinite: the loss became nan or infinite.
            RuntimeError: the run ended without a single step.
            Exception: anything else that made training fail.
        """
        recipe = self.read().but(**switches)
        for name in switches.keys() & self.controls.keys():
            set_control(self.controls[name], getattr(recipe, name))
        runner = self._begin(recipe)
        with live(runner.run, self.on_axes.earlier(self._shown), self.on_axes.view) as self._drawn_in_cell:
            runner.here()
        if runner.run.count == 0:
            raise RuntimeError("The run ended without a single step.")
        return runner.run

    def stop(self) -> bool:
        """What the Stop button does: ends the run after its current step. Returns whether there was one."""
        if self._runner is None or self._shown is None or self._shown.status not in ("new", "running"):
            return False
        self._show_status(_("Stopping …"))
        self._runner.stop()
        return True

    def forget(self):
        """Removes the earlier runs from the axes and from ``runs``; the latest one stays."""
        with self._frames:
            self.runs = [run for run in self.runs if run is self._shown]
            self.on_axes.offer(self.runs)
            self._look_again()

    def _begin(self, recipe):
        stop_all()  # this panel's own run too: its last frame is then drawn before the new run's first one
        runner = Runner(recipe, lambda record: self._watch(runner, record))
        self._runner, self._shown, self._progress, self._drawn_in_cell = runner, runner.run, None, False
        self._other_work = OtherWork(recipe)
        self._show_problem("")
        self.where.value = ""
        self.bar.value, self.bar.bar_style = 0.0, "info"
        self.run_button.disabled, self.stop_button.disabled = True, False
        self._keep_event_order()
        self._show_status(_("Preparing …"))
        self._show_other_work()
        self._ended = threading.Event()
        threading.Thread(target=self._tick, args=(runner.run, self._ended), name="speedkit chart", daemon=True).start()
        return runner

    def _watch(self, runner, record):
        """Called in the training thread, after each record: it must cost next to nothing."""
        if record is None:
            self._finish(runner)
        elif isinstance(record, Progress):
            self._progress = record
        else:
            self._progress = None

    def _tick(self, run, ended):
        """The chart's own thread: draws a frame now and then, and only when something has changed."""
        seen, pause = None, FRAME
        while not ended.wait(pause):
            state, began = (run.count, self._progress), time.thread_time()
            if state != seen or self._other_work.due():
                with self._frames:
                    if not ended.is_set() and state != seen:
                        if not self._drawn_in_cell:
                            self._draw()  # first, because it takes longest: a browser draws what comes together at once
                        self._show_progress(run)
                    if not ended.is_set() and self._other_work.due():
                        self._show_other_work()
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
            self.other_work.value = ""
            if note := self._other_work.note():
                run.note(note)
            if run.count:
                self.runs.append(run)
                self.on_axes.offer(self.runs)
                self._look_again()
            else:  # nothing to draw: the previous run stays
                self._shown = self.runs[-1] if self.runs else None
                self._draw()

    def _keep(self):
        """Makes the picture that stays in the saved notebook the one that is on the screen."""
        if self._shown is not None and self._shown.count and self._shown.status not in ("new", "running"):
            earlier = self.on_axes.earlier(self._shown)
            image = chart.png(self._shown, earlier, self.on_axes.view)
            self._keepsake = {"image/png": image, "text/plain": chart.text(self._shown, earlier)}
            for handle in self._handles:
                handle.update(self._keepsake, raw=True)

    def _keep_event_order(self):
        """Makes sure that a click on Run is handled after what was typed before it.

        ipykernel 7.4 handles a widget's messages on whichever thread last sent its state. So whenever Run or a control
        sends its state, all of them do, Run last: their messages are then handled on one thread, in order.
        """
        for widget in (*self.controls.values(), self.run_button):
            widget.send_state("description")

    # Showing

    def _look_again(self):
        """Draws the chart after a change of what is on the axes, and keeps its picture."""
        with self._frames:
            self._draw()
            self._keep()

    def _draw(self):
        run = self._shown or Run(self.recipe)
        self.picture.value = chart.svg(run, self.on_axes.earlier(self._shown), self.on_axes.view)
        if run.status not in ("new", "running"):
            against = self.on_axes.against
            self.table.value = "" if against is None else table_against(against, self.runs)._repr_html_()
        if run.count:
            notes = html_for_each(NOTE, map(_, run.notes))
            self.where.value = Markup("<div class='sk-line'><b>{}</b></div>{}").format(run.where_time_goes(), notes)

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

    def _show_other_work(self, when=""):
        """Says what else is running on this machine, if anything; ``when``: the time of the look, outside a run."""
        sentences = self._other_work.look()
        if when:
            sentences = [_("{when}: {sentence}", when=when, sentence=sentence) for sentence in sentences]
        shown = html_for_each(NOTE, sentences)
        if shown != self.other_work.value:
            self.other_work.value = shown

    def _show_status(self, text):
        self.status.value = Markup("<div role='status' class='sk-line'>{}</div>").format(text)

    def _show_problem(self, text):
        self.problem.value = Markup("<div role='alert' class='sk-error'>{}</div>").format(_(text)) if text else ""
