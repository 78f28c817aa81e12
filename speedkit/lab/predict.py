"""What the learner expects, committed before anything is measured, kept, and shown beside what came out.

    guess = predict("cache", step_s=0.5, validation_accuracy="same")
    beside(guess, comparison)

The first commitment counts: a guess is kept as one small JSON file for each technique and metric, so that it outlives
the kernel, and a later one changes nothing. Whoever takes a lesson anew deletes the file in ``folder()``.

One point is for the direction, one for the size where one was given:

- *lower* or *higher*: right if that is the verdict; wrong at the opposite verdict, or where no difference was detected
  and the interval excludes one of a tenth (accuracy: half a point) in that direction.
- *same*: right if the whole interval is within a tenth of the baseline (accuracy: half a point); else wrong at either
  verdict.
- The size: right inside the 95 % interval, or within a factor of two of what was measured, both as a ratio and as its
  logarithm: × 0.95 is no good guess for × 0.55. In points, within a factor of two.

There is no score where the runs scatter too much to tell, where there is no verdict (too few pairs, not measured here,
another technique compared), and for a guess that was committed after the comparison had begun.
"""

import html
import json
import math
import numbers
import os
import re
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import ipywidgets as widgets
from IPython.display import display

from speedkit.compare import (
    HIGHER,
    LOWER,
    MATERIAL_POINTS,
    MATERIAL_RATIO,
    METRICS,
    NO_DIFFERENCE,
    NOT_AVAILABLE,
    TOO_FEW,
    Comparison,
)
from speedkit.lab.tables import Table
from speedkit.recipe import SWITCHES, Recipe
from speedkit.run import reading, write_atomically
from speedkit.words import english, retold, say

FORMAT = 1
SAME = english("same")
DIRECTIONS = (LOWER, SAME, HIGHER)
NONE_MADE = english("no prediction was made")
CASE = r"[A-Za-z0-9][A-Za-z0-9 -]{0,39}"
LARGEST_FILE = 10_000  # characters; a guess takes about 200
LARGEST_FACTOR, LARGEST_POINTS = 1e6, 100.0


def folder() -> Path:
    """The learner's own folder: ``SPEEDKIT_RUNS``, or ``runs`` beside the notebook."""
    return Path(os.environ.get("SPEEDKIT_RUNS") or "runs").absolute()


# What is kept


