"""What the learner expects: committed before anything is measured, saved, and then scored against the measurement.

    guess = sk.predict("cache", step_s=0.5, validation_accuracy="same")
    sk.score_prediction(guess, comparison)

The first commitment counts. Each one is saved as a small JSON file, one per technique and metric, so that it survives a
restart of the kernel; a later one changes nothing. To take a lesson again, delete the file in ``runs/predictions``.

There is one point for the direction, and one more for the size if one was given:

- *lower* or *higher*: right if that is the verdict. Wrong if the verdict is the opposite, or if no difference was
  detected and the interval rules out a change of a tenth (accuracy: half a point) in that direction.
- *same*: right if the whole interval is within a tenth of the baseline (accuracy: half a point); otherwise wrong if
  the verdict is lower or higher.
- The size: right inside the 95 % interval, or within a factor of two of what was measured, both as a ratio and as its
  logarithm: × 0.95 is not a good guess for × 0.55. For points: within a factor of two.

There is no score if the runs vary too much to tell, if there is no verdict (too few pairs, not measured here, another
technique compared), or if the guess was committed after the comparison had started.
"""

import math
import os
from datetime import UTC, datetime
from functools import cached_property

import ipywidgets as widgets
from IPython.display import display
from markupsafe import Markup, escape

from speedkit.classroom.guesses import Guess, moment, read_guess, score
from speedkit.comparison.metrics import DIRECTIONS, LOWER, METRICS, SAME
from speedkit.comparison.result import Comparison
from speedkit.lab.display import html_for_each, show_widget, style_sheet
from speedkit.support.messages import N_, _
from speedkit.support.table import Table

NONE_MADE = N_("no prediction")


# Committing


class Prediction:
    """What the learner expects of a technique: a form with one row per metric, until every row is committed.

    Show it as a cell's last line. A notebook that is run from top to bottom does not wait for a click.

    Args:
        technique: the switch, such as ``"cache"``.
        metrics: names in ``sk.METRICS``, at least one.
        case: tells two predictions about the same technique and metric apart, such as ``"2 workers"``.

    ``guesses`` holds what has been committed: metric -> :class:`Guess`.

    Raises:
        ValueError: technique, a metric or the case is not allowed; the message says what is.
    """

    def __init__(self, technique: str, *metrics: str, case: str = ""):
        if not metrics:
            raise ValueError(f"A prediction about {str(technique)[:40]} needs a metric: {', '.join(METRICS)}.")
        self._blank = {metric: Guess(technique, metric, SAME, None, case, "") for metric in metrics}
        self.technique, self.metrics, self.case = technique, tuple(self._blank), case
        self.guesses: dict[str, Guess] = {}
        self.notes: list[str] = []
        self._shown = []  # what puts an ordinary output in the form's place
        for metric in self.metrics:
            self._recall(metric)

    def commit(self, metric: str, value) -> Guess:
        """Commits to a value as in :func:`predict`, unless there is a commitment already; returns the one that counts.

        Raises:
            ValueError: the metric is not part of this prediction, or the value is not allowed.
        """
        if metric not in self._blank:
            raise ValueError(f"metric={str(metric)[:40]!r} is not part of this prediction: {' | '.join(self.metrics)}.")
        direction, size = read_guess(metric, value)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        guess = self._blank[metric].but(direction=direction, size=size, committed=now)
        self._recall(metric)  # another kernel may have been first
        first = self.guesses.setdefault(metric, guess)
        if first is guess:
            try:
                guess.save()
            except OSError as error:
                self._note(
                    _(
                        "{title}: this prediction lasts only until the kernel ends, as it could not be saved: {error}",
                        title=_title(metric),
                        error=error,
                    )
                )
        elif (first.direction, first.size) != (direction, size):
            self._note(
                _("{title}: you committed to “{guess}” before, and that stands.", title=_title(metric), guess=first)
            )
        if len(self.guesses) == len(self.metrics):
            for replace in self._shown:
                replace(self._bundle())
        return first

    def _recall(self, metric):
        path = self._blank[metric].path
        if metric in self.guesses or not os.path.lexists(path):
            return
        try:
            guess = Guess.load(path)
            if (guess.technique, guess.metric, guess.case.lower()) != (self.technique, metric, self.case.lower()):
                raise ValueError(f"{path} holds a prediction about something else.")
            self.guesses[metric] = guess
        except (ValueError, OSError) as error:
            self._note(
                _(
                    "{title}: the saved prediction cannot be read; its file is left as it is. {error}",
                    title=_title(metric),
                    error=error,
                )
            )

    def _note(self, sentence):
        if sentence not in self.notes:
            self.notes.append(sentence)

    # Showing

    @cached_property
    def forms(self) -> dict[str, "Form"]:
        """The form of each metric."""
        return {metric: Form(self, metric) for metric in self.metrics}

    def lines(self) -> list[str]:
        """One sentence per metric, then the notes."""
        lines = []
        for metric in self.metrics:
            guess = self.guesses.get(metric)
            if guess is None:
                lines.append(_("{what}: {text}", what=_title(metric), text=_(NONE_MADE)))
                continue
            when = f"{moment(guess.committed):%Y-%m-%d %H:%M}"
            lines.append(_("{title}: {guess} (committed {when} UTC)", title=_title(metric), guess=guess, when=when))
        return [*lines, *self.notes]

    def __repr__(self):
        return "\n".join(self.lines())

    def _repr_html_(self):
        return html_for_each("<div class='sk-predicted'>{}</div>", self.lines())

    def _bundle(self):
        return {"text/plain": repr(self), "text/html": self._repr_html_()}

    def _ipython_display_(self):
        """Shows the form; once everything is committed, an ordinary output that stays in the saved notebook."""
        if len(self.guesses) == len(self.metrics):
            display(self._bundle(), raw=True)
            return
        box = widgets.VBox([style_sheet(), *(form.box for form in self.forms.values())])
        box.add_class("sk-prediction")
        self._shown.append(show_widget(box, repr(self)))