@dataclass(frozen=True)
class Guess:
    """One commitment: what a technique will do to a metric.

    size: variant / baseline, or for accuracy the difference in points; None where only a direction was given. case:
    tells two guesses about the same technique and metric apart. committed: when, ISO 8601 with a time zone.

    Raises:
        ValueError: a value is not allowed, or direction and size contradict each other.
    """

    technique: str
    metric: str
    direction: str  # "lower", "same" or "higher"
    size: float | None = None
    case: str = ""
    committed: str = ""

    def __post_init__(self):
        for name, choices in {"technique": SWITCHES, "metric": tuple(METRICS), "direction": DIRECTIONS}.items():
            if getattr(self, name) not in choices:
                shown = str(getattr(self, name))[:40]
                raise ValueError(f"{name}={shown!r} is not allowed in a prediction: give {' | '.join(choices)}.")
        if not isinstance(self.case, str) or (self.case and not re.fullmatch(CASE, self.case)):
            raise ValueError(
                f"case={str(self.case)[:50]!r} is not allowed: give up to 40 letters, digits, spaces and hyphens."
            )
        if self.size is not None:
            size = _size(self.metric, self.size)
            if _direction(self.metric, size) != self.direction or self.direction == SAME:
                raise ValueError(
                    f"{self.metric}: {self.direction!r} and {_in_words(self.metric, size)} contradict each other: "
                    f"{_how(self.metric)}"
                )
            object.__setattr__(self, "size", size)

    @property
    def path(self) -> Path:
        """The file in which it is kept."""
        name = "-".join(filter(None, (self.technique, self.metric, self.case.lower().replace(" ", "_"))))
        return folder() / "predictions" / f"{name}.json"

    def __str__(self):
        direction = retold(self.direction)
        return direction if self.size is None else f"{direction}, {_in_words(self.metric, self.size)}"

    def save(self):
        """Writes the file: whole or, where that fails, not at all. What else is there by its name is moved aside.

        Raises:
            OSError: the folder cannot be written.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if os.path.lexists(self.path):
            asides = (self.path.with_name(f"{self.path.name}.unreadable-{n}") for n in range(1, 1000))
            self.path.rename(next(aside for aside in asides if not os.path.lexists(aside)))
        write_atomically(self.path, json.dumps({"format": FORMAT, "kind": "prediction", **asdict(self)}))

    @classmethod
    def load(cls, path) -> "Guess":
        """The guess that :meth:`save` wrote.

        Raises:
            ValueError: the file is not such a guess; the message names the file and what is wrong.
            OSError: the file cannot be read.
        """
        path = Path(path)
        with reading(path, "a prediction"):
            if not path.is_file():
                raise ValueError("it is not a file.")
            with open(path, encoding="utf-8") as file:
                text = file.read(LARGEST_FILE + 1)
            if len(text) > LARGEST_FILE:
                raise ValueError("it is too long.")
            kept = json.loads(text)
            if not isinstance(kept, dict) or kept.pop("format", None) != FORMAT or kept.pop("kind", "") != "prediction":
                raise ValueError(f"it does not say format {FORMAT}, kind prediction.")
            if odd := sorted(set(kept) ^ {f.name for f in fields(cls)}):
                raise ValueError(f"{odd[0][:40]!r} is missing or unknown.")
            guess = cls(**kept)
            if _moment(guess.committed) is None:
                raise ValueError(f"committed={str(guess.committed)[:40]!r} is no moment in time.")
            return guess


def _read(metric, value):
    """(direction, size or None) that a value given by the learner means.

    Raises:
        ValueError: it is none of what is allowed.
    """
    if isinstance(value, str) and value in DIRECTIONS:
        return value, None
    if isinstance(value, tuple | list) and len(value) == 2 and value[0] in DIRECTIONS:
        size = _size(metric, value[1])
        if value[0] != _direction(metric, size):
            raise ValueError(f"{metric}={str(value)[:40]} contradicts itself: {_how(metric)}")
    else:
        size = _size(metric, value)
    direction = _direction(metric, size)
    return direction, None if direction == SAME else size


def _size(metric, value):
    usable = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if METRICS[metric].is_ratio:
        usable = usable and 1 / LARGEST_FACTOR <= value <= LARGEST_FACTOR
    else:
        usable = usable and abs(value) <= LARGEST_POINTS
    if not usable:
        raise ValueError(
            f"{metric}={str(value)[:40]!r} is not allowed: give lower | higher | same, or a number: {_how(metric)}"
        )
    return float(value)


def _direction(metric, size):
    nothing = 1.0 if METRICS[metric].is_ratio else 0.0
    return LOWER if size < nothing else HIGHER if size > nothing else SAME


def _how(metric):
    if METRICS[metric].is_ratio:
        return "0.5 is half of the baseline's, 2 is twice as much."
    return "-1.5 is one and a half points lower than the baseline, 1.5 that much higher."


def _in_words(metric, size):
    if size is None:
        return retold(SAME)
    return f"× {size:.3g}" if METRICS[metric].is_ratio else say("{difference} points", difference=f"{size:+.3g}")


def _moment(text):
    try:
        moment = datetime.fromisoformat(text)
    except (ValueError, TypeError):
        return None
    return moment if moment.tzinfo else None


# Committing


class Prediction:
    """What the learner expects of a technique, a metric at a time: a small form where nothing is committed yet.

    metrics: names in ``speedkit.compare.METRICS``. case: tells two predictions of one technique and metric apart.
    ``guesses`` holds what is committed: metric -> :class:`Guess`. Show it as a cell's last line; a notebook that runs
    without anybody clicking goes on.

    Raises:
        ValueError: technique, a metric or the case is not allowed.
    """

    def __init__(self, technique: str, *metrics: str, case: str = ""):
        if not metrics:
            raise ValueError(f"Say of what, in a prediction about {str(technique)[:40]}: {' | '.join(METRICS)}.")
        self._blank = {metric: Guess(technique, metric, SAME, case=case) for metric in metrics}
        self.technique, self.metrics, self.case = technique, tuple(self._blank), case
        self.guesses: dict[str, Guess] = {}
        self.notes: list[str] = []
        self._handles = []
        for metric in self.metrics:
            self._recall(metric)

    def commit(self, metric: str, value) -> Guess:
        """Commits to a value as in :func:`predict`, unless there is a commitment already: that one stays.

        Raises:
            ValueError: the metric is not of this prediction, or the value is not allowed.
        """
        if metric not in self._blank:
            raise ValueError(f"metric={str(metric)[:40]!r} is not part of this prediction: {' | '.join(self.metrics)}.")
        direction, size = _read(metric, value)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        guess = replace(self._blank[metric], direction=direction, size=size, committed=now)
        self._recall(metric)  # another kernel may have been first
        kept = self.guesses.setdefault(metric, guess)
        if kept is guess:
            try:
                guess.save()
            except OSError as error:
                self._note(
                    say(
                        "{title}: kept until this kernel ends only, as it could not be stored: {error}",
                        title=_title(metric),
                        error=error,
                    )
                )
        elif (kept.direction, kept.size) != (direction, size):
            self._note(
                say("{title}: you had committed to “{kept}” before, and that stays.", title=_title(metric), kept=kept)
            )
        if len(self.guesses) == len(self.metrics):
            for handle in self._handles:
                handle.update(self._bundle(), raw=True)
        return kept

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
                say(
                    "{title}: no earlier prediction could be read, and its file is kept. {error}",
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
        """A sentence for each metric, then the notes."""
        said = []
        for metric in self.metrics:
            guess = self.guesses.get(metric)
            if guess is None:
                said.append(say("{what}: {text}", what=_title(metric), text=retold(NONE_MADE)))
                continue
            when = f"{_moment(guess.committed):%Y-%m-%d %H:%M}"
            said.append(say("{title}: {guess} (committed {when} UTC)", title=_title(metric), guess=guess, when=when))
        return [*said, *self.notes]

    def __repr__(self):
        return "\n".join(self.lines())

    def _repr_html_(self):
        return "".join(f"<div class='sk-predicted'>{html.escape(line)}</div>" for line in self.lines())

    def _bundle(self):
        return {"text/plain": repr(self), "text/html": self._repr_html_()}

    def _ipython_display_(self):
        """The form; once all is committed, an ordinary output that stays in the saved notebook."""
        if len(self.guesses) == len(self.metrics):
            display(self._bundle(), raw=True)
            return
        box = widgets.VBox([form.box for form in self.forms.values()])
        box.add_class("sk-prediction")
        mimebundle = box._repr_mimebundle_()
        bundle, metadata = mimebundle if isinstance(mimebundle, tuple) else (mimebundle, {})
        handle = display(bundle | {"text/plain": repr(self)}, metadata=metadata, raw=True, display_id=True)
        self._handles += [handle] if handle else []


class Form:
    """Direction, size and a Commit button for one metric; after that it only shows."""

    def __init__(self, prediction: Prediction, metric: str):
        self.prediction, self.metric = prediction, metric
        options = [(retold(direction), direction) for direction in DIRECTIONS]
        self.direction = widgets.ToggleButtons(options=options, value=None, style={"button_width": "80px"})
        common = {"style": {"description_width": "initial"}, "layout": {"width": "340px"}, "disabled": True}
        common["continuous_update"] = False  # values on their way would be overtaken by a click on Commit
        if METRICS[metric].is_ratio:
            # From 1.07 to 1,024 times; ten steps double it.
            self.size = widgets.FloatLogSlider(
                value=2.0, base=2, min=0.1, max=10, step=0.1, description=say("by a factor of"), **common
            )
        else:
            self.size = widgets.FloatSlider(
                value=1.0, min=0.1, max=50.0, step=0.1, description=say("by so many points"), **common
            )
        self.button = widgets.Button(description=say("Commit"), button_style="primary", disabled=True)
        self.line = widgets.HTML()
        self.box = widgets.VBox(
            [
                widgets.HTML(say("<b>{title}</b>, with the technique on:", title=html.escape(_title(metric)))),
                widgets.HBox([self.direction, self.size, self.button], layout={"flex_flow": "row wrap"}),
                self.line,
            ]
        )
        for name in ("direction", "size", "button", "line"):
            getattr(self, name).add_class(f"sk-predict-{name}")
        self.direction.observe(self._refresh, "value")
        self.size.observe(self._refresh, "value")
        self.button.on_click(self._commit)
        self._refresh()

    def _value(self):
        if self.direction.value == SAME:
            return SAME
        size = self.size.value
        if self.direction.value == LOWER:
            size = 1 / size if METRICS[self.metric].is_ratio else -size
        return self.direction.value, float(f"{size:.3g}")

    def _refresh(self, _=None):
        guess, chosen = self.prediction.guesses.get(self.metric), self.direction.value
        self.direction.disabled = guess is not None
        self.size.disabled = guess is not None or chosen in (None, SAME)
        self.button.disabled = guess is not None or chosen is None
        if guess is not None:
            text = say("Committed: {guess}.", guess=guess)
        elif chosen is None:
            text = say("Choose a direction, then a size, then commit: it cannot be changed afterwards.")
        else:
            direction, size = _read(self.metric, self._value())
            guess = replace(self.prediction._blank[self.metric], direction=direction, size=size)
            text = say("You are about to say: {guess}.", guess=guess)
        self.line.value = html.escape(" ".join([text, *self.prediction.notes]))

    def _commit(self, _=None):
        if self.metric not in self.prediction.guesses and self.direction.value is not None:
            self.button.disabled = True
            self.prediction.commit(self.metric, self._value())
        self._refresh()


def predict(technique: str, *, case: str = "", **expected) -> Prediction:
    """Commits to what a technique will do, before it is measured: ``predict("cache", step_s=0.5, reads="lower")``.

    expected: metrics of ``speedkit.compare.METRICS``, each with one of

    - a factor, variant / baseline: 0.5 is half of the baseline's, 2 twice as much (accuracy: points, -1.5 or 2),
    - ``"lower"``, ``"higher"`` or ``"same"`` (within a tenth; accuracy: half a point),
    - both, as ``("lower", 0.5)``, which guards against a slip,
    - ``...``: not predicted yet; the form is shown instead.

    Nothing is committed if any value is not allowed. A commitment that is there already stays.

    Raises:
        ValueError: technique, metric, case or a value is not allowed; the message says what is.
    """
    prediction = Prediction(technique, *expected, case=case)
    given = {metric: value for metric, value in expected.items() if value is not ... and value is not None}
    for metric, value in given.items():
        _read(metric, value)
    for metric, value in given.items():
        prediction.commit(metric, value)
    return prediction


def _title(metric):
    return retold(METRICS[metric].title)


# Scoring


class Score(NamedTuple):
    """``points`` out of ``of``, which is 0 where there is no score, and a sentence that says why."""

    points: int
    of: int
    sentence: str


def score(guess: Guess | None, comparison: Comparison) -> Score:
    """How far a guess agrees with what was measured; by the rules at the top of this module."""
    if guess is None:
        return Score(0, 0, say("No prediction was made."))
    row = comparison.row(guess.metric)
    if why := _unscored(guess, comparison, row):
        return Score(0, 0, say("No score: {why}.", why=why))
    effect, right = row.texts()[2], _direction_is_right(guess, row)
    if right is None:
        return Score(0, 0, say("No score: the runs scatter too much to tell."))
    of = 1 if guess.size is None else 2
    if not right:
        return Score(0, of, _gently(guess, row, effect))
    if guess.size is None:
        if guess.direction == SAME:
            return Score(1, of, say("The direction agrees."))
        return Score(1, of, say("The direction agrees. Next time, commit to a size, too."))
    if row.low <= guess.size <= row.high:
        return Score(2, of, say("The direction agrees, and the size lies inside the interval."))
    if _close(guess, row.effect):
        return Score(2, of, say("The direction agrees, and the size is right within a factor of two."))
    logs = METRICS[guess.metric].is_ratio
    said, found = (abs(math.log(value)) if logs else abs(value) for value in (guess.size, row.effect))
    if found > said:
        agrees = say(
            "The direction agrees. The effect was larger than you said: {effect}. What makes it so here?", effect=effect
        )
    else:
        agrees = say(
            "The direction agrees. The effect was smaller than you said: {effect}. What makes it so here?",
            effect=effect,
        )
    return Score(1, of, agrees)


def beside(prediction: Prediction, comparison: Comparison) -> Table:
    """A row for each metric: predicted, measured, interval, verdict, points, and a sentence on how they agree."""
    rows, points, of = [], 0, 0
    for metric in prediction.metrics:
        guess, row = prediction.guesses.get(metric), comparison.row(metric)
        result = score(guess, comparison)
        points, of = points + result.points, of + result.of
        got = say("{points} of {of}", points=result.points, of=result.of) if result.of else say("no score")
        verdict = retold(row.verdict)
        verdict = say("{what}: {text}", what=verdict, text=retold(row.why)) if row.why else verdict
        said = str(guess) if guess else retold(NONE_MADE)
        rows.append([retold(row.title), said, *row.texts()[2:], verdict, got, result.sentence])
    caption = say("A point for the direction; one for a size inside the interval or within a factor of two.")
    caption = f"{say('{points} of {of} points.', points=points, of=of)} {caption}" if of else caption
    heading = ["", say("predicted"), say("measured"), say("95 % interval"), say("verdict"), say("points")]
    heading.append(say("how they agree"))
    return Table(heading, rows, " ".join([caption, *prediction.notes]))


def _unscored(guess, comparison, row):
    before, after = (getattr(recipe, guess.technique) for recipe in (comparison.baseline, comparison.variant))
    if before == after or after == getattr(Recipe(), guess.technique):
        return say(
            "{technique} is {before} in the baseline and {after} in the variant",
            technique=guess.technique,
            before=repr(before),
            after=repr(after),
        )
    if row.verdict in (TOO_FEW, NOT_AVAILABLE):
        return f"{retold(row.verdict)}, {retold(row.why)}"
    late = too_late(guess, comparison)
    return say("the prediction was committed after the comparison had begun") if late else ""


def too_late(guess: Guess, comparison: Comparison) -> bool:
    """Whether a guess was committed after the comparison had begun."""
    committed, started = _moment(guess.committed), _moment(comparison.started)
    return bool(committed and started and committed > started)


def _direction_is_right(guess, row):
    """True, False, or None where the runs scatter too much to tell."""
    is_ratio = METRICS[guess.metric].is_ratio
    lowest, highest = (MATERIAL_RATIO, 1 / MATERIAL_RATIO) if is_ratio else (-MATERIAL_POINTS, MATERIAL_POINTS)
    detected = row.verdict != NO_DIFFERENCE
    if guess.direction == SAME:
        return True if lowest <= row.low and row.high <= highest else False if detected else None
    if detected:
        return row.verdict == guess.direction
    excluded = row.low > lowest if guess.direction == LOWER else row.high < highest
    within = guess.size is not None and row.low <= guess.size <= row.high
    return False if excluded and not within else None


def _close(guess, measured):
    def within_two(a, b):
        return a * b > 0 and 0.5 <= a / b <= 2

    if not METRICS[guess.metric].is_ratio:
        return within_two(guess.size, measured)
    return within_two(guess.size, measured) and within_two(math.log(guess.size), math.log(measured))


def _gently(guess, row, effect):
    if row.verdict == NO_DIFFERENCE:
        if METRICS[guess.metric].is_ratio:
            return say(
                "No difference was detected here, and one of a tenth that way is excluded. What stays as it was, and "
                "why?"
            )
        return say(
            "No difference was detected here, and one of half a point that way is excluded. What stays as it was, and "
            "why?"
        )
    if guess.direction == SAME:
        return say(
            "It did change here: {effect}. Which part of a step, or of the memory, does the technique touch?",
            effect=effect,
        )
    return say(
        "It went the other way here: {effect}. Such predictions teach the most: which cost was left out?", effect=effect
    )