class Form:
    """Direction, size and a Commit button for one metric; once committed, it cannot be changed."""

    def __init__(self, prediction: Prediction, metric: str):
        self.prediction, self.metric = prediction, metric
        options = [(_(direction), direction) for direction in DIRECTIONS]
        self.direction = widgets.ToggleButtons(options=options, value=None, style={"button_width": "80px"})
        common = {"style": {"description_width": "initial"}, "disabled": True}
        common["continuous_update"] = False  # else a click on Commit could overtake a value on its way
        if METRICS[metric].is_ratio:
            common["description"], common["value"], least, most = _("by a factor of"), 2.0, 2**0.1, 2**10
        else:
            common["description"], common["value"], least, most = _("by how many points"), 1.0, 0.1, 50
        scale = {"base": 2, "min": math.log2(least), "max": math.log2(most), "step": 0.1}  # ten steps double it
        self.size = widgets.FloatLogSlider(readout=False, layout={"width": "290px"}, **scale, **common)
        # The same, to type; its description is for screen readers.
        self.number = widgets.BoundedFloatText(min=least, max=most, step=0.1, layout={"width": "80px"}, **common)
        self.button = widgets.Button(description=_("Commit"), button_style="primary", disabled=True)
        self.line = widgets.HTML()
        self.box = widgets.VBox(
            [
                widgets.HTML(Markup("<b>{}</b>{}").format(_title(metric), _(", with the technique on:"))),
                widgets.HBox([self.direction, self.size, self.number, self.button], layout={"flex_flow": "row wrap"}),
                self.line,
            ]
        )
        for name in ("direction", "size", "number", "button", "line"):
            getattr(self, name).add_class(f"sk-predict-{name}")
        self.direction.observe(self._refresh, "value")
        self.size.observe(self._slid, "value")
        self.number.observe(self._typed, "value")
        self.button.on_click(self._commit)
        self._refresh()

    def _slid(self, change):
        self.number.value = float(f"{change.new:.3g}")
        self._refresh()

    def _typed(self, change):
        self.size.value = change.new

    def _value(self):
        if self.direction.value == SAME:
            return SAME
        size = self.size.value
        if self.direction.value == LOWER:
            size = 1 / size if METRICS[self.metric].is_ratio else -size
        return self.direction.value, float(f"{size:.3g}")

    def _refresh(self, __=None):
        guess, chosen = self.prediction.guesses.get(self.metric), self.direction.value
        self.direction.disabled = guess is not None
        self.size.disabled = self.number.disabled = guess is not None or chosen in (None, SAME)
        self.button.disabled = guess is not None or chosen is None
        if guess is not None:
            text = _("Committed: {guess}.", guess=guess)
        elif chosen is None:
            text = _("Choose a direction, then a size, then commit. You cannot change it afterwards.")
        else:
            direction, size = read_guess(self.metric, self._value())
            guess = self.prediction._blank[self.metric].but(direction=direction, size=size)
            text = _("Your prediction: {guess}.", guess=guess)
        self.line.value = escape(" ".join([text, *self.prediction.notes]))

    def _commit(self, __=None):
        if self.metric not in self.prediction.guesses and self.direction.value is not None:
            self.button.disabled = True
            self.prediction.commit(self.metric, self._value())
        self._refresh()


def predict(technique: str, *, case: str = "", **expected) -> Prediction:
    """Commits to what a technique will do, before it is measured: ``sk.predict("cache", step_s=0.5, reads="lower")``.

    Args:
        technique: the switch, such as ``"cache"``.
        case: tells two predictions about the same technique and metric apart.
        expected: metrics of ``sk.METRICS`` by name, each with one of these values:

            - a factor, variant / baseline: 0.5 is half of the baseline's, 2 is twice as much (accuracy: a difference
              in percentage points, -1.5 or 2);
            - ``"lower"``, ``"higher"`` or ``"same"`` (within a tenth; accuracy: half a point);
            - both, as ``("lower", 0.5)``, which guards against a slip;
            - ``...``: not predicted yet; the form is shown instead.

    Returns:
        The :class:`Prediction`. Show it as a cell's last line.

    An earlier commitment stands. If any value is not allowed, nothing is committed.

    Raises:
        ValueError: technique, metric, case or a value is not allowed; the message says what is.
    """
    prediction = Prediction(technique, *expected, case=case)
    given = {metric: value for metric, value in expected.items() if value is not ... and value is not None}
    for metric, value in given.items():
        read_guess(metric, value)
    for metric, value in given.items():
        prediction.commit(metric, value)
    return prediction


def _title(metric):
    return _(METRICS[metric].title)


def score_prediction(prediction: Prediction, comparison: Comparison) -> Table:
    """Compares a prediction with what was measured: ``sk.score_prediction(guess, result)``.

    One point is for the direction, one more for a size inside the interval or within a factor of two of what was
    measured. There is no score without a verdict, where the runs vary too much to tell, or for a prediction that was
    committed after the comparison had started.

    Args:
        prediction: from :func:`predict`.
        comparison: from :func:`speedkit.compare`, of the same technique.

    Returns:
        A table with one row per metric: predicted, measured, interval, verdict, points and feedback.
    """
    rows, points, of = [], 0, 0
    for metric in prediction.metrics:
        guess, row = prediction.guesses.get(metric), comparison.row(metric)
        result = score(guess, comparison)
        points, of = points + result.points, of + result.of
        got = _("{points} of {of}", points=result.points, of=result.of) if result.of else _("no score")
        verdict = _(row.verdict)
        verdict = _("{what}: {text}", what=verdict, text=_(row.why)) if row.why else verdict
        predicted = str(guess) if guess else _(NONE_MADE)
        rows.append([_(row.title), predicted, *row.texts()[2:], verdict, got, result.sentence])
    caption = _("One point for the direction, one more for a size inside the interval or within a factor of two.")
    total = [_("{points} of {of} points.", points=points, of=of)] if of else []
    heading = ["", _("predicted"), _("measured"), _("95 % interval"), _("verdict"), _("points")]
    heading.append(_("feedback"))
    return Table(heading, rows, " ".join([*total, caption, *prediction.notes]))
